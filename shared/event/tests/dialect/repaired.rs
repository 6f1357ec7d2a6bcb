//! Calls of SDKs that are repaired, each with the columns that it reaches. Next to each is a good call, which
//! nothing may change.

use millrace_event::dialect::{read, segment};
use millrace_event::event::uuid_of_client_id;
use millrace_event::row::{self, EventTime};
use serde_json::{Value, json};

use crate::bodies::*;

/// 2026-11-20T10:00:00Z
const AT: EventTime = EventTime::At(1_795_168_800_000_000);
const GOOD: &str = r#"{"type":"track","event":"good","userId":"u","messageId":"good"}"#;

/// The row of a call that is sent between two good calls.
fn row_between_good(call: &[u8]) -> Vec<u8> {
    let good = GOOD.as_bytes();
    let body = [b"{\"batch\":[", good, b",", call, b",", good, b"],\"sentAt\":\"x\"}"].concat();
    let shown = String::from_utf8_lossy(call);
    let batch =
        read(&segment::BATCH, &body, origin(), EVENTS_MAX).unwrap_or_else(|e| panic!("{shown}: {e:?}"));
    assert_eq!((batch.count, &batch.rejected[..], &batch.dead[..]), (3, &[][..], &[][..]), "{shown}");
    let rows: Vec<_> = row::split(&batch.rows).map(Result::unwrap).collect();
    assert_eq!(rows[0], rows[2], "{shown}");
    assert_eq!((texts(rows[0])[0].as_deref(), texts(rows[0])[1].as_deref()), (Some("good"), Some("u")));
    rows[1].to_vec()
}

fn json_of(row: &[u8], column: usize) -> Value {
    let text = texts(row)[column].clone().unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn properties(row: &[u8]) -> Value {
    json_of(row, 3)
}

/// What has no column.
fn rest(row: &[u8]) -> Value {
    json_of(row, 4)["segment"].clone()
}

/// A track call with one more member.
fn track(member: &str) -> Vec<u8> {
    row_between_good(format!(r#"{{"type":"track","event":"e","userId":"u",{member}}}"#).as_bytes())
}

#[test]
fn a_time_in_any_spelling_of_an_sdk_is_the_time_of_the_event() {
    for spelling in [
        r#""2026-11-20T10:00:00.000:Z""#,
        r#""2026-11-20T10:00:00.000000""#,
        r#""2026-11-20T10:00Z""#,
        r#""2026-11-20T10:00:00+0000""#,
        r#""2026-11-20T10:00:00,000Z""#,
        r#""2026-11-20 10:00:00Z""#,
        r#""2026-11-20T15:30:00+05:30""#,
        r#""1795168800""#,
        r#""1795168800000""#,
        "1795168800",
        "1795168800.0",
        "1795168800000",
        "1795168800000000",
    ] {
        let row = track(&format!(r#""timestamp":{spelling},"messageId":"m""#));
        assert_eq!(row::time(&row), AT, "{spelling}");
        assert!(rest(&row).get("timestamp").is_none(), "{spelling}");
    }
}

#[test]
fn a_time_that_has_no_meaning_is_kept_and_the_next_one_is_used() {
    for unreadable in [
        r#""bogus""#,
        "7",
        "true",
        "[]",
        r#"{"a":1}"#,
        r#""0000-01-01T00:00:00Z""#,
        r#""9999-12-31T23:59:59-23:59""#,
        "-99999999999999",
    ] {
        let row = track(&format!(r#""timestamp":{unreadable},"originalTimestamp":"2026-11-20T10:00:00Z""#));
        assert_eq!(row::time(&row), AT, "{unreadable}");
        let kept: Value = serde_json::from_str(unreadable).unwrap();
        assert_eq!(rest(&row)["timestamp"], kept);
        assert_eq!(rest(&row)["originalTimestamp"], "2026-11-20T10:00:00Z");
        let alone = track(&format!(r#""timestamp":{unreadable}"#));
        assert_eq!((row::time(&alone), &rest(&alone)["timestamp"]), (EventTime::Anonymous, &kept));
        let with_id =
            track(&format!(r#""timestamp":{unreadable},"originalTimestamp":{unreadable},"messageId":"m""#));
        assert_eq!((row::time(&with_id), &rest(&with_id)["originalTimestamp"]), (EventTime::Undated, &kept));
    }
}

#[test]
fn a_half_of_a_surrogate_pair_becomes_ufffd_in_values_and_in_names() {
    let row = track(r#""properties":{"t":"cut \ud83d","\udead":"\ude00 ok \ud83d\ude00"},"\ud800x":1"#);
    assert_eq!(properties(&row), json!({"t": "cut \u{FFFD}", "\u{FFFD}": "\u{FFFD} ok \u{1F600}"}));
    assert_eq!(rest(&row)["\u{FFFD}x"], 1);
    let row = row_between_good(br#"{"type":"track","event":"\ud83d","userId":"\ud83d"}"#);
    assert_eq!(texts(&row)[..2], [Some("\u{FFFD}".to_owned()), Some("\u{FFFD}".to_owned())]);
}

#[test]
fn a_number_that_json_cannot_express_becomes_null() {
    let row = track(r#""properties":{"a":NaN,"b":[Infinity,-Infinity],"c":nan,"d":"NaN","e":-inf,"f":1.50}"#);
    let expected = json!({"a": null, "b": [null, null], "c": null, "d": "NaN", "e": null, "f": 1.50});
    assert_eq!(properties(&row), expected);
}

#[test]
fn bytes_that_are_no_text_are_repaired_in_their_string_alone() {
    let call = b"{\"type\":\"track\",\"event\":\"e\",\"userId\":\"u\",\"properties\":{\"a\":\"\xFFx\",\"b\":\"\t\n\x01\0\"}}";
    assert_eq!(properties(&row_between_good(call)), json!({"a": "\u{FFFD}x", "b": "\t\n\u{1}\u{FFFD}"}));
}

#[test]
fn an_empty_array_is_an_empty_object() {
    assert_eq!(properties(&track(r#""properties":[]"#)), json!({}));
    assert_eq!(json_of(&track(r#""context":[ ]"#), 4)["segment"]["type"], "track");
    let identify = row_between_good(br#"{"type":"identify","userId":"u","traits":[]}"#);
    assert_eq!(properties(&identify), json!({}));
}

#[test]
fn a_context_that_is_no_object_is_kept_with_the_fields_that_have_no_column() {
    for odd in ["[1]", "7", r#""web""#, "true"] {
        let row = track(&format!(r#""context":{odd}"#));
        assert_eq!(rest(&row)["context"], serde_json::from_str::<Value>(odd).unwrap());
    }
    let body = r#"{"context":"web","batch":[{"type":"page","userId":"u","context":{"a":1}}]}"#;
    let row = only_row(&read(&segment::BATCH, body.as_bytes(), origin(), EVENTS_MAX).unwrap());
    assert_eq!((&json_of(&row, 4)["a"], &rest(&row)["context"]), (&json!(1), &json!("web")));
}

#[test]
fn a_type_is_known_in_any_case_and_a_name_may_be_any_scalar() {
    for (call, name) in [
        (r#"{"type":"Track","event":5,"userId":"u"}"#, "5"),
        (r#"{"type":" TRACK ","event":true,"userId":"u"}"#, "true"),
        (r#"{"type":"Identify","userId":"u"}"#, "$identify"),
        (r#"{"type":"PAGE","userId":"u"}"#, "$page"),
    ] {
        assert_eq!(texts(&row_between_good(call.as_bytes()))[0].as_deref(), Some(name), "{call}");
    }
    for odd_type in [r#""""#, r#""tarck""#, "5", "null", "{}"] {
        let body = format!(r#"{{"type":{odd_type},"event":"e","userId":"u"}}"#);
        let row = only_row(&read(&segment::TRACK, body.as_bytes(), origin(), EVENTS_MAX).unwrap());
        assert_eq!(texts(&row)[0].as_deref(), Some("e"), "{odd_type}");
    }
    let other = br#"{"type":"Identify","userId":"u","event":"e"}"#;
    let row = only_row(&read(&segment::TRACK, other, origin(), EVENTS_MAX).unwrap());
    assert_eq!((texts(&row)[0].as_deref(), &rest(&row)["event"]), (Some("$identify"), &json!("e")));
}

#[test]
fn an_id_may_be_any_scalar() {
    for (written, text) in [("5", "5"), ("5.50", "5.50"), ("true", "true"), ("false", "false")] {
        let call = format!(r#"{{"type":"page","userId":{written},"messageId":{written}}}"#);
        let row = row_between_good(call.as_bytes());
        assert_eq!(texts(&row)[1..3], [Some(text.to_owned()), Some(text.to_owned())]);
        assert_eq!(row::event_id(&row), uuid_of_client_id(text));
        let anonymous = row_between_good(format!(r#"{{"type":"page","anonymousId":{written}}}"#).as_bytes());
        assert_eq!(texts(&anonymous)[1].as_deref(), Some(text));
    }
}

#[test]
fn a_long_id_is_shortened_in_its_column_and_kept_whole() {
    let (one, two) = ("x".repeat(201), "x".repeat(202));
    let row_of = |id: &str| track_with_ids(id);
    let (first, second) = (row_of(&one), row_of(&two));
    for (row, id) in [(&first, &one), (&second, &two)] {
        assert_eq!(row::event_id(row), uuid_of_client_id(id), "identity is that of the whole id");
        let columns = texts(row);
        for column in [&columns[1], &columns[2]] {
            let short = column.as_deref().unwrap();
            assert!(short.len() <= 200 && short.starts_with("xxxx"), "{short}");
        }
        assert_eq!((&rest(row)["messageId"], &rest(row)["userId"]), (&json!(id), &json!(id)));
    }
    assert_ne!(texts(&first)[1], texts(&second)[1], "distinct ids stay distinct");
    let fits = row_of(&"x".repeat(200));
    assert!(rest(&fits).get("userId").is_none() && rest(&fits).get("messageId").is_none());
}

fn track_with_ids(id: &str) -> Vec<u8> {
    row_between_good(
        format!(r#"{{"type":"track","event":"e","messageId":"{id}","userId":"{id}"}}"#).as_bytes(),
    )
}

#[test]
fn an_odd_id_does_not_hide_a_good_one_and_is_kept() {
    let long = format!("{:?}", "a".repeat(201));
    for odd in [long.as_str(), r#"{"id":1}"#, "[1,2]"] {
        let kept: Value = serde_json::from_str(odd).unwrap();
        let row = track(&format!(r#""anonymousId":{odd}"#));
        assert_eq!((texts(&row)[1].as_deref(), &rest(&row)["anonymousId"]), (Some("u"), &kept), "{odd}");
    }
    for odd in [r#"{"id":1}"#, "[1,2]"] {
        let kept: Value = serde_json::from_str(odd).unwrap();
        let call = format!(r#"{{"type":"page","userId":{odd},"anonymousId":"anon"}}"#);
        let row = row_between_good(call.as_bytes());
        assert_eq!((texts(&row)[1].as_deref(), &rest(&row)["userId"]), (Some("anon"), &kept), "{odd}");
        let row =
            row_between_good(format!(r#"{{"type":"page","userId":{odd},"messageId":{odd}}}"#).as_bytes());
        assert_eq!((texts(&row)[1].as_deref(), &rest(&row)["userId"]), (None, &kept), "{odd}");
        assert_eq!((row::time(&row), &rest(&row)["messageId"]), (EventTime::Anonymous, &kept), "{odd}");
    }
}

#[test]
fn a_long_name_is_shortened_in_its_column_and_kept_whole() {
    let name = "é".repeat(201);
    let row = row_between_good(format!(r#"{{"type":"track","event":"{name}","userId":"u"}}"#).as_bytes());
    assert_eq!(texts(&row)[0].as_deref(), Some(format!("{}…", "é".repeat(199)).as_str()));
    assert_eq!(rest(&row)["event"], json!(name));
}

#[test]
fn identify_and_group_calls_find_their_traits_in_the_context() {
    for kind in ["identify", "group"] {
        let call = format!(
            r#"{{"type":"{kind}","userId":"u","properties":null,"context":{{"traits":{{"plan":"pro"}}}}}}"#
        );
        let row = row_between_good(call.as_bytes());
        assert_eq!(properties(&row), json!({"plan": "pro"}));
        assert_eq!(json_of(&row, 4)["traits"], json!({"plan": "pro"}));
    }
    let own = br#"{"type":"group","userId":"u","traits":{"a":1},"context":{"traits":{"b":2}}}"#;
    assert_eq!(properties(&row_between_good(own)), json!({"a": 1}));
    assert_eq!(texts(&track(r#""context":{"traits":{"b":2}}"#))[3], None, "track calls have properties");
}

#[test]
fn a_value_of_a_call_replaces_that_of_its_batch_and_no_name_is_written_twice() {
    let body = r#"{"context":{"tz":"batch","os":"x"},"integrations":{"A":1},"channel":"server","timestamp":"b",
        "batch":[{"type":"track","event":"e","userId":"u","integrations":{"B":2},"timestamp":"c",
                  "context":{"\u0074z":"call"}}]}"#;
    let row = only_row(&read(&segment::BATCH, body.as_bytes(), origin(), EVENTS_MAX).unwrap());
    let expected = concat!(
        r#"{"os":"x","\u0074z":"call","segment":{"channel":"server","type":"track","#,
        r#""integrations":{"B":2},"timestamp":"c"}}"#
    );
    assert_eq!(texts(&row)[4].as_deref(), Some(expected));
    let members = (0..5_000).map(|n| format!(r#""k{n}":{n}"#)).collect::<Vec<_>>().join(",");
    let body = format!(
        r#"{{"context":{{{members}}},{members},"batch":[{{"type":"page","context":{{{members}}},{members}}}]}}"#
    );
    let row = only_row(&read(&segment::BATCH, body.as_bytes(), origin(), EVENTS_MAX).unwrap());
    assert_eq!(json_of(&row, 4).as_object().unwrap().len(), 5_001);
    assert_eq!(texts(&row)[4].as_ref().unwrap().matches("\"k4999\"").count(), 2, "context and the rest");
}

#[test]
fn the_fields_around_the_calls_are_repaired_as_the_calls_are() {
    let body = b"\xEF\xBB\xBF{\"source\":\"\xFF\",\"context\":{\"n\":NaN,\"\\ud83d\":\"a\tb\"},\"batch\":[\
        {\"type\":\"page\",\"userId\":\"u\"},],\"x\":-Infinity}";
    let row = only_row(&read(&segment::BATCH, body, origin(), EVENTS_MAX).unwrap());
    let expected = json!({"n": null, "\u{FFFD}": "a\tb", "segment": {"source": "\u{FFFD}", "type": "page"}});
    assert_eq!(json_of(&row, 4), expected);
}
