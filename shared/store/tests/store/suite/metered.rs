//! Promises about what meters count.

use std::collections::BTreeMap;

use millrace_event::meter::{Aggregation, Group, MeterDefinition, MeterFault};
use millrace_event::row::Row;
use millrace_store::{MeterInfo, MeterQuery, MeterRow, MeterStart};

use super::redriving::{given_up_as, redrive};
use super::*;

pub const MINUTE_MS: u64 = 60_000;

/// An event for meters.
#[derive(Clone, Debug)]
pub struct Call {
    pub ms: u64,
    pub id: u128,
    pub subject: &'static str,
    pub properties: String,
}

pub fn call(ms: u64, id: u128, subject: &'static str, properties: &str) -> Call {
    Call { ms, id, subject, properties: properties.to_owned() }
}

/// An entry with these events, received `seq` milliseconds after now.
pub fn calls(project: ProjectId, seq: u64, calls: &[Call]) -> WriteRequest {
    let rows = calls.iter().map(|call| {
        let mut bytes = Vec::new();
        Row {
            time: at_ms(call.ms),
            subject: Some(call.subject),
            properties: Some(call.properties.as_bytes()),
            ..Row::bare(project, Uuid::from_u128(call.id), "call")
        }
        .write(&mut bytes);
        bytes
    });
    request_of_rows(project, entry(now_ms(), seq), &rows.collect::<Vec<_>>())
}

pub fn definition(aggregation: Aggregation) -> MeterDefinition {
    MeterDefinition {
        slug: aggregation.to_string(),
        event: "call".to_owned(),
        aggregation,
        value: (aggregation != Aggregation::Count).then(|| "$.n".parse().expect("a path")),
        groups: vec![Group { name: "model".to_owned(), path: "$.model".parse().expect("a path") }],
    }
}

pub async fn create(store: &SharedStore, aggregation: Aggregation, start: MeterStart) -> MeterInfo {
    store.create_meter("p", &definition(aggregation), start).await.expect("a meter")
}

/// The whole of these days, in one figure.
pub fn whole(from_ms: u64, to_ms: u64) -> MeterQuery {
    let quarter = |ms: u64| (ms / (15 * MINUTE_MS) * 15 * MINUTE_MS).cast_signed() * 1_000;
    MeterQuery {
        from_us: quarter(from_ms),
        to_us: quarter(to_ms + 15 * MINUTE_MS),
        window: None,
        time_zone: "UTC".to_owned(),
        subjects: Vec::new(),
        by_subject: false,
        by_groups: Vec::new(),
        filters: Vec::new(),
        offset: 0,
        limit: 1_000,
    }
}

pub async fn answer(store: &SharedStore, info: &MeterInfo, query: &MeterQuery) -> Vec<MeterRow> {
    store.meter_usage(&info.meter, query).await.expect("an answer")
}

/// Events and value of the only row; nothing and zero without one.
pub async fn figure(store: &SharedStore, info: &MeterInfo, query: &MeterQuery) -> (u64, String) {
    let rows = answer(store, info, query).await;
    assert!(rows.len() <= 1, "{rows:?}");
    rows.into_iter().next().map_or((0, "0".to_owned()), |row| (row.events, row.value))
}

pub async fn every_check_holds(store: &SharedStore) {
    for check in store.check_meters().await.expect("checks") {
        assert!(check.holds(), "{check:?}");
        let MeterQuery { from_us, to_us, .. } = whole(now_ms() - DAY_MS, now_ms());
        let wrong = store.wrong_figures(&check.info.meter, from_us, to_us).await.expect("a count");
        assert_eq!(wrong, 0, "{check:?}");
    }
}

pub async fn each_aggregation_counts_stored_events_once(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let mut lane = writer(&store).await;
    let mut meters = Vec::new();
    for (aggregation, value) in [
        (Aggregation::Count, "4"),
        (Aggregation::Sum, "10.75"),
        (Aggregation::Min, "-0.25"),
        (Aggregation::Max, "8"),
        (Aggregation::Avg, "2.6875"),
        (Aggregation::Latest, "8"),
        (Aggregation::UniqueCount, "3"),
    ] {
        meters.push((create(&store, aggregation, MeterStart::Now).await, value));
    }
    let ms = now / (15 * MINUTE_MS) * 15 * MINUTE_MS;
    let first = calls(project, 1, &[call(ms, 1, "a", r#"{"n":1.50}"#), call(ms + 3, 2, "a", r#"{"n":"8"}"#)]);
    let second =
        calls(project, 2, &[call(ms + 1, 3, "a", r#"{"n":-25e-2}"#), call(ms + 2, 4, "a", r#"{"n":1.5}"#)]);
    // A duplicate inside a batch, a repetition of events in another batch, and an entry that comes again.
    let again = calls(project, 3, &[call(ms, 1, "a", r#"{"n":1.50}"#), call(ms, 1, "a", r#"{"n":1.50}"#)]);
    lane.write(&[first.clone(), again]).await.expect("written");
    lane.write(&[second.clone(), first, second]).await.expect("written");
    for moved in [false, true] {
        for (info, value) in &meters {
            let aggregation = info.meter.definition.aggregation;
            assert_eq!(
                figure(&store, info, &whole(ms, ms)).await,
                (4, (*value).to_owned()),
                "{aggregation} {moved}"
            );
        }
        every_check_holds(&store).await;
        while store.move_additions().await.expect("moved") > 0 {}
    }
    balanced(&store, project).await;
}

pub async fn a_value_that_is_missing_or_no_number_is_counted_as_a_fault(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let info = create(&store, Aggregation::Sum, MeterStart::Now).await;
    let unique = create(&store, Aggregation::UniqueCount, MeterStart::Now).await;
    let now = now_ms();
    let properties = [
        r#"{"n":1}"#,
        "{}",
        r#"{"n":null}"#,
        r#"{"n":"many"}"#,
        r#"{"n":true}"#,
        r#"{"n":[1]}"#,
        r#"{"n":1e30}"#,
        r#"{"n":0.1234567890123456789}"#,
        r#"{"n":1,"model":{"name":"x"}}"#,
        r#"{"n":"1e2"}"#,
        r#"{"n":1000000000000000000000e-10}"#,
    ];
    let batch: Vec<_> =
        (0..).zip(properties).map(|(id, properties)| call(now, id, "a", properties)).collect();
    writer(&store).await.write(&[calls(project, 1, &batch)]).await.expect("written");
    let faults = store.meter_faults(info.meter.id).await.expect("faults");
    let counted: BTreeMap<_, _> = faults.iter().map(|count| (count.fault, count.events)).collect();
    assert_eq!(
        counted,
        BTreeMap::from([
            (MeterFault::ValueMissing, 2),
            (MeterFault::ValueNotANumber, 4),
            (MeterFault::ValueTooLong, 2),
            (MeterFault::GroupNotUsable, 1),
        ])
    );
    assert!(faults.iter().all(|count| count.sample.starts_with(b"{")), "{faults:?}");
    assert_eq!(figure(&store, &info, &whole(now, now)).await, (2, "100000000001".to_owned()));
    assert_eq!(figure(&store, &unique, &whole(now, now)).await.0, 5);
    every_check_holds(&store).await;
}

pub async fn a_late_event_belongs_to_the_window_of_its_timestamp(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let info = create(&store, Aggregation::Sum, MeterStart::Now).await;
    let now = now_ms();
    let late = now - 40 * DAY_MS;
    let batch = [call(late, 1, "a", r#"{"n":5}"#), call(now, 2, "a", r#"{"n":7}"#)];
    writer(&store).await.write(&[calls(project, 1, &batch)]).await.expect("written");
    assert_eq!(figure(&store, &info, &whole(late, late)).await, (1, "5".to_owned()));
    assert_eq!(figure(&store, &info, &whole(now, now)).await, (1, "7".to_owned()));
    every_check_holds(&store).await;
}

pub async fn a_redriven_event_is_counted_by_meters(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let info = create(&store, Aggregation::Sum, MeterStart::Now).await;
    let now = now_ms();
    let dead =
        given_up_as(&calls(project, 1, &[call(now, 1, "a", r#"{"n":5}"#), call(now, 2, "a", r#"{"n":6}"#)]));
    let stored = calls(project, 2, &[call(now, 2, "a", r#"{"n":6}"#)]);
    writer(&store).await.write(&[dead, stored]).await.expect("written");
    assert_eq!(figure(&store, &info, &whole(now, now)).await, (1, "6".to_owned()));
    redrive(&store).await;
    assert_eq!(figure(&store, &info, &whole(now, now)).await, (2, "11".to_owned()), "one was a duplicate");
    every_check_holds(&store).await;
    balanced(&store, project).await;
}

pub async fn a_new_meter_counts_what_is_received_after_the_last_stored_event(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let mut lane = writer(&store).await;
    // The writer knows the definitions as they were.
    let before = calls(project, 1, &[call(now, 1, "a", r#"{"n":5}"#)]);
    let before = WriteRequest { entry: entry(now, 1), ..before };
    lane.write(&[before]).await.expect("written");
    let info = create(&store, Aggregation::Sum, MeterStart::Now).await;
    let after = calls(project, 2, &[call(now, 2, "a", r#"{"n":6}"#)]);
    lane.write(&[WriteRequest { entry: entry(now + 1, 0), ..after }]).await.expect("written");
    assert_eq!(figure(&store, &info, &whole(now, now)).await, (1, "6".to_owned()));
    every_check_holds(&store).await;
}

pub async fn a_backfill_next_to_writers_counts_every_event_once(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let mut lane = writer(&store).await;
    let mut id = 0;
    let mut next = |ms: u64| {
        id += 1;
        call(ms, id, "a", r#"{"n":1}"#)
    };
    let before: Vec<_> = (0..50).map(|minute| next(now - minute * MINUTE_MS)).collect();
    lane.write(&[calls(project, 1, &before)]).await.expect("written");
    let info = create(&store, Aggregation::Sum, MeterStart::FirstEvent).await;
    let mut steps = 0;
    loop {
        let step = store.backfill(info.meter.id, 7).await.expect("a step");
        steps += 1;
        // Behind, at and ahead of the place that the backfill has reached.
        let meanwhile: Vec<_> = (0..5).map(|part| next(now - part * 11 * MINUTE_MS)).collect();
        lane.write(&[calls(project, 1 + steps, &meanwhile)]).await.expect("written");
        every_check_holds(&store).await;
        if step.is_last() {
            break;
        }
    }
    assert!(steps > 7, "{steps}");
    let stored = balanced(&store, project).await.stored;
    let query = whole(now - DAY_MS, now);
    assert_eq!(figure(&store, &info, &query).await, (stored, stored.to_string()));
    let after = store.backfill(info.meter.id, 7).await.expect("nothing left");
    assert!(after.is_last() && after.events == 0, "{after:?}");
    every_check_holds(&store).await;
}

pub async fn racing_writers_and_backfills_and_movers_end_with_exact_figures(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let batch = |lane: u64, round: u64| {
        let id = |part: u64| u128::from(lane << 40 | round << 8 | part);
        let events: Vec<_> =
            (0..20).map(|part| call(now - part * MINUTE_MS - round, id(part), "a", r#"{"n":3}"#)).collect();
        calls(project, lane << 20 | round, &events)
    };
    writer(&store).await.write(&[batch(9, 0)]).await.expect("written");
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..2_u64 {
        let store = if lane == 0 { harness.store() } else { harness.another() };
        let requests: Vec<_> = (0..60).map(|round| batch(lane, round)).collect();
        tasks.spawn(async move {
            let mut writer = writer(&store).await;
            for request in requests {
                writer.write(&[request]).await.expect("written");
            }
        });
    }
    let (backfilling, moving) = (harness.another(), harness.another());
    tasks.spawn(async move {
        let info = create(&backfilling, Aggregation::Sum, MeterStart::FirstEvent).await;
        while !backfilling.backfill(info.meter.id, 50).await.expect("a step").is_last() {}
    });
    tasks.spawn(async move {
        for _ in 0..60 {
            moving.move_additions().await.expect("moved");
            tokio::task::yield_now().await;
        }
    });
    tasks.join_all().await;
    let info = store.meters(Some(project)).await.expect("meters").remove(0);
    let stored = 121 * 20;
    let expected = (stored, (stored * 3).to_string());
    assert_eq!(figure(&store, &info, &whole(now - DAY_MS, now)).await, expected);
    every_check_holds(&store).await;
}

pub async fn retention_keeps_figures_and_their_checks(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let sum = create(&store, Aggregation::Sum, MeterStart::Now).await;
    create(&store, Aggregation::UniqueCount, MeterStart::Now).await;
    let now = now_ms();
    let mut requests = Vec::new();
    for days in 0..6 {
        let ms = now - days * DAY_MS;
        let id = |part: u128| u128::from(days) * 100 + part;
        let old = now - 300 * DAY_MS;
        let batch = [
            call(ms, id(1), "a", r#"{"n":1}"#),
            call(ms, id(2), "a", r#"{"n":"none"}"#),
            call(old, id(3), "a", r#"{"n":10}"#),
        ];
        requests.push(WriteRequest { entry: entry(ms, 0), ..calls(project, 0, &batch) });
    }
    writer(&store).await.write(&requests).await.expect("written");
    let all = whole(now - 400 * DAY_MS, now);
    let before = figure(&store, &sum, &all).await;
    assert_eq!(before, (12, "66".to_owned()));
    let policy = UpkeepPolicy { retention_days: Some(2), ..keep_all() };
    store.upkeep(&policy).await.expect("upkeep").expect("no other process does the upkeep");
    assert_eq!(harness.events(project).await.len(), 9, "three days are kept");
    assert_eq!(figure(&store, &sum, &all).await, before);
    every_check_holds(&store).await;
    let checks = store.check_meters().await.expect("checks");
    assert!(checks.iter().all(|check| check.counted == 12 || check.counted == 18), "{checks:?}");
}
