//! The pairs of a query whose parameters may be repeated. Pure.

use percent_encoding::percent_decode_str;

/// A parameter. In its value, a plus is a blank, as in a form (URL standard,
/// "application/x-www-form-urlencoded parsing"): libraries of clients write blanks so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pair {
    pub(super) name: String,
    /// `None` without an equals sign.
    pub(super) value: Option<String>,
}

impl Pair {
    /// The value; empty without an equals sign.
    pub(super) fn text(&self) -> &str {
        self.value.as_deref().unwrap_or_default()
    }

    /// The value of a time, in which a blank that was a plus is the sign of an offset.
    pub(super) fn time(&self) -> String {
        let is_offset = |text: &str| text.len() == 5 && text.as_bytes()[2] == b':';
        match self.text().rsplit_once(' ') {
            Some((local, offset)) if is_offset(offset) => format!("{local}+{offset}"),
            _ => self.text().to_owned(),
        }
    }

    /// The name within the brackets of `list[name]`.
    pub(super) fn member_of(&self, list: &str) -> Option<&str> {
        self.name.strip_prefix(list)?.strip_prefix('[')?.strip_suffix(']')
    }
}

/// The pairs of a query, in their order.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = Pair> + '_ {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| match pair.split_once('=') {
        Some((name, value)) => Pair { name: decoded(name), value: Some(decoded(value)) },
        None => Pair { name: decoded(pair), value: None },
    })
}

fn decoded(text: &str) -> String {
    percent_decode_str(&text.replace('+', "%20")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_decoded_as_those_of_a_form() {
        let read: Vec<_> =
            pairs("a=b+c%2B&&filter%5Bmodel%5D=&filter[x]&to=2026-01-01T00:00:00+01:00").collect();
        let shown: Vec<_> = read.iter().map(|pair| (pair.name.as_str(), pair.value.as_deref())).collect();
        assert_eq!(
            shown,
            [
                ("a", Some("b c+")),
                ("filter[model]", Some("")),
                ("filter[x]", None),
                ("to", Some("2026-01-01T00:00:00 01:00"))
            ]
        );
        assert_eq!(read[1].member_of("filter"), Some("model"));
        assert_eq!((read[0].member_of("filter"), read[3].member_of("t")), (None, None));
        assert_eq!(read[3].time(), "2026-01-01T00:00:00+01:00");
        assert_eq!(read[0].time(), "b c+");
    }
}
