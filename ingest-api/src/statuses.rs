//! The statuses of answers, in numbers and as the values of a metric's label. Computed from the problem codes
//! when the crate is compiled.

use crate::problem_code::ProblemCode;

/// Statuses of answers without a problem code. No route answers 500. It is listed so that its series begins
/// at 0, as alerts require.
const OTHER_STATUSES: [u16; 5] = [200, 201, 202, 204, 500];
/// How many statuses an answer can have.
const STATUS_COUNT: usize = {
    let mut count = 0;
    let mut status = 100;
    while status < 600 {
        count += is_answered(status) as usize;
        status += 1;
    }
    count
};
/// Every status that an answer can have, in ascending order.
pub static STATUSES: [u16; STATUS_COUNT] = {
    let mut statuses = [0; STATUS_COUNT];
    let mut found = 0;
    let mut status = 100;
    while found < STATUS_COUNT {
        if is_answered(status) {
            statuses[found] = status;
            found += 1;
        }
        status += 1;
    }
    statuses
};
/// [`STATUSES`] as the values of a metric's label.
pub static STATUS_LABELS: [&str; STATUS_COUNT] = {
    let mut labels = [""; STATUS_COUNT];
    let mut index = 0;
    while index < STATUS_COUNT {
        labels[index] = match std::str::from_utf8(&STATUS_DIGITS[index]) {
            Ok(label) => label,
            Err(_) => panic!("digits are UTF-8"),
        };
        index += 1;
    }
    labels
};
static STATUS_DIGITS: [[u8; 3]; STATUS_COUNT] = {
    let mut digits = [[0; 3]; STATUS_COUNT];
    let mut index = 0;
    while index < STATUS_COUNT {
        let status = STATUSES[index];
        digits[index] = [digit(status / 100), digit(status / 10), digit(status)];
        index += 1;
    }
    digits
};

/// The last decimal digit of a number, in ASCII.
const fn digit(number: u16) -> u8 {
    b'0' + (number % 10) as u8
}

const fn is_answered(status: u16) -> bool {
    let mut index = 0;
    while index < OTHER_STATUSES.len() {
        if OTHER_STATUSES[index] == status {
            return true;
        }
        index += 1;
    }
    index = 0;
    while index < ProblemCode::ALL.len() {
        if ProblemCode::ALL[index].status().as_u16() == status {
            return true;
        }
        index += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_labels_are_the_statuses_in_ascending_order() {
        let labels = STATUSES.map(|status| status.to_string());
        assert_eq!(labels.each_ref().map(String::as_str), STATUS_LABELS);
        assert!(STATUSES.is_sorted());
        assert!(ProblemCode::ALL.iter().all(|code| STATUSES.contains(&code.status().as_u16())));
    }
}
