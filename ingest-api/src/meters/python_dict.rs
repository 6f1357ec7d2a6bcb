//! A `dict` of texts as Python prints it: OpenMeter's SDK for Python sends `filterGroupBy` so. Pure.

use std::iter::Peekable;
use std::str::Chars;

/// The pairs of `{'model': 'gpt-4', 'region': 'eu'}`. `None` for any other text.
pub(super) fn read(text: &str) -> Option<Vec<(String, String)>> {
    let mut rest = text.strip_prefix('{')?.strip_suffix('}')?.chars().peekable();
    let mut pairs = Vec::new();
    while rest.peek().is_some() {
        if !pairs.is_empty() {
            expect(&mut rest, ", ")?;
        }
        let name = string(&mut rest)?;
        expect(&mut rest, ": ")?;
        pairs.push((name, string(&mut rest)?));
    }
    Some(pairs)
}

fn expect(rest: &mut Peekable<Chars<'_>>, text: &str) -> Option<()> {
    text.chars().all(|expected| rest.next() == Some(expected)).then_some(())
}

/// A text in either kind of quotes. Of escapes, only those of a quote and of a backslash are read: the SDK
/// needs no others for usual names and values.
fn string(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    let quote = rest.next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let mut text = String::new();
    loop {
        match rest.next()? {
            '\\' => text.push(rest.next().filter(|escaped| matches!(escaped, '\'' | '"' | '\\'))?),
            end if end == quote => return Some(text),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dict_of_texts_is_read_as_python_prints_it() {
        let pairs = |text| read(text).map(|pairs| format!("{pairs:?}"));
        assert_eq!(pairs("{}").as_deref(), Some("[]"));
        assert_eq!(pairs("{'model': 'gpt-4'}").as_deref(), Some(r#"[("model", "gpt-4")]"#));
        let two = r#"{'a': "it's", 'b': 'x\\y'}"#;
        assert_eq!(pairs(two).as_deref(), Some(r#"[("a", "it's"), ("b", "x\\y")]"#));
        for other in
            ["", "model", "{'a'}", "{'a': 1}", "{'a': 'b'", "{'a': 'b' }", r"{'a': '\n'}", "{'a': 'b',}"]
        {
            assert_eq!(pairs(other), None, "{other}");
        }
    }
}
