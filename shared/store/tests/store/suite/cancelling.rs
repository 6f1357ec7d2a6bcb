//! Promises about events that are cancelled.

use millrace_event::meter::Aggregation;
use millrace_event::row::Row;
use millrace_store::{
    CANCEL_EVENTS_MAX, CancelOrder, CancelOutcome, CancelledEvent, MeterInfo, MeterStart, StoreError,
    UsageWindow, end_of_hour,
};
use time::OffsetDateTime;

use super::metered::{MINUTE_MS, call, calls, create, every_check_holds, figure, whole};
use super::*;

const AGGREGATIONS: [Aggregation; 7] = [
    Aggregation::Count,
    Aggregation::Sum,
    Aggregation::Min,
    Aggregation::Max,
    Aggregation::Avg,
    Aggregation::Latest,
    Aggregation::UniqueCount,
];

/// An event with this timestamp in milliseconds.
pub fn event(ms: u64, id: u128) -> CancelledEvent {
    CancelledEvent {
        event_id: Uuid::from_u128(id),
        timestamp_us: Some(ms.cast_signed() * 1_000),
        by_id: false,
    }
}

pub async fn cancel(
    store: &SharedStore,
    project: ProjectId,
    events: &[CancelledEvent],
) -> Vec<CancelOutcome> {
    let (by, reason) = ("key 1".to_owned(), Some("a test".to_owned()));
    let order = CancelOrder { project, events: events.to_vec(), by, reason, received_from: None };
    store.cancel_events(&order).await.expect("an answer")
}

pub async fn each_aggregation(store: &SharedStore) -> Vec<MeterInfo> {
    let mut meters = Vec::new();
    for aggregation in AGGREGATIONS {
        meters.push(create(store, aggregation, MeterStart::Now).await);
    }
    meters
}

pub async fn figures(store: &SharedStore, meters: &[MeterInfo], ms: u64) -> Vec<String> {
    let mut figures = Vec::new();
    for info in meters {
        let (events, value) = figure(store, info, &whole(ms, ms)).await;
        figures.push(format!("{events} {value}"));
    }
    figures
}

pub async fn a_cancelled_event_leaves_usage_and_every_meter_and_stays_a_duplicate(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let meters = each_aggregation(&store).await;
    let ms = now_ms() / (15 * MINUTE_MS) * 15 * MINUTE_MS;
    let batch = [
        call(ms, 1, "a", r#"{"n":1.5}"#),
        call(ms + 1, 2, "a", r#"{"n":8}"#),
        call(ms + 2, 3, "a", r#"{"n":-2}"#),
        call(ms + 3, 4, "a", r#"{"n":8}"#),
    ];
    let mut lane = writer(&store).await;
    lane.write(&[calls(project, 1, &batch)]).await.expect("written");
    for (cancelled, expected) in [
        (event(ms + 3, 4), ["3 3", "3 7.5", "3 -2", "3 8", "3 2.5", "3 -2", "3 3"]),
        (event(ms + 2, 3), ["2 2", "2 9.5", "2 1.5", "2 8", "2 4.75", "2 8", "2 2"]),
        (event(ms + 1, 2), ["1 1", "1 1.5", "1 1.5", "1 1.5", "1 1.5", "1 1.5", "1 1"]),
    ] {
        assert_eq!(cancel(&store, project, &[cancelled]).await, [CancelOutcome::Cancelled]);
        assert_eq!(figures(&store, &meters, ms).await, expected);
        balanced(&store, project).await;
        let again = [cancelled, cancelled];
        assert_eq!(cancel(&store, project, &again).await, [CancelOutcome::AlreadyCancelled; 2]);
        assert_eq!(figures(&store, &meters, ms).await, expected);
    }
    assert_eq!(cancel(&store, project, &[event(ms, 1)]).await, [CancelOutcome::Cancelled]);
    assert_eq!(figures(&store, &meters, ms).await, ["0 0"; 7], "no figure is left");
    let again = lane.write(&[calls(project, 2, &batch)]).await.expect("written");
    assert_eq!(again.map_outcomes(), [duplicate(4)], "cancelled for good");
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.cancelled), (4, 4));
    assert_eq!(harness.events(project).await.len(), 4, "the rows stay");
    let now = OffsetDateTime::now_utc();
    let (from, to) = (end_of_hour(now) - Duration::from_secs(7_200), end_of_hour(now));
    let rows = store.usage(project, from, to, UsageWindow::Month).await.expect("usage");
    let sums = |of: fn(&millrace_store::UsageRow) -> u64| rows.iter().map(of).sum::<u64>();
    assert_eq!((sums(|row| row.events), sums(|row| row.cancelled), sums(|row| row.duplicates)), (0, 4, 4));
    let all = store.usage_of_all(from, to).await.expect("usage");
    assert_eq!((all[0].usage.events, all[0].usage.cancelled), (0, 4));
}

pub async fn an_event_that_a_meter_does_not_count_leaves_its_faults_when_it_is_cancelled(
    harness: &dyn Harness,
) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let info = create(&store, Aggregation::Sum, MeterStart::Now).await;
    let now = now_ms();
    let batch = [call(now, 1, "a", "{}"), call(now, 2, "a", "{}"), call(now, 3, "a", r#"{"n":"x"}"#)];
    writer(&store).await.write(&[calls(project, 1, &batch)]).await.expect("written");
    assert_eq!(cancel(&store, project, &[event(now, 1), event(now, 3)]).await, [CancelOutcome::Cancelled; 2]);
    let faults = store.meter_faults(info.meter.id).await.expect("faults");
    assert_eq!(faults.iter().map(|fault| fault.events).collect::<Vec<_>>(), [1]);
    balanced(&store, project).await;
}

pub async fn what_cannot_be_cancelled_is_named_and_changes_nothing(harness: &dyn Harness) {
    let store = harness.store();
    let (project, other) = (project(&store, "p").await, super::project(&store, "other").await);
    let now = now_ms();
    let batch = [call(now, 1, "a", r#"{"n":1}"#), call(now, 2, "a", r#"{"n":1}"#)];
    writer(&store).await.write(&[calls(project, 1, &batch)]).await.expect("written");
    let asked = [event(now, 9), event(now + 1, 1), event(now, 2)];
    assert_eq!(cancel(&store, other, &asked).await, [CancelOutcome::NotFound; 3]);
    let late = OffsetDateTime::now_utc() + Duration::from_secs(3_600);
    let order = CancelOrder {
        project,
        events: asked.to_vec(),
        by: "key 1".to_owned(),
        reason: None,
        received_from: Some(late),
    };
    let outcomes = store.cancel_events(&order).await.expect("an answer");
    assert_eq!(outcomes, [CancelOutcome::NotFound, CancelOutcome::NotFound, CancelOutcome::TooOld]);
    let large = CancelOrder { events: vec![event(now, 1); CANCEL_EVENTS_MAX + 1], ..order };
    let error = store.cancel_events(&large).await.expect_err("too many");
    assert!(matches!(error, StoreError::Invalid(_)), "{error}");
    assert_eq!(balanced(&store, project).await.cancelled, 0);
}

pub async fn an_event_without_a_time_of_its_own_is_cancelled_by_its_id(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let row = |time, by_id, id| {
        let mut bytes = Vec::new();
        Row { time, by_id, ..Row::bare(project, Uuid::from_u128(id), "call") }.write(&mut bytes);
        bytes
    };
    let rows = [row(EventTime::Undated, false, 1), row(at_ms(now), true, 2), row(at_ms(now), false, 3)];
    let written = writer(&store).await.write(&[request_of_rows(project, entry(now, 1), &rows)]).await;
    assert_eq!(written.expect("written").map_outcomes(), [stored(3)]);
    let by_id = |id, timestamp_us, by_id| CancelledEvent { timestamp_us, by_id, ..event(0, id) };
    let wrong_time = Some(5);
    let asked = [
        by_id(1, wrong_time, false),
        by_id(2, wrong_time, false),
        by_id(3, None, true),
        by_id(1, None, false),
        by_id(2, wrong_time, true),
    ];
    let [missing, cancelled] = [CancelOutcome::NotFound, CancelOutcome::Cancelled];
    assert_eq!(cancel(&store, project, &asked).await, [missing, missing, missing, cancelled, cancelled]);
    assert_eq!(balanced(&store, project).await.cancelled, 2);
}

pub async fn cancels_of_one_event_at_once_count_once(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let meters = each_aggregation(&store).await;
    let ms = now_ms() / (15 * MINUTE_MS) * 15 * MINUTE_MS;
    let batch: Vec<_> = (0..20).map(|id| call(ms, id, "a", r#"{"n":2}"#)).collect();
    writer(&store).await.write(&[calls(project, 1, &batch)]).await.expect("written");
    let mut tasks = tokio::task::JoinSet::new();
    for part in 0..4_u128 {
        let store = if part % 2 == 0 { harness.store() } else { harness.another() };
        let asked: Vec<_> = (0..10).map(|id| event(ms, (id + part) % 10)).collect();
        tasks.spawn(async move { cancel(&store, project, &asked).await });
    }
    let outcomes = tasks.join_all().await.concat();
    let cancelled = outcomes.iter().filter(|outcome| **outcome == CancelOutcome::Cancelled);
    assert_eq!(cancelled.count(), 10, "{outcomes:?}");
    assert!(!outcomes.contains(&CancelOutcome::NotFound), "{outcomes:?}");
    assert_eq!(figure(&store, &meters[1], &whole(ms, ms)).await, (10, "20".to_owned()));
    assert_eq!(balanced(&store, project).await.cancelled, 10);
}

pub async fn cancels_next_to_writers_backfills_and_movers_end_with_exact_figures(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let id = |lane: u64, round: u64, part: u64| u128::from(lane << 40 | round << 8 | part);
    let at = move |round: u64, part: u64| now - part * MINUTE_MS - round;
    let batch = move |lane: u64, round: u64| {
        let events: Vec<_> = (0..10)
            .map(|part| call(at(round, part), id(lane, round, part), "a", &format!(r#"{{"n":{part}}}"#)))
            .collect();
        calls(project, lane << 20 | round, &events)
    };
    create(&store, Aggregation::Max, MeterStart::Now).await;
    create(&store, Aggregation::Latest, MeterStart::Now).await;
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..2_u64 {
        let store = if lane == 0 { harness.store() } else { harness.another() };
        tasks.spawn(async move {
            let mut writer = writer(&store).await;
            for round in 0..40 {
                writer.write(&[batch(lane, round)]).await.expect("written");
                // Every second event that has just been stored, and one that was cancelled before.
                let asked: Vec<_> =
                    (0..10).step_by(2).map(|part| event(at(round, part), id(lane, round, part))).collect();
                assert_eq!(cancel(&store, project, &asked).await, [CancelOutcome::Cancelled; 5]);
                assert_eq!(cancel(&store, project, &asked[..1]).await, [CancelOutcome::AlreadyCancelled]);
            }
        });
    }
    let (backfilling, moving) = (harness.another(), harness.another());
    tasks.spawn(async move {
        let info = create(&backfilling, Aggregation::Sum, MeterStart::FirstEvent).await;
        while !backfilling.backfill(info.meter.id, 20).await.expect("a step").is_last() {}
    });
    tasks.spawn(async move {
        for _ in 0..40 {
            moving.move_additions().await.expect("moved");
            tokio::task::yield_now().await;
        }
    });
    tasks.join_all().await;
    let meters = store.meters(Some(project)).await.expect("meters");
    let sum = meters.iter().find(|info| info.meter.definition.aggregation == Aggregation::Sum);
    let kept = 2 * 40 * 5;
    let expected = (kept, (2 * 40 * (1 + 3 + 5 + 7 + 9)).to_string());
    assert_eq!(figure(&store, sum.expect("the meter"), &whole(now - DAY_MS, now)).await, expected);
    every_check_holds(&store).await;
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.cancelled), (800, 400));
}

pub async fn retention_keeps_cancelled_events_out_of_figures(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let sum = create(&store, Aggregation::Sum, MeterStart::Now).await;
    let min = create(&store, Aggregation::Min, MeterStart::Now).await;
    let (now, old) = (now_ms(), now_ms() - 300 * DAY_MS);
    let mut requests = Vec::new();
    for days in [0_u64, 5] {
        let id = |part: u128| u128::from(days) * 100 + part;
        let ms = now - days * DAY_MS;
        let batch = [
            call(ms, id(1), "a", r#"{"n":1}"#),
            call(ms, id(2), "a", r#"{"n":2}"#),
            call(old, id(3), "a", r#"{"n":10}"#),
            call(old, id(4), "a", r#"{"n":20}"#),
        ];
        requests.push(WriteRequest { entry: entry(ms, 0), ..calls(project, 0, &batch) });
    }
    let mut lane = writer(&store).await;
    lane.write(&requests).await.expect("written");
    let asked = [event(now - 5 * DAY_MS, 501), event(old, 503), event(now, 1)];
    assert_eq!(cancel(&store, project, &asked).await, [CancelOutcome::Cancelled; 3]);
    let all = whole(now - 400 * DAY_MS, now);
    assert_eq!(figure(&store, &sum, &all).await, (5, "54".to_owned()));
    let policy = UpkeepPolicy { retention_days: Some(2), ..keep_all() };
    store.upkeep(&policy).await.expect("upkeep").expect("no other process does the upkeep");
    assert_eq!(harness.events(project).await.len(), 4, "what was received today is kept");
    assert_eq!(figure(&store, &sum, &all).await, (5, "54".to_owned()));
    balanced(&store, project).await;
    // Of that day, events are missing that the smallest value may be the one of.
    let asked = [event(old, 3), event(now - 5 * DAY_MS, 501)];
    let outcomes = cancel(&store, project, &asked).await;
    assert_eq!(outcomes, [CancelOutcome::TooOld, CancelOutcome::NotFound]);
    assert!(store.delete_meter("p", "min").await.expect("an answer"), "{min:?}");
    assert_eq!(cancel(&store, project, &asked[..1]).await, [CancelOutcome::Cancelled]);
    assert_eq!(figure(&store, &sum, &all).await, (4, "44".to_owned()));
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.cancelled), (8, 4));
    // An event that retention has removed is a new one when it is sent again.
    let again = [call(old, 503, "a", r#"{"n":100}"#)];
    let again = lane.write(&[calls(project, 7, &again)]).await.expect("written");
    assert_eq!(again.map_outcomes(), [stored(1)]);
    assert_eq!(figure(&store, &sum, &all).await, (5, "144".to_owned()));
    balanced(&store, project).await;
}
