//! Segment's format.

use millrace_event::dialect::{native, read, segment};
use millrace_event::event::{Batch, RejectionCode};
use millrace_event::row;

use crate::bodies::*;

#[test]
fn a_segment_batch_keeps_every_field() {
    let body = r#"{"batch":[
        {"type":"track","event":"Order Completed","userId":"u1","anonymousId":null,"integrations":{},
         "messageId":"5fe74bf0-2bbe-4c26-8e25-30256b54afb5","timestamp":"2026-11-21T02:51:47.143+00:00",
         "properties":{"revenue":1.50},"context":{"library":{"name":"x"}}},
        {"type":"identify","anonymousId":"anon","traits":{"a":1},"messageId":"m2"},
        {"type":"group","userId":5,"groupId":"g","traits":{"b":2},"originalTimestamp":"2026-11-21T00:00:00Z"},
        {"type":"alias","userId":"new","previousId":"old","context":{}},
        {"type":"nonsense"}], "sentAt":"2026-11-21T02:51:47.642996+00:00","writeKey":"WK"}"#;
    let batch = read(&segment::BATCH, body.as_bytes(), origin(), EVENTS_MAX).unwrap();
    assert_eq!((batch.count, dead_codes(&batch)), (5, vec![(4, "invalid_type")]));
    let rows: Vec<_> = row::split(&batch.rows).map(|row| texts(row.unwrap())).collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(rows[0][..4], [some("Order Completed"), some("u1"), None, some(r#"{"revenue":1.50}"#)]);
    let context = r#"{"library":{"name":"x"},"segment":{"type":"track"}}"#;
    assert_eq!(rows[0][4], some(context));
    assert_eq!(rows[1][..4], [some("$identify"), some("anon"), some("m2"), some(r#"{"a":1}"#)]);
    assert_eq!(rows[2][..4], [some("$group"), some("5"), None, some(r#"{"b":2}"#)]);
    assert!(rows[2][4].as_ref().unwrap().contains(r#""groupId":"g""#), "{:?}", rows[2][4]);
    assert_eq!(rows[3][3], some(r#"{"previousId":"old"}"#));
    assert!(!batch.rows.windows(2).any(|pair| pair == b"WK"), "the key is not stored");
    assert_eq!(segment::BATCH.find_key(body.as_bytes()).as_deref(), Some("WK"));
}

#[test]
fn fields_of_a_segment_batch_apply_to_each_call_unless_the_call_has_its_own() {
    let body = r#"{"context":{"app":"A","both":1},"integrations":{"X":false},"sentAt":"2026-11-20T00:00:00Z","batch":[
        {"type":"track","event":"e","userId":"u"},
        {"type":"track","event":"e","userId":"u","integrations":{"Y":true},"context":{"both":2,"segment":{"mine":1}}}]}"#;
    let batch = read(&segment::BATCH, body.as_bytes(), origin(), EVENTS_MAX).unwrap();
    let contexts: Vec<serde_json::Value> = row::split(&batch.rows)
        .map(|row| serde_json::from_str(texts(row.unwrap())[4].as_ref().unwrap()).unwrap())
        .collect();
    let first = serde_json::json!({"app": "A", "both": 1,
        "segment": {"type": "track", "integrations": {"X": false}}});
    let second = serde_json::json!({"app": "A", "both": 2, "segment": {"mine": 1},
        "$segment": {"type": "track", "integrations": {"Y": true}}});
    assert_eq!(contexts, [first, second]);
}

#[test]
fn of_equal_names_the_last_counts_even_if_it_is_null() {
    let body = r#"{"source":"batch","source":null,"channel":null,"channel":"web","batch":[
        {"type":"track","event":"e","userId":"u","integrations":1,"integrat\u0069ons":null,"groupId":null,"groupId":"g"}]}"#;
    let batch = read(&segment::BATCH, body.as_bytes(), origin(), EVENTS_MAX).unwrap();
    let context: serde_json::Value =
        serde_json::from_str(texts(&only_row(&batch))[4].as_ref().unwrap()).unwrap();
    let expected = serde_json::json!({"segment": {"type": "track", "channel": "web", "groupId": "g"}});
    assert_eq!(context, expected);
}

#[test]
fn a_segment_call_without_a_type_has_the_type_of_its_path() {
    let call = |dialect, body: &str| read(dialect, body.as_bytes(), origin(), EVENTS_MAX);
    let page = only_row(&call(&segment::PAGE, r#"{"userId":"u","name":"Home","batch":[1]}"#).unwrap());
    assert_eq!(texts(&page)[0].as_deref(), Some("$page"));
    let track = only_row(&call(&segment::TRACK, r#"{"userId":"u","event":"Clicked"}"#).unwrap());
    assert_eq!(texts(&track)[0].as_deref(), Some("Clicked"));
    let Batch { count, rejected, dead, .. } = call(&segment::TRACK, r#"{"userId":"u"}"#).unwrap();
    assert_eq!((count, rejected.len()), (1, 0));
    assert_eq!(dead[0].code, RejectionCode::MissingField);
    assert_eq!((dead[0].field.as_deref(), dead[0].message.as_str()), (Some("event"), "event is required"));
}

#[test]
fn a_key_in_the_body_is_found_only_by_dialects_that_allow_one() {
    let body = br#"{"writeKey":"WK","type":"track","event":"e","userId":"u"}"#;
    assert_eq!(segment::TRACK.find_key(body).as_deref(), Some("WK"));
    assert_eq!(segment::TRACK.find_key(&[b"\xEF\xBB\xBF", &body[..]].concat()).as_deref(), Some("WK"));
    assert_eq!(native::JSON.find_key(body), None);
    let with_unstorable = br#"{"batch":[{"type":"track","event":"\ud800"},{}],"writeKey":"WK"}"#;
    assert_eq!(segment::BATCH.find_key(with_unstorable).as_deref(), Some("WK"));
    for without in [&b"{}"[..], b"[]", b"not JSON", br#"{"writeKey":7}"#] {
        assert_eq!(segment::BATCH.find_key(without), None);
    }
}
