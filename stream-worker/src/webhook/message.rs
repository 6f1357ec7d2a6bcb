//! What a notification says, and its signature.

use millrace_event::webhook::{sign, webhook_id};
use millrace_store::Notification;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A message of Standard Webhooks: the headers and the body.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// `webhook-id`, the same in each attempt.
    pub id: String,
    /// `webhook-timestamp`: the time of the attempt, in seconds since 1970.
    pub timestamp: String,
    /// `webhook-signature`.
    pub signature: String,
    pub body: Vec<u8>,
}

impl Message {
    /// The message about a threshold that was reached, as it is sent at this time.
    pub fn new(notification: &Notification, secrets: &[Vec<u8>], now: OffsetDateTime) -> Self {
        let id = webhook_id(notification.webhook_id);
        let timestamp = now.unix_timestamp().to_string();
        let body = body(notification).to_string().into_bytes();
        let signature = sign(secrets, &id, &timestamp, &body);
        Self { id, timestamp, signature, body }
    }
}

/// The same in each attempt.
fn body(notification: &Notification) -> Value {
    let mut data = Map::new();
    let mut add = |name: &str, value: Value| data.insert(name.to_owned(), value);
    add("project", json!(notification.project_name));
    add("threshold", json!(notification.threshold_name));
    add("kind", json!(notification.kind));
    if let Some(percent) = notification.percent {
        add(&format!("{}_percent", notification.kind), json!(percent));
    }
    if let Some(meter) = &notification.meter {
        add("meter", json!(meter));
        add("subject", json!(notification.subject));
    }
    add("period", json!(<&str>::from(notification.period)));
    add("period_start", json!(shown(notification.period_start)));
    add("period_end", json!(shown(notification.period_end)));
    add("threshold_value", json!(notification.threshold));
    add("value", json!(notification.value));
    json!({ "type": "threshold.crossed", "timestamp": shown(notification.created_at), "data": data })
}

fn shown(moment: OffsetDateTime) -> String {
    moment.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use millrace_event::key::show_secret;
    use millrace_event::plan::ProjectId;
    use millrace_store::{DeliveryStatus, NotificationState, ThresholdPeriod};
    use time::macros::datetime;
    use uuid::Uuid;

    use super::*;

    fn notification() -> Notification {
        Notification {
            notification_id: 7,
            project: ProjectId(1),
            project_name: "shop".to_owned(),
            threshold_name: "tokens".to_owned(),
            kind: "meter".to_owned(),
            percent: None,
            meter: Some("tokens".to_owned()),
            subject: "acme \"1\"".to_owned(),
            period: ThresholdPeriod::Month,
            period_start: datetime!(2026-11-01 0:00 UTC),
            period_end: datetime!(2026-12-01 0:00 UTC),
            threshold: "1000000".to_owned(),
            value: "1000000.5".to_owned(),
            created_at: datetime!(2026-11-28 3:04:05.25 UTC),
            webhook_id: Uuid::from_u128(0xabc),
            delivery: DeliveryStatus {
                state: NotificationState::Pending,
                attempts: 1,
                next_attempt_at: OffsetDateTime::UNIX_EPOCH,
                attempted_at: None,
                status: None,
                error: None,
            },
        }
    }

    #[test]
    fn the_reference_library_verifies_the_message_with_each_secret() {
        let secrets = [b"0123456789abcdef0123456789abcdef".to_vec(), b"another secret, as long".to_vec()];
        let message = Message::new(&notification(), &secrets, OffsetDateTime::now_utc());
        let mut headers = hyper::HeaderMap::new();
        headers.insert("webhook-id", message.id.parse().unwrap());
        headers.insert("webhook-timestamp", message.timestamp.parse().unwrap());
        headers.insert("webhook-signature", message.signature.parse().unwrap());
        for secret in &secrets {
            let library = standardwebhooks::Webhook::new(&show_secret(secret)).unwrap();
            library.verify(&message.body, &headers).unwrap();
            library.verify(b"{}", &headers).unwrap_err();
        }
    }

    #[test]
    fn the_body_and_the_id_are_the_same_in_each_attempt() {
        let first = Message::new(&notification(), &[], datetime!(2026-11-28 3:05 UTC));
        let second = Message::new(&notification(), &[], datetime!(2026-11-29 3:05 UTC));
        assert_eq!((&first.id, &first.body), (&second.id, &second.body));
        assert_eq!(first.id, "msg_00000000000000000000000000000abc");
        let expected = r#"{"type":"threshold.crossed","timestamp":"2026-11-28T03:04:05.25Z","data":{"project":"shop",
            "threshold":"tokens","kind":"meter","meter":"tokens","subject":"acme \"1\"","period":"month",
            "period_start":"2026-11-01T00:00:00Z","period_end":"2026-12-01T00:00:00Z",
            "threshold_value":"1000000","value":"1000000.5"}}"#;
        let expected: Value = serde_json::from_str(expected).unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&first.body).unwrap(), expected);
    }

    #[test]
    fn a_share_has_the_name_of_what_it_is_a_share_of() {
        for kind in ["quota", "limit"] {
            let shared = Notification { kind: kind.to_owned(), percent: Some(80), ..notification() };
            let data = &body(&shared)["data"];
            assert_eq!((&data["kind"], &data[format!("{kind}_percent")]), (&json!(kind), &json!(80)));
        }
    }
}
