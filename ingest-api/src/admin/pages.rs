//! The size of a page of a list. Pure.

use crate::parameters::{ParameterError, whole_number};

/// Items on a page, unless the request says another number.
const LIMIT: u32 = 100;
const LIMIT_MAX: u32 = 1_000;

/// The value of the parameter `limit`.
///
/// # Errors
/// [`ParameterError::Invalid`] for anything but a whole number from 1 to 1000.
pub(super) fn size(limit: Option<&str>) -> Result<u32, ParameterError> {
    let invalid = ParameterError::Invalid { name: "limit", expected: "a whole number from 1 to 1000" };
    limit.map_or(Ok(LIMIT), |text| {
        whole_number(text).filter(|limit| (1..=LIMIT_MAX).contains(limit)).ok_or(invalid)
    })
}

/// Cuts a list that was asked for one item more than a page has. Returns the last item of the page when there
/// is another page.
pub(super) fn cut<T>(found: &mut Vec<T>, size: u32) -> Option<&T> {
    let has_more = found.len() > size as usize;
    found.truncate(size as usize);
    found.last().filter(|_| has_more)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_at_most_as_many_items_as_was_asked_and_says_whether_there_are_more() {
        assert_eq!([size(None), size(Some("1")), size(Some("1000"))], [Ok(100), Ok(1), Ok(1_000)]);
        for text in ["0", "1001", "-1", "x", ""] {
            assert!(size(Some(text)).is_err(), "{text:?}");
        }
        let mut found = vec![1, 2, 3];
        assert_eq!(cut(&mut found, 2), Some(&2));
        assert_eq!((cut(&mut found, 2), cut(&mut Vec::<u8>::new(), 2)), (None, None));
    }
}
