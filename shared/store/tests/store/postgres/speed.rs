//! A measurement of the writer:
//! `cargo test --release -p millrace-store --test store -- --ignored --nocapture speed`.

use std::time::{Duration, Instant};

use futures_util::SinkExt;
use uuid::Uuid;

use super::harness;
use crate::suite::speed::{PROPERTIES, TAKES, duplicates_per_second};
use crate::suite::*;

const EVENTS_PER_WRITE: u64 = 10_000;

/// Rows per second of `lanes` writers, with this many events of a thousand sent twice.
async fn rows_per_second(batch_events: u64, duplicates_per_mille: u64, lanes: u64) -> f64 {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..lanes {
        let (mut writer, now) = (writer(&store).await, now_ms());
        tasks.spawn(async move {
            let (mut next_id, mut seq) = (u128::from(lane) << 64, lane << 32);
            let (mut rows, mut busy) = (0_u64, Duration::ZERO);
            while busy < TAKES {
                let mut requests = Vec::new();
                for _ in 0..EVENTS_PER_WRITE / batch_events {
                    let batch: Vec<_> = (0..batch_events)
                        .map(|at| {
                            next_id += 1;
                            let repeats = (next_id as u64 * 7_919 + at) % 1_000 < duplicates_per_mille;
                            let id = if repeats { next_id.saturating_sub(20_000).max(1) } else { next_id };
                            let spread =
                                Uuid::from_u128(id.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835));
                            let time = at_ms(now + (id as u64 & 0xFFFF_FFFF) / 100);
                            Event { id: spread, properties: Some(PROPERTIES.to_owned()), ..event(time, 0) }
                        })
                        .collect();
                    requests.push(request(project, new_batch_id(), entry(now, seq), &batch));
                    seq += 1;
                }
                let started = Instant::now();
                writer.write(&requests).await.expect("written");
                busy += started.elapsed();
                rows += EVENTS_PER_WRITE;
            }
            rows as f64 / busy.as_secs_f64()
        });
    }
    let total = tasks.join_all().await.iter().sum();
    balanced(&store, project).await;
    total
}

/// Rows per second of an import of this many days of history in random order, 20 batches of 200 events in a
/// write. Without upkeep before it, the writer knows no days and fills the default partition.
async fn history(days: u64, after_upkeep: bool) -> f64 {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    if after_upkeep {
        store.upkeep(&keep_all()).await.expect("upkeep");
    }
    let (mut writer, now) = (writer(&store).await, now_ms());
    let (mut next_id, mut busy) = (0_u128, Duration::ZERO);
    let rows = days * 2_000;
    for seq in 0..rows / 4_000 {
        let batch = |part: u64| {
            let events: Vec<_> = (0..200)
                .map(|_| {
                    next_id += 1;
                    let spread = next_id.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
                    let time = at_ms(now - (8 + (spread >> 64) as u64 % days) * DAY_MS - seq);
                    Event { properties: Some(PROPERTIES.to_owned()), ..event(time, spread) }
                })
                .collect();
            request(project, new_batch_id(), entry(now, seq * 20 + part), &events)
        };
        let requests: Vec<_> = (0..20).map(batch).collect();
        let started = Instant::now();
        writer.write(&requests).await.expect("written");
        busy += started.elapsed();
    }
    let started = Instant::now();
    if !after_upkeep {
        store.upkeep(&keep_all()).await.expect("upkeep");
        println!(
            "moving the rows of {days} days: {:.1} s in the first round",
            started.elapsed().as_secs_f64()
        );
    }
    balanced(&store, project).await;
    rows as f64 / busy.as_secs_f64()
}

/// Milliseconds to find 10 duplicates when events has this many days.
async fn lookup(days: u64) -> f64 {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    store.upkeep(&keep_all()).await.expect("upkeep");
    let (mut writer, now) = (writer(&store).await, now_ms());
    for day in 8..8 + days {
        let old = events(now - day * DAY_MS, [1]);
        writer.write(&[request(project, new_batch_id(), entry(now, day), &old)]).await.expect("written");
    }
    let batch = events(now, 1..=10);
    let mut took = Vec::new();
    for seq in 0..200 {
        let again = request(project, new_batch_id(), entry(now, 1_000_000 + seq), &batch);
        let started = Instant::now();
        writer.write(&[again]).await.expect("written");
        took.push(started.elapsed().as_secs_f64() * 1_000.0);
    }
    took.sort_by(f64::total_cmp);
    took[took.len() / 2]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn history_speed() {
    for days in [90, 400] {
        println!("{days} days into the default partition: {:.0} rows/s", history(days, false).await);
        println!("{days} days into their partitions: {:.0} rows/s", history(days, true).await);
    }
    for days in [0, 400, 1_500] {
        println!("a write of 10 duplicates with {days} days: {:.2} ms", lookup(days).await);
    }
}

/// Rows per second of bare COPYs into the same table, for comparison.
async fn bare_copy() -> f64 {
    let harness = harness().await;
    let project = project(&harness.store(), "p").await;
    let client = harness.connect().await;
    let now = now_ms();
    let (mut next_id, mut rows, mut busy) = (0_u64, 0_u64, Duration::ZERO);
    while busy < TAKES {
        let mut data = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        for _ in 0..EVENTS_PER_WRITE {
            next_id += 1;
            let time = at_ms(now + next_id / 100);
            let spread = u128::from(next_id).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
            data.extend(row(
                project,
                &Event { properties: Some(PROPERTIES.to_owned()), ..event(time, spread) },
            ));
        }
        data.extend((-1_i16).to_be_bytes());
        let started = Instant::now();
        let copy = format!("COPY events ({}) FROM STDIN BINARY", millrace_event::row::COLUMNS);
        let mut sink = Box::pin(client.copy_in(&copy).await.expect("a COPY"));
        sink.send(bytes::Bytes::from(data)).await.expect("sent");
        sink.as_mut().finish().await.expect("copied");
        busy += started.elapsed();
        rows += EVENTS_PER_WRITE;
    }
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
    println!("a bare COPY, 1 connection: {:.0} rows/s", bare_copy().await);
    for lanes in [1, 2] {
        for batch_events in [10, 200] {
            for duplicates_per_mille in [0, 6, 100] {
                let rate = rows_per_second(batch_events, duplicates_per_mille, lanes).await;
                let percent = duplicates_per_mille as f64 / 10.0;
                println!(
                    "{lanes} lanes, batches of {batch_events}, {percent} % duplicates: {rate:.0} rows/s"
                );
            }
        }
    }
}
