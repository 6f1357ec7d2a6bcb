//! A measurement of the writer:
//! `cargo test --release -p millrace-store --test store -- --ignored --nocapture sqlite::speed`.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::harness;
use crate::suite::speed::{PROPERTIES, TAKES, duplicates_per_second};
use crate::suite::*;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed_of_a_retry_storm() {
    let harness = harness().await;
    println!("only duplicates: {:.0} rows/s", duplicates_per_second(&harness.store()).await);
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
