//! Promises about what was refused: exact counts, the last samples, and their retention.

use std::collections::BTreeMap;

use millrace_store::{RejectionCount, RejectionKind, RejectionReport, RejectionSample, SAMPLES_KEPT};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use time::macros::datetime;
use time::{Duration as Span, OffsetDateTime};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::*;

const NOON: OffsetDateTime = datetime!(2026-11-26 12:00 UTC);
const TWO: ProjectId = ProjectId(2);

fn count(project: ProjectId, hours: i64, kind: RejectionKind, code: &str, count: u64) -> RejectionCount {
    RejectionCount { hour: NOON + Span::hours(hours), project, kind, code: code.to_owned(), count }
}

fn sample(project: ProjectId, kind: RejectionKind, at: OffsetDateTime, message: &str) -> RejectionSample {
    RejectionSample {
        project,
        at,
        kind,
        code: "invalid_type".to_owned(),
        field: Some("name".to_owned()),
        message: message.to_owned(),
        payload: Some(b"{}".to_vec()),
    }
}

fn report(number: u64, counts: Vec<RejectionCount>, samples: Vec<RejectionSample>) -> RejectionReport {
    RejectionReport { source: Uuid::from_u128(1), number, counts, samples }
}

async fn all(store: &SharedStore) -> Vec<RejectionCount> {
    store.rejections(None, NOON - Span::DAY, NOON + Span::DAY).await.expect("counts")
}

pub async fn a_report_is_counted_once_however_often_it_is_sent(harness: &dyn Harness) {
    let store = harness.store();
    let one = ProjectId(1);
    let first = report(1, vec![count(one, 0, RejectionKind::Event, "too_deep", 3)], vec![]);
    let late = vec![sample(one, RejectionKind::Event, NOON, "kept once")];
    let second = report(2, vec![count(one, 0, RejectionKind::Event, "too_deep", 4)], late);
    for again in [&first, &first, &second, &first, &second] {
        store.add_rejections(again).await.expect("added");
        harness.another().add_rejections(again).await.expect("added");
    }
    let other = RejectionReport { source: Uuid::from_u128(2), ..first };
    store.add_rejections(&other).await.expect("another process has its own numbers");
    assert_eq!(all(&store).await, [count(one, 0, RejectionKind::Event, "too_deep", 10)]);
    assert_eq!(store.rejection_samples(None, RejectionKind::ALL, 10).await.expect("samples").len(), 1);
}

pub async fn counts_of_adjacent_periods_add_up(harness: &dyn Harness) {
    let store = harness.store();
    let one = ProjectId(1);
    let counts = vec![
        count(TWO, 1, RejectionKind::Request, "invalid_json", 5),
        count(one, 2, RejectionKind::Event, "too_deep", 1),
        count(one, -1, RejectionKind::Event, "too_deep", 7),
        count(one, 0, RejectionKind::Request, "rate_limited", 2),
        count(one, 0, RejectionKind::Event, "invalid_type", 3),
    ];
    let mut expected = counts.clone();
    expected.sort();
    store.add_rejections(&report(1, counts, vec![])).await.expect("added");
    assert_eq!(all(&store).await, expected, "ordered by hour, project, kind and code");
    let mut added_up = Vec::new();
    for hour in -24..24 {
        let from = NOON + Span::hours(hour);
        added_up.extend(store.rejections(None, from, from + Span::HOUR).await.expect("counts"));
    }
    assert_eq!(added_up, expected, "hour by hour");
    let of_one = store.rejections(Some(one), NOON, NOON + Span::HOUR).await.expect("counts");
    assert_eq!(of_one, expected[1..3]);

    let sums = store.rejection_sums(NOON - Span::HOUR, NOON + Span::DAY, 2).await.expect("sums");
    let facts: Vec<_> = sums.iter().map(|sum| (sum.project, sum.code.as_str(), sum.count)).collect();
    assert_eq!(facts, [(one, "too_deep", 8), (TWO, "invalid_json", 5)], "the largest first");
}

pub async fn only_the_last_samples_of_each_project_and_kind_are_kept(harness: &dyn Harness) {
    let store = harness.store();
    let one = ProjectId(1);
    let many = |project, kind, range: std::ops::Range<i64>| -> Vec<_> {
        range.map(|n| sample(project, kind, NOON + Span::seconds(n), &format!("{n}"))).collect()
    };
    let batches = [
        many(one, RejectionKind::Request, 0..3),
        many(one, RejectionKind::Event, 0..90),
        many(TWO, RejectionKind::Event, 0..2),
        many(one, RejectionKind::Event, 90..350),
    ];
    for (number, samples) in (1..).zip(batches) {
        store.add_rejections(&report(number, vec![], samples).clone()).await.expect("added");
    }
    let messages = async |project, kinds: &[RejectionKind], limit| {
        let samples = store.rejection_samples(project, kinds, limit).await.expect("samples");
        samples.into_iter().map(|sample| sample.message).collect::<Vec<_>>()
    };
    let events = messages(Some(one), &[RejectionKind::Event], 1_000).await;
    let last: Vec<_> = (250..350).rev().map(|n| n.to_string()).collect();
    assert_eq!((events.len(), events), (SAMPLES_KEPT as usize, last), "newest first");
    assert_eq!(messages(Some(one), &[RejectionKind::Request], 2).await, ["2", "1"]);
    assert_eq!(messages(Some(TWO), RejectionKind::ALL, 9).await, ["1", "0"]);
    let everyones = [RejectionKind::Request, RejectionKind::Dead, RejectionKind::Event];
    assert_eq!(messages(None, &everyones, 1_000).await.len(), 100 + 3 + 2);
    assert_eq!(messages(None, &[], 9).await, [""; 0]);
}

pub async fn a_sample_of_any_text_and_bytes_comes_back(harness: &dyn Harness) {
    let store = harness.store();
    let bytes: Vec<u8> = (0..=255).collect();
    let hostile = RejectionSample {
        field: Some("\u{1b}[31m\u{202e}".to_owned()),
        message: "'; DROP TABLE projects; --".to_owned(),
        payload: Some(bytes),
        ..sample(TWO, RejectionKind::Conflict, NOON + Span::microseconds(1), "")
    };
    let bare = RejectionSample { field: None, payload: None, ..sample(TWO, RejectionKind::Dead, NOON, "m") };
    let samples = vec![bare.clone(), hostile.clone()];
    store.add_rejections(&report(1, vec![], samples)).await.expect("added");
    let back = store.rejection_samples(Some(TWO), RejectionKind::ALL, 9).await.expect("samples");
    assert_eq!(back, [hostile, bare]);
    // PostgreSQL cannot store U+0000 in a text.
    let nul =
        RejectionSample { field: Some("a\0b".to_owned()), ..sample(TWO, RejectionKind::Event, NOON, "\0") };
    let counts = vec![count(TWO, 0, RejectionKind::Event, "\0", 1)];
    store.add_rejections(&report(2, counts, vec![nul])).await.expect("added");
    let back = store.rejection_samples(Some(TWO), &[RejectionKind::Event], 9).await.expect("samples");
    assert_eq!((back[0].field.as_deref(), back[0].message.as_str()), (Some("a\u{fffd}b"), "\u{fffd}"));
}

pub async fn racing_reports_end_with_exact_counts(harness: &dyn Harness) {
    const PROCESSES: u128 = 4;
    const REPORTS: u64 = 20;
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut expected: BTreeMap<(OffsetDateTime, ProjectId, String), u64> = BTreeMap::new();
    let mut processes = JoinSet::new();
    for process in 1..=PROCESSES {
        let mut reports = Vec::new();
        for number in 1..=REPORTS {
            let mut counts = Vec::new();
            for project in 1..=6 {
                for code in ["invalid_json", "too_deep", "unknown_field"] {
                    let counted = count(
                        ProjectId(project),
                        random.random_range(-1..=1),
                        RejectionKind::Event,
                        code,
                        random.random_range(1..9),
                    );
                    let key = (counted.hour, counted.project, counted.code.clone());
                    *expected.entry(key).or_default() += counted.count;
                    counts.push(counted);
                }
            }
            // In any order, as several processes meet.
            counts.shuffle(&mut random);
            let samples = (0..30).map(|n| {
                sample(ProjectId(n % 3 + 1), RejectionKind::Event, NOON + Span::seconds(n), "raced")
            });
            let samples = samples.collect();
            reports.push(RejectionReport { source: Uuid::from_u128(process), number, counts, samples });
        }
        let store = harness.another();
        processes.spawn(async move {
            for report in reports {
                store.add_rejections(&report).await.expect("added");
                // The answer was lost.
                store.add_rejections(&report).await.expect("added");
            }
        });
    }
    processes.join_all().await;
    let store = harness.store();
    let counted = all(&store).await.into_iter().map(|row| ((row.hour, row.project, row.code), row.count));
    assert_eq!(counted.collect::<BTreeMap<_, _>>(), expected, "seed {seed}");
    for project in 1..=3 {
        let kept = store.rejection_samples(Some(ProjectId(project)), RejectionKind::ALL, 1_000).await;
        assert_eq!(kept.expect("samples").len(), SAMPLES_KEPT as usize);
    }
}

pub async fn samples_are_kept_as_long_as_events_and_counts_longer(harness: &dyn Harness) {
    let store = harness.store();
    let now = OffsetDateTime::now_utc();
    let old = now - Span::days(10);
    let samples =
        vec![sample(TWO, RejectionKind::Event, old, "old"), sample(TWO, RejectionKind::Event, now, "young")];
    let counted =
        RejectionCount { hour: old.truncate_to_hour(), ..count(TWO, 0, RejectionKind::Event, "too_deep", 4) };
    store.add_rejections(&report(1, vec![counted.clone()], samples)).await.expect("added");
    let messages = async || {
        let samples = store.rejection_samples(Some(TWO), RejectionKind::ALL, 9).await.expect("samples");
        samples.into_iter().map(|sample| sample.message).collect::<Vec<_>>()
    };
    store.upkeep(&keep_all()).await.expect("upkeep").expect("no other process does it");
    assert_eq!(messages().await, ["young", "old"]);
    let week = UpkeepPolicy { retention_days: Some(7), ..keep_all() };
    store.upkeep(&week).await.expect("upkeep").expect("no other process does it");
    assert_eq!(messages().await, ["young"]);
    let counts = store.rejections(Some(TWO), now - Span::days(11), now).await.expect("counts");
    assert_eq!(counts, [counted]);
    // The number of the report is remembered, too.
    store.add_rejections(&report(1, counts.clone(), vec![])).await.expect("added");
    assert_eq!(store.rejections(Some(TWO), now - Span::days(11), now).await.expect("counts"), counts);
}
