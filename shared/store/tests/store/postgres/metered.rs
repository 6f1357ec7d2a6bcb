//! Meters next to programs that do not know them, and measurements.
//! `cargo test --release -p millrace-store --test store -- --ignored --nocapture metered_speed`.

use std::time::Instant;

use millrace_event::meter::{Aggregation, MeterDefinition};
use millrace_event::row::Row;
use millrace_store::{MeterQuery, MeterStart, MeterWindow, StoreError};
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::harness;
use crate::suite::cancelling::{cancel, event};
use crate::suite::metered::{call, calls, create, definition, figure, whole};
use crate::suite::*;

#[tokio::test]
async fn a_program_that_counts_no_meters_stores_nothing_where_there_are_some() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let client = harness.connect().await;
    let as_before = "INSERT INTO usage_hourly (project_id, hour, events) VALUES (1, 'now', 0)
                     ON CONFLICT (project_id, hour) DO UPDATE SET events = usage_hourly.events + excluded.events";
    client.batch_execute(as_before).await.expect("there are no meters");
    create(&store, Aggregation::Sum, MeterStart::Now).await;
    let refused = client.batch_execute(as_before).await.expect_err("it would not be counted");
    assert_eq!(refused.code(), Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE), "{refused}");
    let request = calls(project, 1, &[call(now_ms(), 1, "a", r#"{"n":1}"#)]);
    writer(&store).await.write(&[request]).await.expect("this release counts meters");
    balanced(&store, project).await;
    assert!(store.delete_meter("p", "sum").await.expect("deleted"));
    client.batch_execute(as_before).await.expect("there are no meters any more");
}

#[tokio::test]
async fn a_program_that_does_not_know_cancelled_events_neither_backfills_nor_retires_them() {
    let harness = harness().await;
    let (store, client) = (harness.store(), harness.connect().await);
    let project = project(&store, "p").await;
    let info = create(&store, Aggregation::Sum, MeterStart::FirstEvent).await;
    let now = now_ms();
    let request = calls(project, 1, &[call(now, 1, "a", r#"{"n":1}"#), call(now, 2, "a", r#"{"n":2}"#)]);
    writer(&store).await.write(&[request]).await.expect("written");
    let backfill = "UPDATE meters SET counted_until = counted_until";
    let retirement = "INSERT INTO meter_retired VALUES (1, '2026-01-01', 1, 0)
                      ON CONFLICT (meter_id, day) DO UPDATE SET events = 2";
    for as_before in [backfill, retirement, "DELETE FROM meter_retired"] {
        client.batch_execute(as_before).await.expect("nothing is cancelled");
    }
    cancel(&store, project, &[event(now, 1)]).await;
    for as_before in [backfill, retirement] {
        let refused = client.batch_execute(as_before).await.expect_err("it would be counted");
        assert_eq!(refused.code(), Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE), "{refused}");
    }
    assert!(store.backfill(info.meter.id, 100).await.expect("this release knows them").is_last());
    assert_eq!(figure(&store, &info, &whole(now, now)).await, (1, "2".to_owned()));
    balanced(&store, project).await;
}

const ROUNDS: u64 = 20;
const EVENTS: u64 = 20_000;
const SUBJECTS: u64 = 10_000;

/// Stores events of 10,000 subjects, with this many meters, and moves their additions every two transactions.
async fn rate(meters: usize) -> f64 {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    for number in 0..meters {
        let slug = format!("m{number}");
        let definition = MeterDefinition { slug, ..definition(Aggregation::Sum) };
        store.create_meter("p", &definition, MeterStart::Now).await.expect("a meter");
    }
    let (mut lane, now) = (writer(&store).await, now_ms());
    let properties = r#"{"path":"/v1/chat","n":12.50,"model":"large","status":200,"latency_ms":41}"#;
    let mut id = 0_u128;
    let mut seconds = 0.0;
    for round in 0..ROUNDS {
        let rows = (0..EVENTS).map(|event| {
            id += 1;
            let subject = format!("customer-{}", event.wrapping_mul(0x9E37_79B9_7F4A_7C15) % SUBJECTS);
            let mut bytes = Vec::new();
            Row {
                time: at_ms(now),
                subject: Some(&subject),
                properties: Some(properties.as_bytes()),
                ..Row::bare(project, Uuid::from_u128(id), "call")
            }
            .write(&mut bytes);
            bytes
        });
        let rows: Vec<_> = rows.collect();
        let request = request_of_rows(project, entry(now, round), &rows);
        let began = Instant::now();
        lane.write(&[request]).await.expect("written");
        if round % 2 == 1 {
            store.move_additions().await.expect("moved");
        }
        seconds += began.elapsed().as_secs_f64();
    }
    (ROUNDS * EVENTS) as f64 / seconds
}

#[tokio::test]
#[ignore = "a measurement"]
async fn metered_speed() {
    for _ in 0..2 {
        for meters in [0, 1, 3] {
            println!("{meters} meters: {:.0} events/s", rate(meters).await);
        }
    }
}

#[tokio::test]
#[ignore = "a measurement"]
async fn speed_of_a_month_of_one_subject() {
    let harness = harness().await;
    let store = harness.store();
    project(&store, "p").await;
    let info = create(&store, Aggregation::Sum, MeterStart::Now).await;
    let client = harness.connect().await;
    let fill = "INSERT INTO meter_usage (meter_id, subject, bucket, groups, events, value)
                SELECT 1, 'customer-' || s, '2026-06-01'::timestamptz + b * interval '15 minutes', '[\"m\"]', 7, s + b
                  FROM generate_series(0, 99999) s, LATERAL generate_series(s % 29, 2975, 29) b;
                INSERT INTO meter_usage (meter_id, subject, bucket, groups, events, value)
                SELECT 1, 'busy', '2026-06-01'::timestamptz + b * interval '15 minutes', '[\"m\"]', 7, b
                  FROM generate_series(0, 2975) b;
                ANALYZE meter_usage";
    client.batch_execute(fill).await.expect("filled");
    let from_us = 1_780_272_000_000_000;
    for window in [None, Some(MeterWindow::Day)] {
        for subject in ["busy", "customer-77"] {
            let query = MeterQuery {
                from_us,
                to_us: from_us + 30 * 86_400_000_000,
                window,
                time_zone: "Europe/Berlin".to_owned(),
                subjects: vec![subject.to_owned()],
                by_subject: false,
                by_groups: Vec::new(),
                filters: Vec::new(),
                offset: 0,
                limit: 1_000,
            };
            for _ in 0..3 {
                let began = Instant::now();
                let rows = store.meter_usage(&info.meter, &query).await.expect("an answer").len();
                println!(
                    "{subject} {window:?}: {rows} rows in {:.1} ms",
                    began.elapsed().as_secs_f64() * 1e3
                );
            }
        }
    }
}

/// Prints how long the largest answer takes: `-- --nocapture minutes_of_more`.
#[tokio::test]
async fn minutes_of_more_events_than_an_answer_reads_are_refused() {
    let harness = harness().await;
    let (store, client) = (harness.store(), harness.connect().await);
    project(&store, "p").await;
    let info = create(&store, Aggregation::Sum, MeterStart::Now).await;
    let fill = |first: u32, last: u32| {
        format!(
            "INSERT INTO events (project_id, timestamp, event_id, received_at, name, subject, properties)
             SELECT 1, '2026-06-01'::timestamptz + i * interval '10 milliseconds', gen_random_uuid(), now(), 'call', 'a',
                    jsonb_build_object('n', i % 10, 'model', 'large')
               FROM generate_series({first}, {last}) i"
        )
    };
    client.batch_execute(&fill(1, 100_000)).await.expect("filled");
    let figure = "INSERT INTO meter_usage (meter_id, subject, bucket, groups, events, value)
                  VALUES (1, 'a', '2026-06-01 00:15+00', '[\"large\"]', 100000, 450000)";
    client.batch_execute(figure).await.expect("filled");
    let day_ms = 1_780_272_000_000;
    let query = MeterQuery { window: Some(MeterWindow::Minute), ..whole(day_ms, day_ms + 3_600_000) };
    let began = Instant::now();
    let rows = store.meter_usage(&info.meter, &query).await.expect("an answer");
    println!("{} minutes of 100,000 events in {:.0} ms", rows.len(), began.elapsed().as_secs_f64() * 1e3);
    assert_eq!((rows.len(), rows.iter().map(|row| row.events).sum::<u64>()), (17, 100_000));
    client.batch_execute(&fill(100_001, 100_001)).await.expect("filled");
    let refused = store.meter_usage(&info.meter, &query).await.expect_err("too many");
    assert!(matches!(&refused, StoreError::Invalid(message) if message.contains("100000")), "{refused}");
}
