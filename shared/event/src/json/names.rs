//! Removes members whose name appears again later in the same object. jsonb keeps the last of equal names by
//! itself; a store that keeps JSON as text uses this to store the same.
//!
//! The text is read once without being parsed: it was checked when it was accepted. Text that is not JSON is
//! returned unchanged.

use std::borrow::Cow;
use std::ops::Range;

use super::scan::unescaped;

/// An object with more members than this is sorted instead of compared pair by pair.
const COMPARED_MAX: usize = 16;

/// The JSON with the last of equal names only, in every object; names are compared unescaped. The order is
/// otherwise kept. Without such members, nothing is copied.
pub fn with_last_of_equal_names(json: &[u8]) -> Cow<'_, [u8]> {
    let mut removed = removed_members(json).unwrap_or_default();
    if removed.is_empty() {
        return Cow::Borrowed(json);
    }
    // Inner objects were closed, and listed, before the objects around them.
    removed.sort_unstable_by_key(|range| range.start);
    let mut out = Vec::with_capacity(json.len());
    let mut copied = 0;
    for Range { start, end } in removed {
        // A range inside of another removed one has nothing more to remove.
        if start >= copied {
            out.extend_from_slice(&json[copied..start]);
        }
        copied = copied.max(end);
    }
    out.extend_from_slice(&json[copied..]);
    Cow::Owned(out)
}

/// The ranges of all members to remove, each from its name to the name after it. `None` when this is not
/// JSON.
fn removed_members(json: &[u8]) -> Option<Vec<Range<usize>>> {
    let mut removed = Vec::new();
    // The names of all open objects, with their quotes; those of one object are together.
    let mut names: Vec<Range<usize>> = Vec::new();
    // Of each open container: whether it is an object, and where its names begin.
    let mut open: Vec<(bool, usize)> = Vec::new();
    let mut is_name_next = false;
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => {
                let end = string_end(json, at)?;
                if is_name_next {
                    names.push(at..end);
                    is_name_next = false;
                }
                at = end;
                continue;
            }
            b'{' | b'[' => {
                is_name_next = byte == b'{';
                open.push((byte == b'{', names.len()));
            }
            b'}' | b']' => {
                let (is_object, first) = open.pop()?;
                if is_object {
                    remove_equal(json, &names[first..], &mut removed);
                    names.truncate(first);
                }
                is_name_next = false;
            }
            b',' => is_name_next = open.last()?.0,
            _ => {}
        }
        at += 1;
    }
    Some(removed)
}

fn string_end(json: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', json.get(at..)?)?;
        if json[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Lists all but the last of equal names of one object.
fn remove_equal(json: &[u8], names: &[Range<usize>], removed: &mut Vec<Range<usize>>) {
    let raw = |index: usize| &json[names[index].clone()];
    let to_next = |index: usize| names[index].start..names[index + 1].start;
    let has_escape = names.iter().any(|name| json[name.clone()].contains(&b'\\'));
    if names.len() <= COMPARED_MAX && !has_escape {
        let is_repeated = |index: usize| (index + 1..names.len()).any(|later| raw(later) == raw(index));
        removed.extend((0..names.len()).filter(|index| is_repeated(*index)).map(to_next));
        return;
    }
    let text = |index: usize| match raw(index).contains(&b'\\') {
        true => unescaped(raw(index))
            .map_or(Cow::Borrowed(raw(index)), |name| Cow::Owned([b"\"", name.as_bytes(), b"\""].concat())),
        false => Cow::Borrowed(raw(index)),
    };
    let mut sorted: Vec<_> = (0..names.len()).map(|index| (text(index), index)).collect();
    sorted.sort_unstable();
    let repeated = sorted.windows(2).filter(|pair| pair[0].0 == pair[1].0).map(|pair| pair[0].1);
    removed.extend(repeated.map(to_next));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_of_equal_names_is_kept_in_every_object() {
        for (json, expected) in [
            (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
            (r#"{ "a" : 1 , "b":"a" , "a":{"a":[{"x":1,"x":2}]} }"#, r#"{ "b":"a" , "a":{"a":[{"x":2}]} }"#),
            (r#"{"a":{"b":1,"b":2},"a":{"c":3,"c":"},{\"c\":4"}}"#, r#"{"a":{"c":"},{\"c\":4"}}"#),
            (r#"{"a":1,"\u0061":2,"c":3}"#, r#"{"\u0061":2,"c":3}"#),
            (r#"{"a":1,"a":2,"a":3,"b":4,"b":5}"#, r#"{"a":3,"b":5}"#),
            (r#"{"a":["a","a",{"a":1}],"b":{}}"#, r#"{"a":["a","a",{"a":1}],"b":{}}"#),
            ("{}", "{}"),
            ("{\"a\":1", "{\"a\":1"),
            ("}{", "}{"),
            ("\"", "\""),
        ] {
            assert_eq!(String::from_utf8_lossy(&with_last_of_equal_names(json.as_bytes())), expected);
        }
        assert!(matches!(with_last_of_equal_names(br#"{"a":{"a":1}}"#), Cow::Borrowed(_)));
    }

    #[test]
    fn many_equal_names_cost_no_more_than_sorting() {
        let many = format!("{{{}\"b\":0}}", r#""a":1,"#.repeat(200_000));
        assert_eq!(*with_last_of_equal_names(many.as_bytes()), *br#"{"a":1,"b":0}"#);
    }

    proptest! {
        /// serde_json, as jsonb, keeps the last of equal names.
        #[test]
        fn the_meaning_is_that_of_jsonb(json in any_object()) {
            let meaning = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap();
            let resolved = with_last_of_equal_names(json.as_bytes());
            prop_assert_eq!(meaning(&resolved), meaning(json.as_bytes()));
            prop_assert_eq!(&with_last_of_equal_names(&resolved), &resolved, "nothing is left to remove");
        }

        #[test]
        fn no_bytes_make_it_panic(json in r#"([\[\]{}:,"\\ab]|\\u00){0,40}"#) {
            with_last_of_equal_names(json.as_bytes());
        }
    }

    /// Objects with few different names, some of them escaped.
    fn any_object() -> impl Strategy<Value = String> {
        let name = prop_oneof![
            Just("a"),
            Just("b"),
            Just("\\u0061"),
            Just("a\\\\"),
            Just("é"),
            Just("\\u00e9"),
            Just("")
        ];
        let leaf = prop_oneof![Just("1".to_owned()), Just(r#""}{\",:""#.to_owned()), Just("null".to_owned())];
        leaf.prop_recursive(4, 64, 24, move |inner| {
            let members = proptest::collection::vec((name.clone(), inner.clone()), 0..24);
            prop_oneof![
                members.prop_map(|members| {
                    let members: Vec<_> =
                        members.iter().map(|(name, value)| format!("\"{name}\" : {value}")).collect();
                    format!("{{{}}}", members.join(" ,"))
                }),
                proptest::collection::vec(inner, 0..4).prop_map(|all| format!("[{}]", all.join(","))),
            ]
        })
    }
}
