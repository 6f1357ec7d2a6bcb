//! A measurement of the writer:
//! `cargo test --release -p millrace-store --test store -- --ignored --nocapture sqlite::speed`.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::harness;
use crate::suite::*;

const TAKES: Duration = Duration::from_secs(4);
const PROPERTIES: &str = r#"{"url":"https://shop.example/products/4711?ref=mail","price":49.9,"currency":"EUR",
    "category":"shoes","quantity":2,"tags":["sale","spring"],"variant":{"size":42,"color":"dark green"},
    "session":"f1d2d2f924e986ac86fdf7b36c94bcdf32beec15","position":17,"list":"search results"}"#;

/// Rows per second of one writer.
async fn rows_per_second(events_per_write: u64, batch_events: u64) -> f64 {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let (mut writer, now) = (writer(&store).await, now_ms());
    let (mut next_id, mut seq, mut rows, mut busy) = (0_u64, 0, 0, Duration::ZERO);
    while busy < TAKES {
        let mut requests = Vec::new();
        for _ in 0..events_per_write / batch_events {
            let mut batch = Vec::new();
            for _ in 0..batch_events {
                next_id += 1;
                let spread = u128::from(next_id).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
                let event = event(at_ms(now + next_id / 100), spread);
                batch.push(Event { properties: Some(PROPERTIES.to_owned()), ..event });
            }
            requests.push(request(project, Uuid::now_v7(), entry(now + next_id / 100, seq), &batch));
            seq += 1;
        }
        let started = Instant::now();
        writer.write(&requests).await.expect("written");
        busy += started.elapsed();
        rows += events_per_write;
    }
    balanced(&store, project).await;
    rows as f64 / busy.as_secs_f64()
}

/// Rows per second of one writer in a retry storm: every event was stored before.
async fn duplicates_per_second() -> f64 {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let (mut writer, now) = (writer(&store).await, now_ms());
    let batch = |number: u64| -> Vec<Event> {
        let ids = (0..200).map(|at| u128::from(number * 200 + at + 1));
        let spread = ids.map(|id| (id, id.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)));
        spread
            .map(|(id, spread)| Event {
                properties: Some(PROPERTIES.to_owned()),
                ..event(at_ms(now + id as u64 / 100), spread)
            })
            .collect()
    };
    let batches: Vec<_> = (0..50).map(batch).collect();
    let (mut seq, mut rows, mut busy) = (0, 0_u64, Duration::ZERO);
    while busy < TAKES {
        let next = |batch: &Vec<Event>| {
            seq += 1;
            request(project, Uuid::now_v7(), entry(now + seq, seq), batch)
        };
        let requests: Vec<_> = batches.iter().map(next).collect();
        let started = Instant::now();
        writer.write(&requests).await.expect("written");
        // The first write stores them.
        if seq > 50 {
            busy += started.elapsed();
            rows += 10_000;
        }
    }
    balanced(&store, project).await;
    rows as f64 / busy.as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed_of_a_retry_storm() {
    println!("only duplicates: {:.0} rows/s", duplicates_per_second().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed() {
    for (events_per_write, batch_events) in [(200, 10), (2_000, 1), (2_000, 10), (2_000, 200), (10_000, 200)]
    {
        let rate = rows_per_second(events_per_write, batch_events).await;
        println!("{events_per_write} rows a write, batches of {batch_events}: {rate:.0} rows/s");
    }
}
