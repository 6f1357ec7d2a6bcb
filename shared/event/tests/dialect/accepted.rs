//! Events that are accepted, and the columns that their fields reach.

use millrace_event::dialect::{native, read};
use millrace_event::event::{uuid_of_client_id, uuid_of_index};
use millrace_event::plan::ProjectId;
use millrace_event::row::{self, EventTime};
use uuid::Uuid;

use crate::bodies::*;

#[test]
fn an_envelope_a_bare_array_and_one_event_are_the_same_batch() {
    let event = r#"{"id":"a","name":"n","timestamp":"2026-11-21T02:51:47.143+00:00"}"#;
    let envelope = read_json(&format!(r#"{{"events":[{event}]}}"#)).unwrap();
    assert_eq!(read_json(&format!("[{event}]")).unwrap(), envelope);
    assert_eq!(read_json(event).unwrap(), envelope);
    assert_eq!(read_json(&format!(" \n[ {event} ]\r\n")).unwrap(), envelope);
    let lines = read(&native::NDJSON, format!("\n{event}\r\n\n").as_bytes(), origin(), 9).unwrap();
    assert_eq!(lines, envelope);
}

#[test]
fn every_field_reaches_its_column_as_it_was_written() {
    let properties =
        r#"{"price": 12345678901234567890.123456789012345678, "one": 1.10, "deep":[{"a":[]}, "\u00e9\n"]}"#;
    let body = format!(
        r#"{{"id":"order-1","name":"Order \"Completed\"","timestamp":"2026-11-21T03:51:47.143999+01:00",
            "subject":"ünï","properties":{properties},"context":{{ }}}}"#
    );
    let row = only_row(&read_json(&body).unwrap());
    assert_eq!(row::project(&row), ProjectId(7));
    assert_eq!(row::time(&row), EventTime::At(1_795_229_507_143_999));
    assert_eq!(row::event_id(&row), uuid_of_client_id("order-1"));
    let expected = ["Order \"Completed\"", "ünï", "order-1", properties, "{ }"];
    assert_eq!(texts(&row), expected.map(|text| Some(text.to_owned())));
}

#[test]
fn identity_is_the_clients_uuid_a_hash_of_its_id_or_the_index_in_the_batch() {
    let identity = |body: &str| {
        let row = only_row(&read_json(body).unwrap());
        (row::event_id(&row), row::time(&row), texts(&row)[2].clone())
    };
    let v4: Uuid = "5fe74bf0-2bbe-4c26-8e25-30256b54afb5".parse().unwrap();
    assert_eq!(identity(&format!(r#"{{"id":"{v4}","name":"n"}}"#)), (v4, EventTime::Undated, None));
    let upper = v4.to_string().to_uppercase();
    assert_eq!(identity(&format!(r#"{{"id":"{upper}","name":"n"}}"#)).0, v4);
    let v7: Uuid = "019ac5a2-7ab3-7000-8000-000000000001".parse().unwrap();
    let at = EventTime::At(0x019a_c5a2_7ab3 * 1_000);
    assert_eq!(identity(&format!(r#"{{"id":"{v7}","name":"n"}}"#)), (v7, at, None));
    let (hashed, time, client_id) = identity(r#"{"id":"node-next-1-x","name":"n"}"#);
    assert_eq!(
        (hashed.get_version_num(), time, client_id.as_deref()),
        (8, EventTime::Undated, Some("node-next-1-x"))
    );
    let (placed, time, client_id) = identity(r#"{"name":"n"}"#);
    assert_eq!((placed, time, client_id), (uuid_of_index(origin().batch_id, 0), EventTime::Anonymous, None));
    assert_eq!(identity(r#"{"name":"n","timestamp":"2026-01-01T00:00:00Z"}"#).0, placed);
}

#[test]
fn an_event_exactly_at_the_limits_is_accepted() {
    let deep = format!("{}{}", r#"{"a":"#.repeat(64), "1".to_owned() + &"}".repeat(64));
    let digits = "1234567890123456789012345678901234567890";
    for event in [
        format!(r#"{{"name":"{}"}}"#, "é".repeat(200)),
        format!(r#"{{"name":"n","id":"{}"}}"#, "i".repeat(200)),
        format!(r#"{{"name":"n","properties":{deep},"context":{deep}}}"#),
        format!(r#"{{"name":"n","properties":{{"a":-{digits},"b":0.{}}}}}"#, &digits[..39]),
        format!(r#"{{"name":"n","properties":{{"a":0.{}{digits}}}}}"#, "0".repeat(359)),
        format!(
            r#"{{"name":"n","properties":{{"a":{digits}.{},"b":0.{}}}}}"#,
            "0".repeat(360),
            "0".repeat(399)
        ),
        r#"{"name":"n","properties":{"a":1e308,"b":1E-400,"c":-0.0,"d":9.9e+0307,"e":0e400}}"#.to_owned(),
        r#"{"name":"n","timestamp":"0001-01-01T00:00:00Z"}"#.to_owned(),
        r#"{"name":"n","timestamp":"0000-12-31T23:00:00-01:00"}"#.to_owned(),
        r#"{"name":"n","timestamp":"9999-12-31T23:59:59.999999999Z"}"#.to_owned(),
        r#"{"name":"n","timestamp":"9999-12-31T23:59:60Z"}"#.to_owned(),
    ] {
        let batch = read_json(&event).unwrap_or_else(|error| panic!("{event}: {error:?}"));
        assert_eq!((batch.count, batch.rejected.len()), (1, 0), "{event}");
    }
}

#[test]
fn u0000_becomes_ufffd_and_an_escaped_backslash_before_u0000_does_not() {
    let row = only_row(
        &read_json(r#"{"name":"a\u0000b","id":"\u0000","properties":{"k\u0000":"\\u0000 \\\u0000"}}"#)
            .unwrap(),
    );
    let texts = texts(&row);
    assert_eq!(texts[0].as_deref(), Some("a\u{FFFD}b"));
    assert_eq!(texts[2].as_deref(), Some("\u{FFFD}"));
    assert_eq!(texts[3].as_deref(), Some(r#"{"k\ufffd":"\\u0000 \\\ufffd"}"#));
}

#[test]
fn each_dialect_has_its_own_stable_name() {
    let names = DIALECTS.map(|dialect| dialect.name);
    assert_eq!(
        names,
        ["native", "lines", "batch", "track", "identify", "page", "screen", "group", "alias"],
        "the digest of a repeated request contains the name"
    );
}
