//! Numbers as text.

use crate::results::LatencySummary;

/// Rounded to an integer, with a comma between groups of three digits.
pub fn whole(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// With three significant digits for values below 1,000, and two for values below 1.
pub fn short(value: f64) -> String {
    match value {
        _ if value >= 100.0 => whole(value),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A rounded integer, or "-".
pub fn optional(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), whole)
}

/// `ms`, a value of this summary, or "-" when the summary is empty.
pub fn latency(summary: LatencySummary, ms: f64) -> String {
    if summary.count == 0 { "-".to_owned() } else { short(ms) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_thousands_separators_and_about_three_digits() {
        assert_eq!([whole(0.0), whole(999.6), whole(1_234_567.0)], ["0", "1,000", "1,234,567"]);
        assert_eq!([short(0.123), short(12.34), short(1_234.5)], ["0.12", "12.3", "1,234"]);
    }
}
