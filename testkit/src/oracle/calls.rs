//! Calls of SDKs, generated from the same seed as the events: those that an event is made of, and those that
//! must become dead letters with their text and their reason.

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::events::{Event, EventKind, EventSource, Version, properties, rfc3339};

/// One of this many calls cannot be delivered.
const UNDELIVERABLE_ONE_IN: u32 = 6;

/// A call that no event can be made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrokenCall {
    /// The call as it is posted. It has the number as `"n":1`, as events have it in their properties.
    pub text: Vec<u8>,
    /// The reason that the answer and the dead letter must give.
    pub code: &'static str,
}

impl EventSource {
    /// Generates the call with this number.
    pub fn call(&self, number: u64) -> Event {
        let mut rng = self.rng(number);
        let is_broken = rng.random_range(0..UNDELIVERABLE_ONE_IN) == 0;
        Event {
            number,
            kind: if is_broken { EventKind::Undeliverable } else { EventKind::Call },
            id: (!is_broken).then(|| format!("call {number}")),
            uuid: None,
            time_us: (!is_broken).then(|| self.time(&mut rng)),
            name: "Order Completed".to_owned(),
            subject: Some(format!("user-{}", rng.random_range(0..1_000))),
            properties: properties(number, &mut rng),
            // With the fields of a call that have no column.
            context: Some(json!({"library": {"name": "drill"}, "segment": {"type": "track"}})),
            version: Version::First,
        }
    }

    /// The text and the reason of a call of the kind [`EventKind::Undeliverable`].
    pub fn broken_call(&self, number: u64) -> BrokenCall {
        // Not the numbers that have decided about the kind.
        let mut rng: StdRng = self.rng(!number);
        let n = number;
        let (text, code): (Vec<u8>, _) = match rng.random_range(0..7) {
            0 => {
                (format!(r#"{{"type":"tarck","event":"e","properties":{{"n":{n}}}}}"#).into(), "invalid_type")
            }
            1 => {
                (format!(r#"{{"type":"track","event":"e","n":{n},"properties":[1]}}"#).into(), "invalid_type")
            }
            2 => (
                format!(r#"{{"type":"track","event":"e","properties":{{"n":{n},"v":1e400}}}}"#).into(),
                "invalid_number",
            ),
            3 => (
                format!(r#"{{"type":"track","event":"e","properties":{{"n":{n},"v":undefined}}}}"#).into(),
                "invalid_json",
            ),
            4 => (
                format!(r#"{{"type":"track","userId":"u","properties":{{"n":{n}}}}}"#).into(),
                "missing_field",
            ),
            5 => {
                let deep = ["[".repeat(100), "]".repeat(100)].concat();
                let call = format!(r#"{{"type":"track","event":"e","properties":{{"n":{n},"v":{deep}}}}}"#);
                (call.into(), "too_deep")
            }
            _ => {
                let head = format!(r#"{{"type":"track","event":"e","properties":{{"n":{n},"v":"#);
                ([head.as_bytes(), b"\"\xFF\x01\" 7}}"].concat(), "invalid_json")
            }
        };
        BrokenCall { text, code }
    }
}

impl Event {
    /// The call as it is posted, unless it is broken.
    pub fn call_json(&self) -> Value {
        let mut context = self.context.clone().unwrap_or_else(|| json!({}));
        context.as_object_mut().expect("a context is an object").remove("segment");
        json!({
            "type": "track",
            "messageId": self.id,
            "event": self.name,
            "userId": self.subject,
            "timestamp": self.time_us.map(rfc3339),
            "properties": self.properties,
            "context": context,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn calls_of_both_kinds_are_generated_and_broken_ones_for_every_reason() {
        let source = EventSource::new(7, 1_795_000_000_000);
        let calls: Vec<_> = (0..500).map(|number| source.call(number)).collect();
        let broken = calls.iter().filter(|call| call.kind == EventKind::Undeliverable);
        let codes: BTreeSet<_> = broken.map(|call| source.broken_call(call.number).code).collect();
        let expected = ["invalid_json", "invalid_number", "invalid_type", "missing_field", "too_deep"];
        assert_eq!(codes, expected.into());
        assert!(calls.iter().filter(|call| call.kind == EventKind::Call).count() > 300);
    }
}
