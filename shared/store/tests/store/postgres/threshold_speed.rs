//! What thresholds cost.
//! `cargo test --release -p millrace-store --test store -- --ignored --nocapture speed_with_thresholds`.

use std::time::Instant;

use millrace_event::meter::Aggregation;
use millrace_event::plan::ProjectId;
use millrace_event::row::Row;
use millrace_store::{MeterStart, ThresholdPeriod, WriteRequest};
use uuid::Uuid;

use super::harness;
use crate::suite::metered::create;
use crate::suite::thresholds::{of_meter, quota};
use crate::suite::*;

const ROUNDS: u64 = 20;
const EVENTS: u64 = 20_000;
const SUBJECTS: u64 = 10_000;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Threshold {
    None,
    Quota,
    Meter,
}

/// A transaction with events of these customers.
fn transaction(project: ProjectId, round: u64) -> WriteRequest {
    let (now, first) = (now_ms(), round * EVENTS);
    let rows = (first..first + EVENTS).map(|id| {
        let subject = format!("customer-{}", id.wrapping_mul(0x9E37_79B9_7F4A_7C15) % SUBJECTS);
        let mut bytes = Vec::new();
        Row {
            time: at_ms(now),
            subject: Some(&subject),
            properties: Some(br#"{"n":12.50,"model":"large","status":200}"#),
            ..Row::bare(project, Uuid::from_u128(id.into()), "call")
        }
        .write(&mut bytes);
        bytes
    });
    request_of_rows(project, entry(now, round), &rows.collect::<Vec<_>>())
}

/// Events per second with a meter, and the mean of the moves in milliseconds.
async fn rate(threshold: Threshold) -> (f64, f64) {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    create(&store, Aggregation::Sum, MeterStart::Now).await;
    let definition = match threshold {
        Threshold::None => None,
        Threshold::Quota => Some(quota("most", 100)),
        Threshold::Meter => Some(of_meter("much", Aggregation::Sum, ThresholdPeriod::Month, "1000000000")),
    };
    if let Some(definition) = definition {
        store.set_threshold("p", &definition).await.expect("set");
    }
    let mut lane = writer(&store).await;
    let (mut written, mut moved) = (0.0, 0.0);
    for round in 0..ROUNDS {
        let request = transaction(project, round);
        let began = Instant::now();
        lane.write(&[request]).await.expect("written");
        written += began.elapsed().as_secs_f64();
        let began = Instant::now();
        store.move_additions().await.expect("moved");
        moved += began.elapsed().as_secs_f64();
    }
    ((ROUNDS * EVENTS) as f64 / written, moved * 1e3 / ROUNDS as f64)
}

#[tokio::test]
#[ignore = "a measurement"]
async fn speed_with_thresholds() {
    for _ in 0..2 {
        for threshold in [Threshold::None, Threshold::Quota, Threshold::Meter] {
            let (rate, moved) = rate(threshold).await;
            println!("{threshold:?}: {rate:.0} events/s, a move of {SUBJECTS} figures in {moved:.0} ms");
        }
    }
}

/// The first move after a threshold was set in the middle of a month sums up what was there before.
#[tokio::test]
#[ignore = "a measurement"]
async fn speed_of_the_first_move_with_a_threshold() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    create(&store, Aggregation::Sum, MeterStart::Now).await;
    let client = harness.connect().await;
    let fill = "INSERT INTO meter_usage (meter_id, subject, bucket, groups, events, value)
                SELECT 1, 'customer-' || s, date_trunc('month', now(), 'UTC') + b * interval '15 minutes', '[\"m\"]', 7, 1
                  FROM generate_series(0, 99999) s, LATERAL generate_series(s % 29, 2687, 29) b;
                ANALYZE meter_usage";
    client.batch_execute(fill).await.expect("filled");
    let rows: i64 = client.query_one("SELECT count(*) FROM meter_usage", &[]).await.expect("a count").get(0);
    let definition = of_meter("much", Aggregation::Sum, ThresholdPeriod::Month, "1000000000");
    store.set_threshold("p", &definition).await.expect("set");
    let mut lane = writer(&store).await;
    for round in 0..3 {
        lane.write(&[transaction(project, round)]).await.expect("written");
        let began = Instant::now();
        store.move_additions().await.expect("moved");
        let ms = began.elapsed().as_secs_f64() * 1e3;
        println!("move {round} of {SUBJECTS} figures next to {rows} rows: {ms:.0} ms");
    }
}

/// A transaction sums up the hours of its month.
#[tokio::test]
#[ignore = "a measurement"]
async fn speed_of_small_transactions_with_a_threshold_of_the_quota() {
    for is_watched in [false, true, false, true] {
        let harness = harness().await;
        let store = harness.store();
        let project = project(&store, "p").await;
        let client = harness.connect().await;
        let fill = "SET millrace.counts_meters = 'on';
                    INSERT INTO usage_hourly (project_id, hour, events)
                    SELECT 1, h, 1 FROM generate_series(date_trunc('month', now(), 'UTC'),
                           date_trunc('month', now(), 'UTC') + interval '27 days', interval '1 hour') h";
        client.batch_execute(fill).await.expect("filled");
        if is_watched {
            store.set_threshold("p", &quota("most", 100)).await.expect("set");
        }
        let mut lane = writer(&store).await;
        let mut seconds = 0.0;
        for round in 0..500 {
            let ids = u128::from(round) * 10..u128::from(round) * 10 + 10;
            let request = request(project, new_batch_id(), entry(now_ms(), round), &events(now_ms(), ids));
            let began = Instant::now();
            lane.write(&[request]).await.expect("written");
            seconds += began.elapsed().as_secs_f64();
        }
        println!("watched {is_watched}: {:.2} ms for a transaction of 10 events", seconds * 2.0);
    }
}
