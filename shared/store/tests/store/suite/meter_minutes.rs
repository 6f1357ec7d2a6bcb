//! Promises about windows of a minute, which are counted from the events themselves.

use std::collections::BTreeMap;

use millrace_event::meter::Aggregation;
use millrace_store::{ErasureKind, MeterQuery, MeterRow, MeterStart, MeterWindow, StoreError};
use rand::{RngExt, SeedableRng};
use strum::VariantArray;

use super::erasing::{ALICE, erase};
use super::metered::{MINUTE_MS, answer, call, calls, create, whole};
use super::*;

const HOUR_MS: u64 = 60 * MINUTE_MS;

/// By subject and group, in windows of this length.
fn by_all(window: Option<MeterWindow>, from_ms: u64, to_ms: u64) -> MeterQuery {
    let limit = 10_000;
    MeterQuery { window, by_subject: true, by_groups: vec![0], limit, ..whole(from_ms, to_ms) }
}

/// Everything of a row but the limits of its window.
type Figure = (Option<String>, Vec<Option<String>>, u64, String);

fn figure_of(row: &MeterRow) -> Figure {
    (row.subject.clone(), row.groups.clone(), row.events, row.value.clone())
}

/// Where a quarter of an hour has events in one minute alone, both have the same figures.
pub async fn minutes_of_every_aggregation_agree_with_the_figures_that_are_kept(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let mut meters = Vec::new();
    for aggregation in Aggregation::VARIANTS {
        meters.push(create(&store, *aggregation, MeterStart::Now).await);
    }
    let start = now_ms() / HOUR_MS * HOUR_MS - 3 * HOUR_MS;
    let minutes = [0_u64, 16, 44, 59].map(|minute| start + minute * MINUTE_MS);
    let mut id = 0;
    let mut batch = Vec::new();
    for minute in minutes {
        for (part, subject, properties) in [
            (0, "a", r#"{"n":1,"model":"large"}"#),
            (59_999, "a", r#"{"n":2.5,"model":"large"}"#),
            (30_000, "a", r#"{"n":"1","model":"large"}"#),
            (1, "b", r#"{"n":-7}"#),
            (2, "b", r#"{"n":true}"#),
        ] {
            id += 1;
            batch.push(call(minute + part, id, subject, properties));
        }
    }
    batch.push(batch[0].clone());
    writer(&store).await.write(&[calls(project, 1, &batch)]).await.expect("written");
    for info in &meters {
        let rows =
            answer(&store, info, &by_all(Some(MeterWindow::Minute), start, start + HOUR_MS - MINUTE_MS))
                .await;
        let starts: Vec<_> = rows.iter().map(|row| row.start_us).collect();
        assert!(starts.is_sorted() && rows.iter().all(|row| row.end_us - row.start_us == 60_000_000));
        let mut expected = Vec::new();
        for minute in minutes {
            let kept = answer(&store, info, &by_all(None, minute, minute)).await;
            let at_us = minute.cast_signed() * 1_000;
            expected.extend(kept.iter().map(|row| (at_us, figure_of(row))));
        }
        let found: Vec<_> = rows.iter().map(|row| (row.start_us, figure_of(row))).collect();
        assert_eq!(found, expected, "{}", info.meter.definition.slug);
        assert!(!found.is_empty());
    }
}

pub async fn random_minutes_add_up_to_their_hours(harness: &dyn Harness) {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let store = harness.store();
    let project = project(&store, "p").await;
    let info = create(&store, Aggregation::Sum, MeterStart::Now).await;
    let start = now_ms() / HOUR_MS * HOUR_MS - 4 * HOUR_MS;
    let mut lane = writer(&store).await;
    for round in 0..4_u64 {
        let events: Vec<_> = (0..50)
            .map(|_| {
                let id = random.random_range(0..400_u64);
                let subject = ["a", "b"][(id % 2) as usize];
                let properties = format!(r#"{{"n":{},"model":"m{}"}}"#, id * 7 % 23, id % 3);
                call(start + id * 30_011 % (3 * HOUR_MS), id.into(), subject, &properties)
            })
            .collect();
        lane.write(&[calls(project, round, &events)]).await.expect("written");
    }
    let sums = async |window| {
        let mut sums: BTreeMap<_, (u64, i64)> = BTreeMap::new();
        for row in answer(&store, &info, &by_all(Some(window), start, start + 3 * HOUR_MS - MINUTE_MS)).await
        {
            let hour = row.start_us.div_euclid(3_600_000_000);
            let sum = sums.entry((hour, row.subject, row.groups)).or_default();
            *sum = (sum.0 + row.events, sum.1 + row.value.parse::<i64>().expect("a whole number"));
        }
        sums
    };
    let (minutes, hours) = (sums(MeterWindow::Minute).await, sums(MeterWindow::Hour).await);
    assert_eq!(minutes, hours);
    assert!(!minutes.is_empty());
}

pub async fn minutes_of_which_events_are_removed_are_refused(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let info = create(&store, Aggregation::Count, MeterStart::Now).await;
    let (now, old) = (now_ms(), now_ms() - 5 * DAY_MS);
    let batches = [(now, 1), (old, 2)].map(|(ms, id)| WriteRequest {
        entry: entry(ms, id),
        ..calls(project, id, &[call(ms, id.into(), "a", "{}")])
    });
    writer(&store).await.write(&batches).await.expect("written");
    let minutes = |ms| by_all(Some(MeterWindow::Minute), ms, ms);
    assert_eq!(answer(&store, &info, &minutes(old)).await.len(), 1);
    let policy = UpkeepPolicy { retention_days: Some(2), ..keep_all() };
    store.upkeep(&policy).await.expect("upkeep").expect("no other process does the upkeep");
    assert_eq!(answer(&store, &info, &minutes(now)).await.len(), 1);
    let refused = store.meter_usage(&info.meter, &minutes(old)).await.expect_err("removed");
    assert!(matches!(&refused, StoreError::Invalid(message) if message.contains("removed")), "{refused}");
    assert_eq!(
        answer(&store, &info, &by_all(Some(MeterWindow::Hour), old, old)).await.len(),
        1,
        "hours are kept"
    );
}

/// Their figures are kept under a pseudonym.
pub async fn minutes_that_lack_anonymized_events_are_refused(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let info = create(&store, Aggregation::Count, MeterStart::Now).await;
    let now = now_ms();
    let batch = [call(now, 1, ALICE, "{}"), call(now, 2, "other", "{}")];
    writer(&store).await.write(&[calls(project, 1, &batch)]).await.expect("written");
    let minutes = by_all(Some(MeterWindow::Minute), now, now);
    assert_eq!(answer(&store, &info, &minutes).await.len(), 2);
    erase(&store, project, ErasureKind::Anonymize).await;
    let refused = store.meter_usage(&info.meter, &minutes).await.expect_err("one is anonymized");
    assert!(matches!(&refused, StoreError::Invalid(message) if message.contains("removed")), "{refused}");
    let of_other = MeterQuery { subjects: vec!["other".to_owned()], ..minutes };
    assert_eq!(answer(&store, &info, &of_other).await.len(), 1);
}
