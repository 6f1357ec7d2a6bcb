//! Lago's protocol. Its SDKs read the event in the answer to a single one, and nothing of the answer to a
//! batch.

use hyper::http::request::Parts;
use millrace_event::dialect::{Dialect, lago};
use serde_json::{Value, json};

use super::{Protocol, ok};
use crate::answer::Answer;
use crate::error::Problem;
use crate::ingest::Receipt;
use crate::packing::Packing;

/// `{"event":{…}}` at `/api/v1/events`.
pub static EVENT: Protocol = protocol(&lago::EVENT, one_event);
/// `/api/v1/events/batch`
pub static BATCH: Protocol = protocol(&lago::EVENTS, |_, _| ok("{}"));

const fn protocol(dialect: &'static Dialect, success: fn(&Parts, &Receipt) -> Answer) -> Protocol {
    Protocol {
        dialect,
        packing: Packing::Plain,
        id_member: None,
        complete: None,
        choose: None,
        empty: None,
        success,
        refusal: Problem::answer,
    }
}

/// The event as it was sent. One that became a dead letter is null.
fn one_event(_head: &Parts, receipt: &Receipt) -> Answer {
    let sent: Option<Value> = serde_json::from_slice(&receipt.body).ok();
    let event = sent.filter(|_| receipt.dead.is_empty()).map(|mut body| body["event"].take());
    let Some(Value::Object(event)) = event else {
        return ok(r#"{"event":null}"#);
    };
    let text = |name: &str| match event.get(name) {
        Some(Value::Number(number)) => Value::from(number.to_string()),
        Some(value) => value.clone(),
        None => Value::Null,
    };
    let event = json!({
        "lago_id": null,
        "transaction_id": text("transaction_id"),
        "lago_customer_id": null,
        "lago_subscription_id": null,
        "external_subscription_id": text("external_subscription_id"),
        "code": text("code"),
        "timestamp": match text("timestamp") {
            Value::String(time) => time,
            _ => String::new(),
        },
        "precise_total_amount_cents": text("precise_total_amount_cents"),
        "properties": event.get("properties"),
        "created_at": null,
    });
    ok(json!({ "event": event }).to_string())
}
