//! OpenTelemetry's log records, in JSON and in protobuf. Protobuf is written by the messages that
//! OpenTelemetry publishes, so that no number of a field is checked against itself.

use std::collections::BTreeSet;

use millrace_event::dialect::{BodyError, otlp, read};
use millrace_event::event::Batch;
use millrace_event::row;
use millrace_event::undeliverable::UndeliverableCall;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use proptest::prelude::*;
use prost::Message;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::bodies::*;

const TIME: &str = "1795168800123456789";

fn request(records: &[Value]) -> Value {
    let resource = json!({"attributes": [
        {"key": "service.name", "value": {"stringValue": "shop"}},
        {"key": "telemetry.sdk.name", "value": {"stringValue": "opentelemetry"}},
        {"key": "telemetry.sdk.version", "value": {"stringValue": "1.45.2"}},
    ]});
    let scope = json!({"name": "shop.orders", "version": "2"});
    json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"scope": scope, "logRecords": records}]}]})
}

fn record(attributes: &[(&str, Value)]) -> Value {
    let attributes: Vec<_> =
        attributes.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    json!({"timeUnixNano": TIME, "attributes": attributes})
}

fn read_json(body: &str) -> Result<Batch, BodyError> {
    read(&otlp::JSON, body.as_bytes(), origin(), EVENTS_MAX)
}

fn read_wire(body: &[u8]) -> Result<Batch, BodyError> {
    read(&otlp::PROTOBUF, body, origin(), EVENTS_MAX)
}

fn message(request: &Value) -> ExportLogsServiceRequest {
    serde_json::from_value(request.clone()).expect("it is OTLP")
}

fn ids(batch: &Batch) -> Vec<Uuid> {
    row::split(&batch.rows).map(|row| row::event_id(row.unwrap())).collect()
}

/// The columns of the only event: name, subject, client id, properties, context.
fn columns(batch: &Batch) -> (String, Option<String>, Option<String>, Value, Value) {
    assert_eq!(batch.dead, [], "no dead letter");
    let mut texts = texts(&only_row(batch)).into_iter();
    let mut next = || texts.next().unwrap();
    let json = |text: Option<String>| text.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
    (next().unwrap(), next(), next(), json(next()), json(next()))
}

#[test]
fn a_record_is_the_same_event_in_both_encodings() {
    let record = json!({
        "timeUnixNano": TIME, "observedTimeUnixNano": "1795168800999999999", "severityNumber": 9, "severityText": "INFO",
        "eventName": "order_completed", "body": {"stringValue": "paid"}, "flags": 1, "droppedAttributesCount": 2,
        "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174",
        "attributes": [
            {"key": "user.id", "value": {"stringValue": "user-1"}},
            {"key": "big", "value": {"intValue": "-9223372036854775808"}},
            {"key": "price", "value": {"doubleValue": 19.99}},
            {"key": "paid", "value": {"boolValue": true}},
            {"key": "raw", "value": {"bytesValue": "/wA="}},
            {"key": "list", "value": {"arrayValue": {"values": [{"intValue": "1"}, {"kvlistValue": {"values": [
                {"key": "a", "value": {"stringValue": "Zürich 🚀"}}]}}]}}},
        ]
    });
    let request = request(&[record]);
    let json = columns(&read_json(&request.to_string()).unwrap());
    let wire = columns(&read_wire(&message(&request).encode_to_vec()).unwrap());
    assert_eq!(json, wire);
    let (name, subject, client_id, properties, context) = json;
    assert_eq!((name.as_str(), subject.as_deref(), client_id), ("order_completed", Some("user-1"), None));
    assert_eq!(
        properties,
        json!({"message": "paid", "big": i64::MIN, "price": 19.99, "paid": true, "raw": "/wA=",
            "list": [1, {"a": "Zürich 🚀"}]})
    );
    assert_eq!(
        context,
        json!({"library": {"name": "opentelemetry", "version": "1.45.2"}, "otel": {
            "resource": {"service.name": "shop"}, "scope": {"name": "shop.orders", "version": "2"},
            "severityNumber": 9, "severityText": "INFO", "flags": 1, "droppedAttributesCount": 2,
            "observedTimeUnixNano": 1_795_168_800_999_999_999_u64,
            "traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174"}})
    );
}

#[test]
fn a_request_that_is_sent_again_has_the_same_events_and_equal_records_in_one_are_different_events() {
    let same = record(&[("n", json!({"intValue": "1"}))]);
    let other = record(&[("n", json!({"intValue": "2"}))]);
    let body = request(&[same.clone(), other.clone(), same.clone()]);
    let in_json = |request: &Value| ids(&read_json(&request.to_string()).unwrap());
    let in_protobuf = |request: &Value| ids(&read_wire(&message(request).encode_to_vec()).unwrap());
    for read_all in [&in_json as &dyn Fn(&Value) -> Vec<Uuid>, &in_protobuf] {
        let first = read_all(&body);
        assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(read_all(&body), first);
        // In another batch, and another order, each keeps its identity.
        assert_eq!(read_all(&request(&[other.clone(), same.clone()])), [first[1], first[0]]);
        let mut elsewhere = body.clone();
        elsewhere["resourceLogs"][0]["resource"]["attributes"][2]["value"]["stringValue"] = "1.45.3".into();
        assert!(read_all(&elsewhere).iter().all(|id| !first.contains(id)), "of another resource");
    }
}

#[test]
fn a_uid_identifies_a_record_and_is_its_client_id() {
    let uid = |uid: &str, n: i64| {
        record(&[("log.record.uid", json!({"stringValue": uid})), ("n", json!({"intValue": n.to_string()}))])
    };
    let batch = read_json(&request(&[uid("01ARZ3", 1), uid("01ARZ3", 2)]).to_string()).unwrap();
    let found = ids(&batch);
    assert_eq!(found[0], found[1]);
    let (.., client_id, properties, _) =
        columns(&read_json(&request(&[uid("01ARZ3", 1)]).to_string()).unwrap());
    assert_eq!((client_id.as_deref(), properties), (Some("01ARZ3"), json!({"n": 1})));
}

#[test]
fn name_subject_and_body_have_their_places_and_nothing_is_lost() {
    let read_one = |record: Value| columns(&read_json(&request(&[record]).to_string()).unwrap());
    let mut anonymous = record(&[]);
    let (name, subject, _, properties, _) = read_one(anonymous.clone());
    assert_eq!((name.as_str(), subject, properties), ("$log", None, Value::Null));

    anonymous["body"] = json!({"kvlistValue": {"values": [
        {"key": "a", "value": {"intValue": 1}}, {"key": "b", "value": {"stringValue": "of the body"}}]}});
    anonymous["attributes"] = json!([
        {"key": "event.name", "value": {"stringValue": "e"}}, {"key": "b", "value": {"stringValue": "own"}},
        {"key": "device.id", "value": {"stringValue": "d"}}, {"key": "enduser.id", "value": {"intValue": "7"}}]);
    let (name, subject, _, properties, context) = read_one(anonymous);
    assert_eq!((name.as_str(), subject.as_deref()), ("e", Some("7")));
    assert_eq!(properties, json!({"a": 1, "b": "own", "device.id": "d", "enduser.id": 7}));
    assert_eq!(context["otel"]["body"], json!({"b": "of the body"}));

    let mut named = record(&[
        ("message", json!({"stringValue": "own"})),
        ("x", json!({"strange": [1]})),
        ("y", Value::Null),
    ]);
    named["body"] =
        json!({"arrayValue": {"values": [{"doubleValue": "NaN"}, {"doubleValue": "-Infinity"}, {}]}});
    named["resource"] = json!("of the record");
    named["eventName"] = json!("n".repeat(250));
    let (name, .., properties, context) = read_one(named);
    assert_eq!(name, format!("{}…", "n".repeat(199)));
    assert_eq!(properties, json!({"message": "own", "x": {"strange": [1]}, "y": null}));
    assert_eq!(context["otel"]["body"], json!(["NaN", "-Infinity", null]));
    assert_eq!(context["otel"]["$resource"], "of the record");
    assert_eq!(context["otel"]["eventName"], "n".repeat(250));
}

#[test]
fn names_of_protobuf_are_read_in_json() {
    let body = json!({"resource_logs": [{"scope_logs": [{"log_records": [{"time_unix_nano": TIME, "event_name": "e",
        "severity_text": "WARN", "attributes": [{"key": "n", "value": {"int_value": 7}}]}]}]}]});
    let (name, .., properties, context) = columns(&read_json(&body.to_string()).unwrap());
    assert_eq!((name.as_str(), properties), ("e", json!({"n": 7})));
    assert_eq!(context, json!({"otel": {"severityText": "WARN"}}));
}

#[test]
fn one_broken_record_is_a_dead_letter_and_costs_no_other() {
    let good = record(&[("n", json!({"intValue": 1}))]).to_string();
    for (broken, code) in [
        (r#"{"attributes":[{"key":"a","value":{"doubleValue":1e400}}]}"#.to_owned(), "invalid_number"),
        (r#"{"body": undefined}"#.to_owned(), "invalid_json"),
        ("7".to_owned(), "invalid_event"),
        (format!(r#"{{"x":{}1{}}}"#, "[".repeat(80), "]".repeat(80)), "too_deep"),
    ] {
        let body = request(&[]).to_string();
        let body = body.replace(r#""logRecords":[]"#, &format!(r#""logRecords":[{good},{broken},{good}]"#));
        let batch = read_json(&body).unwrap();
        assert_eq!(dead_codes(&batch), [(1, code)], "{broken}");
        assert_eq!(batch.count, 3);
        let rows: Vec<_> = row::split(&batch.rows).map(Result::unwrap).collect();
        assert_eq!(UndeliverableCall::read(rows[1]).unwrap().call, broken.as_bytes());
        // The identities are those of a body without the broken record.
        let whole = ids(&read_json(&body.replace(&format!("{broken},"), "")).unwrap());
        assert_eq!([ids(&batch)[0], ids(&batch)[2]], [whole[0], whole[1]], "{broken}");
    }
    let repaired = request(&[])
        .to_string()
        .replace(r#""logRecords":[]"#, r#""logRecords":[{"body":{"stringValue":"cut \ud83d"}},]"#);
    assert_eq!(columns(&read_json(&repaired).unwrap()).3, json!({"message": "cut \u{fffd}"}));
}

#[test]
fn a_broken_record_of_protobuf_is_a_dead_letter_and_a_broken_body_is_refused() {
    let good =
        message(&request(&[record(&[])])).resource_logs[0].scope_logs[0].log_records[0].encode_to_vec();
    let field =
        |number: u8, bytes: &[u8]| [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let broken = [0x08, 0x01];
    let records = [field(2, &good), field(2, &broken), field(2, &good)].concat();
    let body = field(1, &field(2, &records));
    let batch = read_wire(&body).unwrap();
    assert_eq!(dead_codes(&batch), [(1, "invalid_event")]);
    let rows: Vec<_> = row::split(&batch.rows).map(Result::unwrap).collect();
    assert_eq!(UndeliverableCall::read(rows[1]).unwrap().call, br#"{"logRecordProtobuf":"CAE="}"#);
    for cut in 1..body.len() {
        assert!(matches!(read_wire(&body[..cut]), Err(BodyError::InvalidJson { .. })), "cut at {cut}");
    }
    for other in [&b"{\"resourceLogs\":[]}"[..], b"\xff\xff\xff", b"\x0a\x05ab"] {
        assert!(matches!(read_wire(other), Err(BodyError::InvalidJson { .. })), "{other:?}");
    }
    for empty in [&b""[..], b"\x0a\x00"] {
        assert_eq!(read_wire(empty), Err(BodyError::EmptyBatch));
    }
    for empty in ["{}", r#"{"resourceLogs":[]}"#, r#"{"resourceLogs":[{"scopeLogs":null}]}"#] {
        assert_eq!(read_json(empty), Err(BodyError::EmptyBatch), "{empty}");
    }
    for other in ["[]", "7", r#"{"resourceLogs":{}}"#, r#"{"resourceLogs":[7]}"#, r#"{"resourceLogs":[{"#] {
        assert!(matches!(read_json(other), Err(BodyError::InvalidJson { .. })), "{other}");
    }
}

#[test]
fn a_small_body_does_not_become_large() {
    // A value inside a value, 1,000 levels deep.
    let mut value = AnyValue { value: None };
    for _ in 0..1_000 {
        value = AnyValue { value: Some(any_value::Value::ArrayValue(ArrayValue { values: vec![value] })) };
    }
    // Two bytes an attribute.
    let empty = vec![KeyValue::default(); 200_000];
    for (body, code) in [
        (LogRecord { body: Some(value), ..LogRecord::default() }, "too_deep"),
        (LogRecord { attributes: empty, ..LogRecord::default() }, "invalid_length"),
    ] {
        let batch = read_wire(&wrapped(vec![body])).unwrap();
        assert_eq!(dead_codes(&batch), [(0, code)]);
    }
    let many = vec![LogRecord::default(); 100_000];
    assert_eq!(read_wire(&wrapped(many)), Err(BodyError::TooManyEvents { found: 100_000, max: EVENTS_MAX }));
    // A resource of 1 MB that 1,000 records would repeat.
    let mut large = message(&request(&vec![record(&[]); 1_000]));
    let text = Some(AnyValue { value: Some(any_value::Value::StringValue("x".repeat(1 << 20))) });
    large.resource_logs[0].resource.as_mut().unwrap().attributes.push(KeyValue {
        key: "large".to_owned(),
        value: text,
        ..KeyValue::default()
    });
    assert!(matches!(read_wire(&large.encode_to_vec()), Err(BodyError::RowsTooLarge { .. })));
}

fn wrapped(log_records: Vec<LogRecord>) -> Vec<u8> {
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

/// A value of OTLP, and the JSON that it becomes.
fn any_value() -> impl Strategy<Value = (Value, Value)> {
    let leaf = prop_oneof![
        "\\PC{0,12}".prop_map(|text| (json!({"stringValue": text}), json!(text))),
        any::<bool>().prop_map(|is| (json!({"boolValue": is}), json!(is))),
        any::<i64>().prop_map(|number| (json!({"intValue": number.to_string()}), json!(number))),
        // Numbers that serde_json reads exactly.
        any::<i32>().prop_map(|n| (json!({"doubleValue": f64::from(n) / 4.0}), json!(f64::from(n) / 4.0))),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(|elements| {
                let (sent, stored): (Vec<_>, Vec<_>) = elements.into_iter().unzip();
                (json!({"arrayValue": {"values": sent}}), json!(stored))
            }),
            proptest::collection::btree_map("[a-z.]{0,6}", inner, 0..4).prop_map(|members| {
                let sent: Vec<_> =
                    members.iter().map(|(key, (sent, _))| json!({"key": key, "value": sent})).collect();
                let stored = members.into_iter().map(|(key, (_, stored))| (key, stored)).collect();
                (json!({"kvlistValue": {"values": sent}}), Value::Object(stored))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_attribute_is_a_property_with_its_value_in_both_encodings(
        attributes in proptest::collection::btree_map("[a-z]{1,8}", any_value(), 1..6)
    ) {
        let sent: Vec<_> = attributes.iter().map(|(key, (sent, _))| (key.as_str(), sent.clone())).collect();
        let request = request(&[record(&sent)]);
        let stored: Value = attributes.iter().map(|(key, (_, stored))| (key.clone(), stored.clone())).collect();
        for batch in [read_json(&request.to_string()), read_wire(&message(&request).encode_to_vec())] {
            prop_assert_eq!(&columns(&batch.unwrap()).3, &stored);
        }
    }

    #[test]
    fn wrong_bytes_make_no_reader_panic_and_lose_no_row(
        values in proptest::collection::vec(any_value(), 1..5),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let records: Vec<_> = values.into_iter().map(|(sent, _)| record(&[("a", sent)])).collect();
        let request = request(&records);
        for (dialect, body) in
            [(&otlp::JSON, request.to_string().into_bytes()), (&otlp::PROTOBUF, message(&request).encode_to_vec())]
        {
            let mut body = body;
            for (at, byte) in &changes {
                let at = at.index(body.len());
                body[at] = *byte;
            }
            if let Ok(batch) = read(dialect, &body, origin(), EVENTS_MAX) {
                prop_assert_eq!(row::split(&batch.rows).count(), batch.count as usize);
                prop_assert_eq!(batch.rejected.len(), 0);
                for row in row::split(&batch.rows).map(Result::unwrap) {
                    if UndeliverableCall::read(row).is_none() {
                        let objects = texts(row).into_iter().skip(3).flatten();
                        objects.for_each(|json| assert!(serde_json::from_str::<Value>(&json).is_ok(), "{json}"));
                    }
                }
            }
        }
    }
}
