//! Events and bodies that are rejected, each with its code.

use millrace_event::dialect::{BodyError, native, read};
use millrace_event::event::RejectionCode;

use crate::bodies::*;

fn with_number(number: &str) -> String {
    format!(r#"{{"name":"n","properties":{{"a":{number}}}}}"#)
}

#[test]
fn an_invalid_event_is_rejected_alone() {
    let deep = format!("{}{}", r#"{"a":"#.repeat(65), "1".to_owned() + &"}".repeat(65));
    let bad = [
        ("5", "invalid_event"),
        ("{}", "missing_field"),
        (r#"{"name":""}"#, "invalid_length"),
        (r#"{"name":null}"#, "missing_field"),
        (r#"{"name":7}"#, "invalid_type"),
        (r#"{"name":"n","id":""}"#, "invalid_length"),
        (r#"{"name":"n","id":7}"#, "invalid_type"),
        (r#"{"name":"n","timestamp":"yesterday"}"#, "invalid_timestamp"),
        (r#"{"name":"n","timestamp":"2026-11-21T10:00:00"}"#, "invalid_timestamp"),
        (r#"{"name":"n","timestamp":1763718000}"#, "invalid_type"),
        (r#"{"name":"n","properties":[1]}"#, "invalid_type"),
        (r#"{"name":"n","extra":1}"#, "unknown_field"),
        (r#"{"name":"n","name":"m"}"#, "duplicate_field"),
        (r#"{"name":"n","properties":{"a":1e309}}"#, "invalid_number"),
        (r#"{"name":"n","properties":{"a":9e308}}"#, "invalid_number"),
        (r#"{"name":"n","properties":{"a":-1.7976931348623159e308}}"#, "invalid_number"),
        (r#"{"name":"n","properties":{"a":1e-401}}"#, "invalid_number"),
        (r#"{"name":"n","properties":{"a":0e401}}"#, "invalid_number"),
        (r#"{"name":"n","properties":{"a":1e400000}}"#, "invalid_number"),
        (r#"{"name":"n","properties":{"a":12345678901234567890123456789012345678901}}"#, "invalid_number"),
        (&with_number(&format!("1{}1", "0".repeat(39))), "invalid_number"),
        (&with_number(&format!("0.{}", "0".repeat(400))), "invalid_number"),
        (&with_number(&format!("1{}", "0".repeat(400))), "invalid_number"),
        (r#"{"name":"n","properties":{"a":"\ud800"}}"#, "invalid_string"),
        (r#"{"name":"n","properties":{"a":"\udc00 tail"}}"#, "invalid_string"),
        (r#"{"name":"n","properties":{"\udead":1}}"#, "invalid_string"),
        (r#"{"name":"\ud800\ud800"}"#, "invalid_string"),
        (&format!(r#"{{"name":"n","properties":{deep}}}"#), "too_deep"),
        (
            &format!(r#"{{"name":"n","properties":{{"a":{}1{}}}}}"#, "[".repeat(5_000), "]".repeat(5_000)),
            "too_deep",
        ),
    ];
    for (event, code) in bad {
        let good = r#"{"name":"good","properties":{"n":1}}"#;
        for body in [
            format!("[{good},{event},{good}]"),
            format!(r#"{{"x":[1],"events":[ {good}, {event} ,{good}]}}"#),
        ] {
            let batch = read_json(&body).unwrap_or_else(|error| panic!("{event}: {error:?}"));
            assert_eq!((batch.count, codes(&batch)), (2, vec![(1, code)]), "{event}");
        }
        let lines =
            read(&native::NDJSON, format!("{good}\n{event}\n{good}").as_bytes(), origin(), 9).unwrap();
        assert_eq!((lines.count, codes(&lines)), (2, vec![(1, code)]), "{event} as a line");
        match read_json(event) {
            Err(BodyError::NoValidEvent { rejected }) => {
                assert_eq!(rejected[0].code.as_ref(), code, "{event} alone")
            }
            Err(BodyError::InvalidJson { .. }) => assert_eq!(event, "5", "a bare number is no event"),
            other => panic!("{event} alone: {other:?}"),
        }
    }
}

#[test]
fn an_event_that_is_too_deep_is_rejected_alone_at_every_depth() {
    for depth in 60..80 {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let event = format!(r#"{{"name":"n","properties":{{"a":{nested}}}}}"#);
        let events = format!(r#"{event},{{"name":"\ud800"}},{{"name":"good"}}"#);
        for body in [format!("[{events}]"), format!(r#"{{"events":[{events}]}}"#)] {
            let batch = read_json(&body).unwrap_or_else(|error| panic!("depth {depth}: {error:?}"));
            let expected = if depth < 64 {
                vec![(1, "invalid_string")]
            } else {
                vec![(0, "too_deep"), (1, "invalid_string")]
            };
            assert_eq!(codes(&batch), expected, "depth {depth}");
        }
    }
}

#[test]
fn a_body_that_is_not_json_is_refused_as_a_whole() {
    for body in [
        &b""[..],
        b" ",
        b"{",
        b"[",
        b"[1,]",
        b"{\"name\":\"n\"",
        b"nul",
        b"[{\"name\":\"n\"}] x",
        b"\"text\"",
        b"7",
        b"{\"name\":}",
        b"[{\"name\":\"n\"},]",
        b"{'name':'n'}",
        b"{\"events\":{}}",
        b"{\"events\":null}",
        b"\xff\xfe",
        b"{\"name\":\"\xff\"}",
        b"{\"events\":[{\"name\":\"n\"}],\"x\":NaN}",
    ] {
        let shown = String::from_utf8_lossy(body);
        match read(&native::JSON, body, origin(), EVENTS_MAX) {
            Err(BodyError::InvalidJson { .. }) => {}
            other => panic!("{shown}: {other:?}"),
        }
    }
    assert_eq!(read_json("[]"), Err(BodyError::EmptyBatch));
    assert_eq!(read_json(r#"{"events":[]}"#), Err(BodyError::EmptyBatch));
    assert_eq!(read(&native::NDJSON, b"\n \n", origin(), 9), Err(BodyError::EmptyBatch));
}

#[test]
fn an_event_that_is_not_json_is_rejected_by_its_index_in_any_way_of_being_broken() {
    let deep = format!(r#"{{"name":"n","properties":{{"a":{}}}"#, "[".repeat(100_000));
    for (event, at) in [
        (&br#"{"name":"n","properties":{"a":01}}"#[..], 31),
        (br#"{"name":"n","properties":{"a":1e}}"#, 32),
        (br#"{"name":"n","properties":{"a":NaN}}"#, 30),
        (br#"{"name":"n","properties":{"a":undefined}}"#, 30),
        (br#"{"name":"n","properties":{"a":1,}}"#, 32),
        (br#"{"name":"n","properties":{"a":1]}"#, 31),
        (br#"{"name":"n","properties":{"a":1}"#, 32),
        (br#"{"name":"n","properties":{"a":1}}}"#, 33),
        (br#"{"name" "n"}"#, 8),
        (br#"{"name":"a"b"}"#, 11),
        (br#"{"name":"a"b"c"}"#, 11),
        (br#"{name:"a"}"#, 1),
        (br#"{"name":"n","properties":{"a":0x10}}"#, 31),
        (br#"{"name":"\x"}"#, 10),
        (br#"{"name":"\u12"}"#, 9),
        (b"{\"name\":\"\xff\"}", 9),
        (b"{\"name\":\"\xed\xa0\x80\"}", 9),
        (b"{", 1),
        (b"", 0),
    ] {
        let shown = String::from_utf8_lossy(event);
        let good = &br#"{"name":"good","properties":{"n":"],[{}"}}"#[..];
        let list = [good, event, good].join(&b", "[..]);
        for body in [[b"[", &list[..], b"]"].concat(), [b"{\"events\":[", &list[..], b"]}"].concat()] {
            let batch = read(&native::JSON, &body, origin(), EVENTS_MAX)
                .unwrap_or_else(|error| panic!("{shown}: {error:?}"));
            assert_eq!((batch.count, codes(&batch)), (2, vec![(1, "invalid_json")]), "{shown}");
            let message = &batch.rejected[0].message;
            assert!(
                message.starts_with(&format!("the event is not valid JSON at byte {at}: ")),
                "{shown}: {message}"
            );
        }
    }
    for event in [&b"{\"name\":\"a\tb\"}"[..], deep.as_bytes()] {
        let body = [b"[{\"name\":\"good\"},", event, b",{\"name\":\"good\"}]"].concat();
        let batch = read(&native::JSON, &body, origin(), EVENTS_MAX).unwrap();
        assert_eq!((batch.count, batch.rejected[0].index), (2, 1));
    }
}

#[test]
fn a_batch_over_the_limit_is_refused_before_its_events_are_read() {
    let body = format!("[{}]", ["{}"; 11].join(","));
    let refused = Err(BodyError::TooManyEvents { found: 11, max: 10 });
    assert_eq!(read(&native::JSON, body.as_bytes(), origin(), 10), refused);
    let lines = "{}\n".repeat(11);
    assert_eq!(read(&native::NDJSON, lines.as_bytes(), origin(), 10), refused);
    let with_culprit = format!(r#"["\ud800",{}]"#, ["{}"; 10].join(","));
    assert_eq!(read(&native::JSON, with_culprit.as_bytes(), origin(), 10), refused);
}

#[test]
fn a_body_with_two_envelopes_is_refused() {
    for body in
        [r#"{"events":[{"name":"a"}],"events":[{"name":"b"}]}"#, r#"{"events":[],"events":[{"name":"b"}]}"#]
    {
        assert!(matches!(read_json(body), Err(BodyError::InvalidJson { .. })), "{body}");
    }
}

#[test]
fn numbers_that_expand_too_much_in_total_are_rejected() {
    let event = |count: usize| with_number(&format!("[{}]", vec!["1e-400"; count].join(",")));
    assert_eq!(read_json(&event(2_500)).unwrap().count, 1);
    let refused = read_json(&event(2_501));
    assert!(
        matches!(&refused, Err(BodyError::NoValidEvent { rejected }) if rejected[0].code == RejectionCode::InvalidNumber),
        "{refused:?}"
    );
}

#[test]
fn each_rejection_code_is_written_in_snake_case() {
    use strum::VariantNames;
    let written = serde_json::to_string(&RejectionCode::InvalidTimestamp).unwrap();
    assert_eq!(written, r#""invalid_timestamp""#);
    assert!(RejectionCode::VARIANTS.contains(&"invalid_timestamp"));
    assert_eq!(RejectionCode::InvalidTimestamp.to_string(), "invalid_timestamp");
}

#[test]
fn a_body_that_is_not_json_is_refused_with_the_offset_of_the_first_wrong_byte() {
    for (body, expected) in [
        ("", "byte 0: unexpected end"),
        ("{", "byte 1: unexpected end"),
        (r#"{"name":"a""#, "byte 11: unexpected end"),
        (r#"{"events":[{"name":"a"}"#, "byte 23: unexpected end"),
        (r#"{"name":"a"}}"#, "byte 12: an unexpected character"),
        (r#"{"name":"a",}"#, "byte 12: an unexpected character"),
        ("{\n  \"name\": \"a\",\n  'id': 1}", "byte 19: an unexpected character"),
    ] {
        let Err(BodyError::InvalidJson { message }) = read_json(body) else { panic!("{body} is accepted") };
        assert_eq!(message, format!("the body is not valid JSON at {expected}"), "{body}");
    }
}
