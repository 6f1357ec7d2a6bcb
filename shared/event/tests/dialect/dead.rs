//! Calls of SDKs that no event can be made of: each is a row of its batch with its text and its reason.

use millrace_event::dialect::{BodyError, Dialect, read, segment};
use millrace_event::event::{Batch, Origin};
use millrace_event::key::hash_key;
use millrace_event::row;
use millrace_event::undeliverable::{CALL_BYTES_MAX, UndeliverableCall};

use crate::bodies::*;

const GOOD: &str = r#"{"type":"track","event":"good","userId":"u","messageId":"good"}"#;

fn read_segment(dialect: &Dialect, body: impl AsRef<[u8]>) -> Batch {
    let shown = String::from_utf8_lossy(body.as_ref()).chars().take(200).collect::<String>();
    read(dialect, body.as_ref(), origin(), EVENTS_MAX).unwrap_or_else(|error| panic!("{shown}: {error:?}"))
}

/// Code, message and text of the dead calls of a batch.
fn dead_calls(batch: &Batch) -> Vec<(String, String, Vec<u8>)> {
    let rows = row::split(&batch.rows).map(Result::unwrap);
    let dead: Vec<_> = rows
        .filter_map(UndeliverableCall::read)
        .map(|call| (call.code.to_owned(), call.message.to_owned(), call.call.to_vec()))
        .collect();
    assert_eq!(dead.len(), batch.dead.len(), "each dead call of the answer has its row");
    dead
}

#[test]
fn a_call_that_cannot_be_repaired_is_dead_with_its_text_and_its_neighbors_are_stored() {
    let deep = |levels: usize| {
        let nested = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        format!(r#"{{"type":"track","event":"e","userId":"u","properties":{{"a":{nested}}}}}"#)
    };
    let digits = "1".repeat(41);
    let calls: Vec<(Vec<u8>, &str, &str)> = vec![
        (br#"{"type":"tarck","event":"e","userId":"u"}"#.into(), "invalid_type", "type must be one of"),
        (br#"{"event":"e","userId":"u"}"#.into(), "invalid_type", "type must be one of"),
        (br#"{"type":"track","userId":"u"}"#.into(), "missing_field", "event is required"),
        (br#"{"type":"track","event":null}"#.into(), "missing_field", "event is required"),
        (br#"{"type":"track","event":""}"#.into(), "invalid_length", "event must have 1 to 200"),
        (br#"{"type":"track","event":{}}"#.into(), "invalid_type", "event must be a string"),
        (br#"{"type":"track","event":"e","properties":[1]}"#.into(), "invalid_type", "properties must be an object"),
        (br#"{"type":"track","event":"e","properties":"x"}"#.into(), "invalid_type", "properties must be an object"),
        (br#"{"type":"identify","traits":7}"#.into(), "invalid_type", "traits must be an object"),
        (br#"{"type":"track","event":"e","properties":{"a":1e400}}"#.into(), "invalid_number", "a number"),
        (br#"{"type":"page","context":{"a":"#.iter().chain(digits.as_bytes()).chain(b"}}").copied().collect(),
         "invalid_number", "context: a number"),
        (br#"{"type":"track","event":"e","properties":{"a":undefined}}"#.into(), "invalid_json", "byte 46"),
        (br#"{"type":"track","event":"e","properties":{"a":1,}}"#.into(), "invalid_json", "not valid JSON"),
        (br#"{"type":"track","event":"e","properties":{"a":1]}"#.into(), "invalid_json", "not valid JSON"),
        (br#"{"type":"track","event":"e"},"userId":"u"}"#.into(), "invalid_json", "not valid JSON"),
        (br#"{"type":"track","event" "e"}"#.into(), "invalid_json", "not valid JSON"),
        (br#"{"type":"track","event":"a"b"}"#.into(), "invalid_json", "not valid JSON"),
        (br#"{"type":"track","event":"\x"}"#.into(), "invalid_json", "not valid JSON"),
        (b"\xFF\xFE".into(), "invalid_json", "not valid JSON"),
        (b"".into(), "invalid_json", "not valid JSON"),
        (b"5".into(), "invalid_event", "must be an object, not a number"),
        (b"null".into(), "invalid_event", "must be an object, not null"),
        (b"[{}]".into(), "invalid_event", "must be an object, not an array"),
        (deep(80).into(), "too_deep", "deeper than 64"),
        (deep(10_000).into(), "too_deep", "deeper than 64"),
    ];
    for (call, code, message) in calls {
        let shown = String::from_utf8_lossy(&call[..call.len().min(200)]).into_owned();
        let good = GOOD.as_bytes();
        let body = [b"{\"batch\":[", good, b",", &call, b",", good, b"]}"].concat();
        let batch = read_segment(&segment::BATCH, &body);
        assert_eq!((batch.count, &batch.rejected[..]), (3, &[][..]), "{shown}");
        assert_eq!(dead_codes(&batch), [(1, code)], "{shown}");
        let dead = dead_calls(&batch);
        assert_eq!((dead[0].0.as_str(), &dead[0].2), (code, &call), "{shown}");
        assert!(dead[0].1.contains(message), "{shown}: {}", dead[0].1);
        let alone = read_segment(&segment::BATCH, [b"{\"batch\":[", &call[..], b",]}"].concat());
        assert_eq!((alone.count, dead_codes(&alone)), (1, vec![(0, code)]), "{shown} without a good call");
    }
}

#[test]
fn a_single_call_that_cannot_be_repaired_is_dead() {
    for (body, code) in [
        (&br#"{"userId":"u"}"#[..], "missing_field"),
        (br#"{"event":"e","properties":{"a":1e400}}"#, "invalid_number"),
        (br#"{"event":"e","properties":{"a":undefined}}"#, "invalid_json"),
        (br#"{"event":"e","properties":{"a":[[}}"#, "invalid_json"),
    ] {
        let batch = read_segment(&segment::TRACK, body);
        assert_eq!((batch.count, dead_codes(&batch)), (1, vec![(0, code)]));
        assert_eq!(dead_calls(&batch)[0].2, body);
    }
    let repaired = read_segment(&segment::TRACK, br#"{"event":"e","properties":{"a":NaN,"b":"\ud83d"}}"#);
    assert_eq!((repaired.count, repaired.dead.len()), (1, 0));
    for whole in [&b"garbage"[..], b"", b"[1]", b"7", br#"{"event":"e""#, br#"{"event":"e"}}"#] {
        let refused = read(&segment::TRACK, whole, origin(), EVENTS_MAX);
        assert!(matches!(refused, Err(BodyError::InvalidJson { .. })), "{refused:?}");
    }
}

#[test]
fn the_text_of_a_dead_call_is_bounded_and_has_no_key() {
    let long = format!(r#"{{"type":"tarck","x":"{}"}}"#, "x".repeat(CALL_BYTES_MAX));
    let batch = read_segment(&segment::BATCH, format!(r#"{{"batch":[{long}]}}"#));
    assert_eq!(dead_calls(&batch)[0].2, &long.as_bytes()[..CALL_BYTES_MAX]);
    for key in [r#""writeKey":"SECRET""#, r#""write\u004bey" : "SE\"CRET""#, r#""writeKey":"SECRET"#] {
        for body in [format!(r#"{{{key}","userId":"u"}}"#), format!(r#"{{"userId":"u",{key}}}"#)] {
            let Ok(batch) = read(&segment::TRACK, body.as_bytes(), origin(), EVENTS_MAX) else { continue };
            let text = String::from_utf8(dead_calls(&batch)[0].2.clone()).unwrap();
            assert!(!text.contains("CRET") && text.contains(r#""userId":"u""#), "{text}");
        }
    }
}

#[test]
fn the_text_of_a_dead_call_has_no_key_of_its_sender_wherever_it_is() {
    let (chosen, generated) = ("a-key-that-was-chosen", millrace_event::key::random_key());
    let sender = Origin { key_hash: Some(hash_key(chosen)), ..origin() };
    let call =
        format!(r#"{{"type":"trakc","x":{{"k":"{chosen}"}},"auth":"Bearer {generated}","userId":"u"}}"#);
    for body in [format!(r#"{{"batch":[{call}]}}"#), format!(r#"{{"batch":[{call}, NaN x]}}"#)] {
        let batch = read(&segment::BATCH, body.as_bytes(), sender, EVENTS_MAX).unwrap();
        let text = String::from_utf8(dead_calls(&batch)[0].2.clone()).unwrap();
        assert!(!text.contains(chosen) && !text.contains(&generated), "{text}");
        assert!(text.contains(r#""userId":"u""#) && text.len() == call.len(), "{text}");
    }
}

#[test]
fn a_body_whose_outside_is_broken_is_refused_as_a_whole() {
    for body in [
        format!(r#"{{"batch":[{GOOD}]"#),
        format!(r#"{{"batch":[{GOOD}"#),
        format!(r#"{{"batch":[{GOOD}]}} x"#),
        format!(r#"{{"batch":[{GOOD}],"x":undefined}}"#),
        format!(r#"{{"batch":[{GOOD}],"x":1e400}}"#),
        format!(r#"{{"batch":[{GOOD}],"x" 1}}"#),
        format!(r#"{{"batch":[{GOOD}],}}"#),
        format!(r#"{{"batch":[{GOOD}],"x":NaN,"batch":[]}}"#),
        r#"{"batch":{"a":NaN}}"#.to_owned(),
        r#"{"other":NaN}"#.to_owned(),
        format!(r#"[{GOOD},NaN]"#),
    ] {
        let refused = read(&segment::BATCH, body.as_bytes(), origin(), EVENTS_MAX);
        assert!(matches!(refused, Err(BodyError::InvalidJson { .. })), "{body}: {refused:?}");
    }
    let refused = read(&segment::BATCH, br#"{"batch":[{"a":NaN}],"x":[1,]}"#, origin(), EVENTS_MAX);
    let message = "the body is not valid JSON at byte 28: an unexpected character";
    assert_eq!(refused, Err(BodyError::InvalidJson { message: message.to_owned() }), "not that of the call");
}

#[test]
fn fields_that_all_calls_share_cannot_make_a_batch_larger_than_an_entry() {
    let body =
        format!(r#"{{"context":{{"a":"{}"}},"batch":[{}]}}"#, "x".repeat(1 << 20), vec![GOOD; 100].join(","));
    let refused = read(&segment::BATCH, body.as_bytes(), origin(), EVENTS_MAX);
    assert_eq!(refused, Err(BodyError::RowsTooLarge { max: 64 << 20 }));
}

#[test]
fn the_key_is_found_in_any_body_that_the_key_in_the_head_would_be_read_with() {
    let deep = "[".repeat(100_000);
    let many = format!(r#"{{"batch":[{}],"writeKey":"K"}}"#, vec!["1"; 1_000_000].join(","));
    for body in [
        br#"{"writeKey":"K","batch":[{"t":"\ud83d"}]}"#.to_vec(),
        br#"{"batch":[{"t":NaN},{"t":1e400}],"writeKey":"K"}"#.to_vec(),
        br#"{"batch":[{"t":undefined,}],"write\u004bey":"\u004b"}"#.to_vec(),
        b"{\"batch\":[{\"t\":\"\xFF\t\"}],\"x\":\xFF,\"writeKey\" : \"K\"}".to_vec(),
        format!(r#"{{"batch":[{{"t":{deep}}}],"writeKey":"K"}}"#).into_bytes(),
        format!("{{\"writeKey\":\"K\",\"t\":{deep}").into_bytes(),
        many.into_bytes(),
        br#"{"writeKey":"other","x":{"writeKey":"inner"},"writeKey":"K"}"#.to_vec(),
        br#"{"batch":[{"t":"a"b"}],"writeKey":"K"}"#.to_vec(),
        br#"{"batch":[{"t":1]}],"writeKey":"K"}"#.to_vec(),
        br#"{"writeKey":"K","batch":[{"t":1}"#.to_vec(),
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(100)]);
        assert_eq!(segment::BATCH.find_key(&body).as_deref(), Some("K"), "{shown}");
    }
    for body in [
        &br#"{"batch":[{"writeKey":"K"}]}"#[..],
        br#"{"writeKey":"K","writeKey":7}"#,
        br#"["writeKey","K"]"#,
        b"\"writeKey\"",
        b"{",
    ] {
        assert_eq!(segment::BATCH.find_key(body), None, "{}", String::from_utf8_lossy(body));
    }
}
