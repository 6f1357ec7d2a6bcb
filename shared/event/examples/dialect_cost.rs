//! The cost of one event in each dialect: how long the API takes from a decoded body to the rows of its
//! batch.
//!
//! `cargo run --release -p millrace-event --example dialect_cost` prints the table of `docs/benchmarks.md`.
//! Every dialect reads the same 100 events with the same properties. The figure is the median of many rounds,
//! in which all dialects take turns.

use std::hint::black_box;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use millrace_event::dialect::{
    Dialect, amplitude, cloudevents, lago, mixpanel, native, otlp, posthog, read, segment, snowplow,
};
use millrace_event::event::{Origin, batch_id_of_key};
use millrace_event::plan::ProjectId;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use prost::Message;
use serde_json::{Value, json};

const EVENTS: usize = 100;
const ROUNDS: usize = 400;

/// What the SDK of a dialect sends for the same event.
fn bodies() -> Vec<(&'static str, &'static Dialect, Value)> {
    let time = "2026-11-20T10:00:00.123Z";
    let ms = 1_795_168_800_123_i64;
    let id = |index: usize| format!("0199a0c8-91ab-4000-8000-{index:012}");
    let properties = |more: Value| {
        let mut properties = json!({
            "order_id": "order-100042", "revenue": 19.9, "currency": "EUR", "coupon": "WELCOME", "items": 3,
            "products": [{"sku": "a-1", "price": 9.95, "quantity": 2}], "url": "https://shop.example/checkout?step=2",
        });
        properties.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        properties
    };
    let library = json!({"library": {"name": "sdk", "version": "1.2.3"}});
    let all = |event: &dyn Fn(usize) -> Value| (0..EVENTS).map(event).collect::<Vec<_>>();
    vec![
        (
            "native",
            &native::JSON,
            json!({"events": all(&|index| json!({"id": id(index), "name": "Order Completed",
            "timestamp": time, "subject": "user-1", "properties": properties(json!({})), "context": library}))}),
        ),
        (
            "Segment",
            &segment::BATCH,
            json!({"sentAt": time, "batch": all(&|index| json!({"type": "track", "event": "Order Completed",
            "messageId": id(index), "timestamp": time, "userId": "user-1", "anonymousId": null, "integrations": {},
            "properties": properties(json!({})), "context": library}))}),
        ),
        (
            "PostHog",
            &posthog::CAPTURE,
            json!({"api_key": "k", "sent_at": time, "batch": all(&|index| json!({"event": "Order Completed",
            "distinct_id": "user-1", "uuid": id(index), "timestamp": time,
            "properties": properties(json!({"$lib": "sdk", "$lib_version": "1.2.3"}))}))}),
        ),
        (
            "CloudEvents, OpenMeter",
            &cloudevents::EVENTS,
            json!(all(&|index| json!({"id": id(index), "source": "/shop",
            "specversion": "1.0", "type": "Order Completed", "subject": "user-1", "time": time,
            "data": properties(json!({}))}))),
        ),
        (
            "Lago",
            &lago::EVENTS,
            json!({"events": all(&|index| json!({"transaction_id": id(index), "code": "Order Completed",
            "external_subscription_id": "user-1", "timestamp": ms / 1_000, "properties": properties(json!({}))}))}),
        ),
        (
            "Amplitude",
            &amplitude::EVENTS,
            json!({"api_key": "k", "events": all(&|index| json!({"event_type": "Order Completed",
            "user_id": "user-1", "device_id": "device-1", "insert_id": id(index), "time": ms, "library": "sdk/1.2.3",
            "event_properties": properties(json!({}))}))}),
        ),
        (
            "Mixpanel",
            &mixpanel::EVENTS,
            json!(all(&|index| json!({"event": "Order Completed", "properties": properties(json!({
            "token": "k", "distinct_id": "user-1", "$insert_id": id(index), "time": ms, "mp_lib": "sdk",
            "$lib_version": "1.2.3"}))}))),
        ),
        (
            "Snowplow",
            &snowplow::EVENTS,
            json!({"schema": "iglu:com.snowplowanalytics.snowplow/payload_data/jsonschema/1-0-4",
            "data": all(&|index| json!({"e": "ue", "eid": id(index), "dtm": ms.to_string(), "stm": ms.to_string(),
            "tv": "sdk-1.2.3", "aid": "shop", "p": "srv", "uid": "user-1", "ue_px": self_describing(properties(json!({})))}))}),
        ),
    ]
}

/// The same events as log records.
fn log_records() -> Value {
    let text = |text: &str| json!({"stringValue": text});
    let attribute = |key: &str, value: Value| json!({"key": key, "value": value});
    let product = json!({"kvlistValue": {"values": [attribute("sku", text("a-1")),
        attribute("price", json!({"doubleValue": 9.95})), attribute("quantity", json!({"intValue": "2"}))]}});
    let record = |index: usize| {
        json!({"timeUnixNano": "1795168800123000000", "observedTimeUnixNano": (1_795_168_800_123_000_000 + index).to_string(),
        "severityNumber": 9, "severityText": "INFO", "eventName": "Order Completed", "attributes": [
            attribute("user.id", text("user-1")), attribute("order_id", text("order-100042")),
            attribute("revenue", json!({"doubleValue": 19.9})), attribute("currency", text("EUR")),
            attribute("coupon", text("WELCOME")), attribute("items", json!({"intValue": "3"})),
            attribute("products", json!({"arrayValue": {"values": [product]}})),
            attribute("url", text("https://shop.example/checkout?step=2"))]})
    };
    let resource = json!({"attributes": [attribute("service.name", text("shop")), attribute("telemetry.sdk.language", text("python")),
        attribute("telemetry.sdk.name", text("opentelemetry")), attribute("telemetry.sdk.version", text("1.45.2"))]});
    let records: Vec<_> = (0..EVENTS).map(record).collect();
    json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"scope": {"name": "shop"}, "logRecords": records}]}]})
}

/// An event that describes itself, in base64.
fn self_describing(data: Value) -> String {
    let event = json!({"schema": "iglu:com.snowplowanalytics.snowplow/unstruct_event/jsonschema/1-0-0",
        "data": {"schema": "iglu:com.acme/order_completed/jsonschema/1-0-0", "data": data}});
    URL_SAFE_NO_PAD.encode(event.to_string())
}

fn main() {
    let origin = Origin::new(ProjectId(1), batch_id_of_key(ProjectId(1), "bench"));
    let mut bodies: Vec<_> = bodies()
        .into_iter()
        .map(|(name, dialect, body)| (name, dialect, body.to_string().into_bytes()))
        .collect();
    let records = log_records();
    let message: ExportLogsServiceRequest = serde_json::from_value(records.clone()).expect("it is OTLP");
    bodies.push(("OpenTelemetry, JSON", &otlp::JSON, records.to_string().into_bytes()));
    bodies.push(("OpenTelemetry, protobuf", &otlp::PROTOBUF, message.encode_to_vec()));
    let mut times = vec![Vec::with_capacity(ROUNDS); bodies.len()];
    for _ in 0..ROUNDS {
        for ((_, dialect, body), times) in bodies.iter().zip(&mut times) {
            let began = Instant::now();
            let batch = read(dialect, black_box(body), origin, EVENTS).expect("the body is valid");
            times.push(began.elapsed());
            assert_eq!((batch.count as usize, batch.dead.len()), (EVENTS, 0));
        }
    }
    println!("| dialect | bytes/event | µs/event | native = 1 |\n|---|---|---|---|");
    let mut native_us = None;
    for ((name, _, body), times) in bodies.iter().zip(&mut times) {
        times.sort_unstable();
        let us = times[ROUNDS / 2].as_secs_f64() * 1e6 / EVENTS as f64;
        let ratio = us / *native_us.get_or_insert(us);
        println!("| {name} | {} | {us:.2} | {ratio:.2} |", body.len() / EVENTS);
    }
}
