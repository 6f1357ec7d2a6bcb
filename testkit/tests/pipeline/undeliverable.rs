//! Broken calls of SDKs, from the post to the store: what is accepted is stored or dead-lettered.

use serde_json::json;
use testkit::http::HttpClient;

use crate::stack::{KEY, Stack};

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_accepted_is_stored_or_becomes_a_dead_letter_with_its_text() {
    let stack = Stack::start().await;
    let (_api, address) = stack.api().await;
    let _worker = stack.worker().await;
    let mut client = HttpClient::new(address);
    let authorization = format!("Bearer {KEY}");
    let auth = [("authorization", authorization.as_str())];
    let body = br#"{"context":{"locale":"batch"},"batch":[
        {"type":"track","event":"good","userId":"u","context":{"locale":"call"}},
        {"type":"track","event":"cut","userId":"u","properties":{"t":"cut \ud83d","n":NaN}},
        {"type":"track","event":"late","userId":"u","timestamp":"2026-11-20T10:00:00.123:Z"},
        {"type":"tarck","event":"lost?","userId":"u"},
        {"type":"track","event":"lost?","userId":"u","properties":{"v":1e400}},
        {"type":"track","event":"lost?","userId":"u","properties":{"v":undefined}}]}"#;
    let answer = client.post("/v1/batch", &auth, &body[..]).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let dead = answer.json()["dead"].clone();
    let codes: Vec<_> = dead.as_array().unwrap().iter().map(|call| (&call["index"], &call["code"])).collect();
    let (three, four, five) = (json!(3), json!(4), json!(5));
    let (kind, number, broken) = (json!("invalid_type"), json!("invalid_number"), json!("invalid_json"));
    assert_eq!(codes, [(&three, &kind), (&four, &number), (&five, &broken)]);

    stack.settle_and_audit().await;
    assert_eq!(stack.events().await, 3);
    let stored = "SELECT count(*) FROM events WHERE (name = 'good' AND context ->> 'locale' = 'call') \
                  OR (name = 'cut' AND properties = '{\"t\": \"cut \u{FFFD}\", \"n\": null}') \
                  OR (name = 'late' AND timestamp = '2026-11-20T10:00:00.123Z')";
    assert_eq!(stack.count(stored).await, 3);
    let letters = stack
        .database
        .query(
            "SELECT code, event_index, convert_from(payload, 'UTF8') FROM dead_letters ORDER BY event_index",
            &[],
        )
        .await
        .unwrap();
    let letters: Vec<(String, i32, String)> =
        letters.iter().map(|letter| (letter.get(0), letter.get(1), letter.get(2))).collect();
    let text = |call: &str| call.to_owned();
    let expected = [
        (text("invalid_type"), 3, text(r#"{"type":"tarck","event":"lost?","userId":"u"}"#)),
        (
            text("invalid_number"),
            4,
            text(r#"{"type":"track","event":"lost?","userId":"u","properties":{"v":1e400}}"#),
        ),
        (
            text("invalid_json"),
            5,
            text(r#"{"type":"track","event":"lost?","userId":"u","properties":{"v":undefined}}"#),
        ),
    ];
    assert_eq!(letters, expected);
    assert_eq!(stack.count("SELECT sum(dead)::bigint FROM usage_hourly").await, 3);
}
