//! The events whose figures the tests know: of two customers, around the night in which Berlin sets its
//! clocks back.

use serde_json::{Value, json};

use crate::site::Site;

/// The sum of the first three, which no float holds, is that of the 25th in Berlin.
const EVENTS: &str = r#"[
    {"name": "llm_call", "subject": "acme", "timestamp": "2026-10-24T21:30:00Z", "properties": {"tokens": 0.1, "model": "a"}},
    {"name": "llm_call", "subject": "acme", "timestamp": "2026-10-24T22:00:00Z", "properties": {"tokens": 0.2, "model": "a"}},
    {"name": "llm_call", "subject": "acme", "timestamp": "2026-10-25T00:15:00Z", "properties": {"tokens": 9007199254740993, "model": "b"}},
    {"name": "llm_call", "subject": "globex", "timestamp": "2026-10-25T01:15:00Z", "properties": {"tokens": 1.50, "model": "a"}},
    {"name": "llm_call", "timestamp": "2026-10-25T12:00:00Z", "properties": {"tokens": "3.25", "model": "a"}},
    {"name": "llm_call", "subject": "globex", "timestamp": "2026-10-25T23:00:00Z", "properties": {"tokens": 2}},
    {"name": "llm_call", "subject": "acme", "timestamp": "2026-10-25T23:00:00Z", "properties": {"tokens": "many", "model": "a"}},
    {"name": "llm_call", "subject": "acme", "timestamp": "2026-10-25T23:00:00Z", "properties": {"model": "a"}},
    {"name": "other", "subject": "acme", "timestamp": "2026-10-25T23:00:00Z", "properties": {"tokens": 1000}}
]"#;

/// The period of the events, in Berlin from the 24th to the 26th.
pub const PERIOD: &str = "from=2026-10-23T22:00:00Z&to=2026-10-26T23:00:00Z";

impl Site {
    /// Creates the meters `calls`, `tokens` and `users`, and stores the events.
    pub async fn with_a_bill(self) -> Self {
        self.create_meters(&[]).await;
        self.store_events().await;
        self
    }

    pub async fn create_meters(&self, options: &[&str]) {
        let create = ["meter", "create", "shop"];
        let tokens = ["tokens", "--aggregation", "sum", "--value", "$.tokens", "--group-by", "model=$.model"]
            .as_slice();
        let users = ["users", "--aggregation", "unique_count", "--value", "subject"].as_slice();
        for meter in [["calls"].as_slice(), tokens, users] {
            let arguments = [&create, meter, &["--event", "llm_call"], options].concat();
            self.installation.text(&arguments).await;
        }
    }

    pub async fn store_events(&self) {
        let bearer = format!("Bearer {}", self.key);
        let headers = [("authorization", bearer.as_str()), ("prefer", "wait=30")];
        let answer = testkit::http::post(self.address, "/v1/events", &headers, EVENTS).await;
        assert_eq!((answer.status, &answer.json()["stored"]), (200, &json!(9)), "{answer:?}");
    }
}

/// The rows of a table, without those members.
pub fn rows_without(report: &Value, members: &[&str]) -> Value {
    let mut rows = report["rows"].clone();
    for row in rows.as_array_mut().unwrap() {
        members.iter().for_each(|member| drop(row.as_object_mut().unwrap().shift_remove(*member)));
    }
    rows
}
