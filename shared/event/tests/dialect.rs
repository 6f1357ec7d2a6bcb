//! What the dialects accept, what they refuse and how they say it. No server is needed here; that PostgreSQL stores
//! what is accepted is shown beside the store.

use millrace_event::dialect::{BodyError, Dialect, read};
use millrace_event::event::{
    Batch, Origin, RejectionCode, batch_id_of_key, uuid_of_client_id, uuid_of_place,
};
use millrace_event::plan::ProjectId;
use millrace_event::row::{self, EventTime};
use proptest::prelude::*;
use uuid::Uuid;

const EVENTS_MAX: usize = 1_000;

fn origin() -> Origin {
    Origin { project: ProjectId(7), batch_id: batch_id_of_key(ProjectId(7), "some key") }
}

fn native(body: &str) -> Result<Batch, BodyError> {
    read(Dialect::Native, body.as_bytes(), origin(), EVENTS_MAX)
}

/// The variable fields of a row: name, subject, client id, properties, context.
fn texts(row: &[u8]) -> Vec<Option<String>> {
    let mut at = 58;
    let mut fields = Vec::new();
    while at < row.len() {
        let length = i32::from_be_bytes(row[at..at + 4].try_into().unwrap());
        at += 4;
        match usize::try_from(length) {
            Ok(length) => {
                let bytes = row[at..at + length].strip_prefix(b"\x01").unwrap_or(&row[at..at + length]);
                fields.push(Some(String::from_utf8(bytes.to_vec()).unwrap()));
                at += length;
            }
            Err(_) => fields.push(None),
        }
    }
    fields
}

fn only_row(batch: &Batch) -> Vec<u8> {
    assert_eq!(batch.count, 1, "{batch:?}");
    row::split(&batch.rows).next().unwrap().unwrap().to_vec()
}

fn codes(batch: &Batch) -> Vec<(usize, &str)> {
    batch.rejected.iter().map(|rejection| (rejection.index, rejection.code.into())).collect()
}

#[test]
fn an_envelope_a_bare_array_and_one_event_are_the_same_batch() {
    let event = r#"{"id":"a","name":"n","timestamp":"2026-11-21T02:51:47.143+00:00"}"#;
    let envelope = native(&format!(r#"{{"events":[{event}]}}"#)).unwrap();
    assert_eq!(native(&format!("[{event}]")).unwrap(), envelope);
    assert_eq!(native(event).unwrap(), envelope);
    assert_eq!(native(&format!(" \n[ {event} ]\r\n")).unwrap(), envelope);
    let lines = read(Dialect::NativeLines, format!("\n{event}\r\n\n").as_bytes(), origin(), 9).unwrap();
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
    let row = only_row(&native(&body).unwrap());
    assert_eq!(row::project(&row), ProjectId(7));
    assert_eq!(row::time(&row), EventTime::At(1_795_229_507_143_999));
    assert_eq!(row::event_id(&row), uuid_of_client_id("order-1"));
    let expected = ["Order \"Completed\"", "ünï", "order-1", properties, "{ }"];
    assert_eq!(texts(&row), expected.map(|text| Some(text.to_owned())));
}

#[test]
fn identity_is_the_clients_uuid_a_hash_of_its_id_or_the_place_in_the_batch() {
    let identity = |body: &str| {
        let row = only_row(&native(body).unwrap());
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
    assert_eq!((placed, time, client_id), (uuid_of_place(origin().batch_id, 0), EventTime::Anonymous, None));
    assert_eq!(identity(r#"{"name":"n","timestamp":"2026-01-01T00:00:00Z"}"#).0, placed);
}

#[test]
fn one_bad_event_costs_itself_alone() {
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
        (r#"{"name":"n","properties":{"a":1e-309}}"#, "invalid_number"),
        (r#"{"name":"n","properties":{"a":1e400000}}"#, "invalid_number"),
        (r#"{"name":"n","properties":{"a":12345678901234567890123456789012345678901}}"#, "invalid_number"),
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
            let batch = native(&body).unwrap_or_else(|error| panic!("{event}: {error:?}"));
            assert_eq!((batch.count, codes(&batch)), (2, vec![(1, code)]), "{event}");
        }
        let lines =
            read(Dialect::NativeLines, format!("{good}\n{event}\n{good}").as_bytes(), origin(), 9).unwrap();
        assert_eq!((lines.count, codes(&lines)), (2, vec![(1, code)]), "{event} as a line");
        match native(event) {
            Err(BodyError::NoValidEvent { rejected }) => {
                assert_eq!(<&str>::from(rejected[0].code), code, "{event} alone");
            }
            Err(BodyError::InvalidJson { .. }) => assert_eq!(event, "5", "a bare number is no event"),
            other => panic!("{event} alone: {other:?}"),
        }
    }
}

#[test]
fn every_depth_costs_its_own_event_alone_whatever_its_neighbours_are() {
    for depth in 60..80 {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let event = format!(r#"{{"name":"n","properties":{{"a":{nested}}}}}"#);
        let events = format!(r#"{event},{{"name":"\ud800"}},{{"name":"good"}}"#);
        for body in [format!("[{events}]"), format!(r#"{{"events":[{events}]}}"#)] {
            let batch = native(&body).unwrap_or_else(|error| panic!("depth {depth}: {error:?}"));
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
fn what_is_just_within_the_limits_is_accepted() {
    let deep = format!("{}{}", r#"{"a":"#.repeat(64), "1".to_owned() + &"}".repeat(64));
    let digits = "1234567890123456789012345678901234567890";
    for event in [
        format!(r#"{{"name":"{}"}}"#, "é".repeat(200)),
        format!(r#"{{"name":"n","id":"{}"}}"#, "i".repeat(200)),
        format!(r#"{{"name":"n","properties":{deep},"context":{deep}}}"#),
        format!(r#"{{"name":"n","properties":{{"a":-{digits},"b":0.{}}}}}"#, &digits[..39]),
        r#"{"name":"n","properties":{"a":1e308,"b":1E-308,"c":-0.0,"d":9.9e+0307}}"#.to_owned(),
        r#"{"name":"n","timestamp":"0000-01-01T00:00:00Z"}"#.to_owned(),
        r#"{"name":"n","timestamp":"9999-12-31T23:59:59.999999999-23:59"}"#.to_owned(),
    ] {
        let batch = native(&event).unwrap_or_else(|error| panic!("{event}: {error:?}"));
        assert_eq!((batch.count, batch.rejected.len()), (1, 0), "{event}");
    }
}

#[test]
fn u0000_becomes_ufffd_and_an_escaped_backslash_before_u0000_does_not() {
    let row = only_row(
        &native(r#"{"name":"a\u0000b","id":"\u0000","properties":{"k\u0000":"\\u0000 \\\u0000"}}"#).unwrap(),
    );
    let texts = texts(&row);
    assert_eq!(texts[0].as_deref(), Some("a\u{FFFD}b"));
    assert_eq!(texts[2].as_deref(), Some("\u{FFFD}"));
    assert_eq!(texts[3].as_deref(), Some(r#"{"k\ufffd":"\\u0000 \\\ufffd"}"#));
}

#[test]
fn what_is_not_json_is_refused_whole() {
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
        b"[{\"name\":\"n\",\"properties\":{\"a\":01}}]",
        b"{'name':'n'}",
        b"[{\"name\":\"n\",\"properties\":{\"a\":1e}}]",
        b"[{\"name\":\"\\x\"}]",
        b"[{\"name\":\"\\u12\"}]",
        b"[{\"name\":\"\\u12zz\"}]",
        b"[{\"name\":\"\xff\"}]",
        b"[{\"name\":\"a\nb\"}]",
        b"[{\"name\":\"\xed\xa0\x80\"}]",
        b"{\"events\":{}}",
        b"{\"events\":null}",
        b"[{\"name\":\"n\"},{\"name\":\"\\ud800\"},{]",
        b"\xff\xfe",
    ] {
        let shown = String::from_utf8_lossy(body);
        match read(Dialect::Native, body, origin(), EVENTS_MAX) {
            Err(BodyError::InvalidJson { .. }) => {}
            other => panic!("{shown}: {other:?}"),
        }
    }
    assert_eq!(native("[]"), Err(BodyError::EmptyBatch));
    assert_eq!(native(r#"{"events":[]}"#), Err(BodyError::EmptyBatch));
    assert_eq!(read(Dialect::NativeLines, b"\n \n", origin(), 9), Err(BodyError::EmptyBatch));
}

#[test]
fn a_batch_over_the_limit_is_refused_before_its_events_are_read() {
    let body = format!("[{}]", ["{}"; 11].join(","));
    let refused = Err(BodyError::TooManyEvents { found: 11, max: 10 });
    assert_eq!(read(Dialect::Native, body.as_bytes(), origin(), 10), refused);
    let lines = "{}\n".repeat(11);
    assert_eq!(read(Dialect::NativeLines, lines.as_bytes(), origin(), 10), refused);
    let with_culprit = format!(r#"["\ud800",{}]"#, ["{}"; 10].join(","));
    assert_eq!(read(Dialect::Native, with_culprit.as_bytes(), origin(), 10), refused);
}

#[test]
fn a_segment_batch_fills_the_columns_and_loses_no_field() {
    let body = r#"{"batch":[
        {"type":"track","event":"Order Completed","userId":"u1","anonymousId":null,"integrations":{},
         "messageId":"5fe74bf0-2bbe-4c26-8e25-30256b54afb5","timestamp":"2026-11-21T02:51:47.143+00:00",
         "properties":{"revenue":1.50},"context":{"library":{"name":"x"}}},
        {"type":"identify","anonymousId":"anon","traits":{"a":1},"messageId":"m2"},
        {"type":"group","userId":5,"groupId":"g","traits":{"b":2},"originalTimestamp":"2026-11-21T00:00:00Z"},
        {"type":"alias","userId":"new","previousId":"old","context":{}},
        {"type":"nonsense"}], "sentAt":"2026-11-21T02:51:47.642996+00:00","writeKey":"WK"}"#;
    let batch = read(Dialect::SegmentBatch, body.as_bytes(), origin(), EVENTS_MAX).unwrap();
    assert_eq!((batch.count, codes(&batch)), (4, vec![(4, "invalid_type")]));
    let rows: Vec<_> = row::split(&batch.rows).map(|row| texts(row.unwrap())).collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(rows[0][..4], [some("Order Completed"), some("u1"), None, some(r#"{"revenue":1.50}"#)]);
    let context = r#"{"library":{"name":"x"},"segment":{"sentAt":"2026-11-21T02:51:47.642996+00:00","type":"track","integrations":{}}}"#;
    assert_eq!(rows[0][4], some(context));
    assert_eq!(rows[1][..4], [some("$identify"), some("anon"), some("m2"), some(r#"{"a":1}"#)]);
    assert_eq!(rows[2][..4], [some("$group"), some("5"), None, some(r#"{"b":2}"#)]);
    assert!(rows[2][4].as_ref().unwrap().contains(r#""groupId":"g""#), "{:?}", rows[2][4]);
    assert_eq!(rows[3][3], some(r#"{"previousId":"old"}"#));
    assert!(!batch.rows.windows(2).any(|pair| pair == b"WK"), "the key is not stored");
    assert_eq!(millrace_event::dialect::segment_write_key(body.as_bytes()).as_deref(), Some("WK"));
}

#[test]
fn what_a_segment_batch_says_of_all_its_calls_reaches_each_and_nothing_is_overwritten() {
    let body = r#"{"context":{"app":"A","both":1},"integrations":{"X":false},"sentAt":"2026-11-20T00:00:00Z","batch":[
        {"type":"track","event":"e","userId":"u"},
        {"type":"track","event":"e","userId":"u","integrations":{"Y":true},"context":{"both":2,"segment":{"mine":1}}}]}"#;
    let batch = read(Dialect::SegmentBatch, body.as_bytes(), origin(), EVENTS_MAX).unwrap();
    let contexts: Vec<serde_json::Value> = row::split(&batch.rows)
        .map(|row| serde_json::from_str(texts(row.unwrap())[4].as_ref().unwrap()).unwrap())
        .collect();
    let sent_at = "2026-11-20T00:00:00Z";
    let first = serde_json::json!({"app": "A", "both": 1,
        "segment": {"type": "track", "integrations": {"X": false}, "sentAt": sent_at}});
    let second = serde_json::json!({"app": "A", "both": 2, "segment": {"mine": 1},
        "$segment": {"type": "track", "integrations": {"Y": true}, "sentAt": sent_at}});
    assert_eq!(contexts, [first, second]);
}

#[test]
fn a_repeated_envelope_is_refused_rather_than_half_read() {
    for body in
        [r#"{"events":[{"name":"a"}],"events":[{"name":"b"}]}"#, r#"{"events":[],"events":[{"name":"b"}]}"#]
    {
        assert!(matches!(native(body), Err(BodyError::InvalidJson { .. })), "{body}");
    }
}

#[test]
fn numbers_that_would_blow_up_together_are_refused() {
    let event =
        |count: usize| format!(r#"{{"name":"n","properties":{{"a":[{}]}}}}"#, vec!["1e308"; count].join(","));
    assert_eq!(native(&event(300)).unwrap().count, 1);
    let refused = native(&event(400));
    assert!(
        matches!(&refused, Err(BodyError::NoValidEvent { rejected }) if rejected[0].code == RejectionCode::InvalidNumber),
        "{refused:?}"
    );
}

#[test]
fn a_segment_call_takes_its_type_from_the_path_when_it_names_none() {
    let call = |kind, body: &str| read(Dialect::SegmentCall(kind), body.as_bytes(), origin(), EVENTS_MAX);
    let page = only_row(&call("page", r#"{"userId":"u","name":"Home","batch":[1]}"#).unwrap());
    assert_eq!(texts(&page)[0].as_deref(), Some("$page"));
    let track = only_row(&call("track", r#"{"userId":"u","event":"Clicked"}"#).unwrap());
    assert_eq!(texts(&track)[0].as_deref(), Some("Clicked"));
    let nameless = call("track", r#"{"userId":"u"}"#);
    assert!(
        matches!(&nameless, Err(BodyError::NoValidEvent { rejected }) if rejected[0].field.as_deref() == Some("event"))
    );
}

/// Any JSON, as a tree.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<f64>()
            .prop_filter("JSON has no NaN", |number| number.is_finite())
            .prop_map(serde_json::Value::from),
        "\\PC{0,12}".prop_map(serde_json::Value::from),
        proptest::collection::vec(any::<char>(), 0..6).prop_map(|c| c.into_iter().collect::<String>().into()),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
            proptest::collection::vec(("\\PC{0,8}", inner), 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_properties_come_out_as_they_went_in(tree in any_json(), pretty in any::<bool>()) {
        let event = serde_json::json!({"name": "n", "properties": {"tree": tree}, "context": {"after": [tree]}});
        let body = if pretty { serde_json::to_string_pretty(&event) } else { serde_json::to_string(&event) }.unwrap();
        match native(&body) {
            Ok(batch) => {
                let fields = texts(&only_row(&batch));
                let clean = |text: &str| text.replace("\\u0000", "\\ufffd");
                for (field, name) in [(3, "properties"), (4, "context")] {
                    let stored: serde_json::Value = serde_json::from_str(fields[field].as_deref().unwrap()).unwrap();
                    let sent: serde_json::Value = serde_json::from_str(&clean(&event[name].to_string())).unwrap();
                    prop_assert_eq!(stored, sent);
                }
            }
            Err(BodyError::NoValidEvent { rejected }) => prop_assert_eq!(rejected[0].code, RejectionCode::InvalidNumber),
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn no_bytes_whatever_bring_the_reader_down(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        for dialect in [Dialect::Native, Dialect::NativeLines, Dialect::SegmentBatch, Dialect::SegmentCall("track")] {
            if let Ok(batch) = read(dialect, &body, origin(), EVENTS_MAX) {
                prop_assert_eq!(row::split(&batch.rows).count(), batch.count as usize);
            }
        }
    }

    #[test]
    fn no_json_like_text_brings_the_reader_down(body in r#"([\[\]{}:,"\\ue0-9. -]|"name"|"events":\[|\\ud800|\\u0000){0,60}"#) {
        for dialect in [Dialect::Native, Dialect::NativeLines, Dialect::SegmentBatch, Dialect::SegmentCall("track")] {
            let accepted_by_serde = serde_json::from_str::<serde_json::Value>(&body).is_ok();
            if let Ok(batch) = read(dialect, body.as_bytes(), origin(), EVENTS_MAX) {
                prop_assert_eq!(row::split(&batch.rows).count(), batch.count as usize);
                let excused = dialect == Dialect::NativeLines || body.contains("\\u");
                prop_assert!(accepted_by_serde || excused, "{}", body);
            }
        }
    }
}
