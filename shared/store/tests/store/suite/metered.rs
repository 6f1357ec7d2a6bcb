//! Promises about meters.

use std::collections::{BTreeMap, BTreeSet};

use millrace_event::meter::{Aggregation, Group, MeterDefinition, MeterFault};
use millrace_event::row::Row;
use millrace_store::{GroupFilter, MeterInfo, MeterQuery, MeterRow, MeterStart, MeterWindow, StoreError};

use super::redriving::{given_up_as, redrive};
use super::*;

const MINUTE_MS: u64 = 60_000;

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
fn whole(from_ms: u64, to_ms: u64) -> MeterQuery {
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

async fn answer(store: &SharedStore, info: &MeterInfo, query: &MeterQuery) -> Vec<MeterRow> {
    store.meter_usage(&info.meter, query).await.expect("an answer")
}

/// Events and value of the only row; nothing and zero without one.
async fn figure(store: &SharedStore, info: &MeterInfo, query: &MeterQuery) -> (u64, String) {
    let rows = answer(store, info, query).await;
    assert!(rows.len() <= 1, "{rows:?}");
    rows.into_iter().next().map_or((0, "0".to_owned()), |row| (row.events, row.value))
}

async fn every_check_holds(store: &SharedStore) {
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

pub async fn a_backfill_counts_every_event_once_beside_writers(harness: &dyn Harness) {
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
        let beside: Vec<_> = (0..5).map(|part| next(now - part * 11 * MINUTE_MS)).collect();
        lane.write(&[calls(project, 1 + steps, &beside)]).await.expect("written");
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

pub async fn subjects_and_groups_are_kept_apart_and_filtered(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let info = create(&store, Aggregation::Sum, MeterStart::Now).await;
    let now = now_ms();
    let batch = [
        call(now, 1, "acme", r#"{"n":1,"model":"large"}"#),
        call(now, 2, "acme", r#"{"n":2,"model":"small"}"#),
        call(now, 3, "beta", r#"{"n":4,"model":"large"}"#),
        call(now, 4, "beta", r#"{"n":8}"#),
        call(now, 5, "it's \"b\"", r#"{"n":16,"model":1.50}"#),
    ];
    writer(&store).await.write(&[calls(project, 1, &batch)]).await.expect("written");
    let whole = whole(now, now);
    let rows = async |query: MeterQuery| {
        let shown = |row: MeterRow| {
            let groups: Vec<_> =
                row.groups.into_iter().map(|group| group.unwrap_or_else(|| "-".to_owned())).collect();
            format!("{}{}={}", row.subject.unwrap_or_default(), groups.join(""), row.value)
        };
        answer(&store, &info, &query).await.into_iter().map(shown).collect::<Vec<_>>()
    };
    let by_subject = MeterQuery { by_subject: true, ..whole.clone() };
    assert_eq!(rows(by_subject.clone()).await, ["acme=3", "beta=12", "it's \"b\"=16"]);
    let by_group = MeterQuery { by_groups: vec![0], ..whole.clone() };
    assert_eq!(rows(by_group.clone()).await, ["1.5=16", "large=5", "small=2", "-=8"]);
    let filter = |values: &[Option<&str>]| {
        let values = values.iter().map(|value| value.map(str::to_owned)).collect();
        vec![GroupFilter { group: 0, values }]
    };
    assert_eq!(
        rows(MeterQuery { filters: filter(&[Some("large")]), ..by_subject.clone() }).await,
        ["acme=1", "beta=4"]
    );
    assert_eq!(rows(MeterQuery { filters: filter(&[None]), ..by_subject.clone() }).await, ["beta=8"]);
    let subjects = vec!["acme".to_owned(), "it's \"b\"".to_owned()];
    assert_eq!(rows(MeterQuery { subjects, ..by_group }).await, ["1.5=16", "large=1", "small=2"]);
    assert_eq!(rows(MeterQuery { offset: 1, limit: 1, ..by_subject }).await, ["beta=12"], "a page");
    every_check_holds(&store).await;
}

pub async fn windows_follow_the_time_zone_also_when_clocks_change(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let info = create(&store, Aggregation::Count, MeterStart::Now).await;
    // In Berlin, 2026-03-29 has 23 hours: it begins at 23:00 UTC of the day before and ends at 22:00 UTC.
    let begin = 1_774_738_800_000;
    let hour = 60 * MINUTE_MS;
    let times = [begin - 1, begin, begin + 23 * hour - 1, begin + 23 * hour];
    let batch: Vec<_> = (0..).zip(times).map(|(id, ms)| call(ms, id, "a", "{}")).collect();
    writer(&store).await.write(&[calls(project, 1, &batch)]).await.expect("written");
    let windows = async |window, zone: &str| {
        let query = MeterQuery {
            window: Some(window),
            time_zone: zone.to_owned(),
            ..whole(begin - DAY_MS, begin + 2 * DAY_MS)
        };
        let rows = answer(&store, &info, &query).await;
        rows.into_iter()
            .map(|row| ((row.end_us - row.start_us) / 3_600_000_000, row.events))
            .collect::<Vec<_>>()
    };
    assert_eq!(windows(MeterWindow::Day, "Europe/Berlin").await, [(24, 1), (23, 2), (24, 1)]);
    assert_eq!(windows(MeterWindow::Hour, "Asia/Kathmandu").await, [(1, 2), (1, 2)]);
    // There, the hour from 2 to 3 comes twice on 2026-10-25.
    let twice = 1_792_887_300_000;
    let batch = [
        call(twice, 10, "a", "{}"),
        call(twice + hour, 11, "a", "{}"),
        call(twice + hour + 1, 12, "a", "{}"),
    ];
    writer(&store).await.write(&[calls(project, 2, &batch)]).await.expect("written");
    let query = MeterQuery {
        window: Some(MeterWindow::Hour),
        time_zone: "Europe/Berlin".to_owned(),
        ..whole(twice - DAY_MS, twice + DAY_MS)
    };
    let hours = answer(&store, &info, &query).await;
    let shown = |row: MeterRow| ((twice.cast_signed() * 1_000 - row.start_us) / 60_000_000, row.events);
    assert_eq!(hours.into_iter().map(shown).collect::<Vec<_>>(), [(15, 1), (-45, 2)]);
    let months = windows(MeterWindow::Month, "Europe/Berlin").await;
    assert_eq!(months.iter().map(|month| month.1).collect::<Vec<_>>(), [4], "cut to the period: {months:?}");
    let query = MeterQuery {
        time_zone: "Mars/Olympus".to_owned(),
        window: Some(MeterWindow::Day),
        ..whole(begin, begin)
    };
    let refused = store.meter_usage(&info.meter, &query).await.expect_err("no such time zone");
    assert!(
        matches!(&refused, StoreError::Invalid(message) if message.contains("Mars/Olympus")),
        "{refused}"
    );
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

pub async fn a_deleted_meter_counts_nothing_and_leaves_its_slug(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let info = create(&store, Aggregation::Sum, MeterStart::Now).await;
    let taken = store.create_meter("p", &info.meter.definition, MeterStart::Now).await.expect_err("taken");
    assert!(matches!(&taken, StoreError::Invalid(message) if message.contains("sum")), "{taken}");
    let now = now_ms();
    let mut lane = writer(&store).await;
    lane.write(&[calls(project, 1, &[call(now, 1, "a", r#"{"n":1}"#)])]).await.expect("written");
    assert!(store.delete_meter("p", "sum").await.expect("deleted"));
    assert!(!store.delete_meter("p", "sum").await.expect("nothing"));
    lane.write(&[calls(project, 2, &[call(now, 2, "a", r#"{"n":1}"#)])]).await.expect("written");
    while store.move_additions().await.expect("removed") > 0 {}
    assert_eq!(answer(&store, &info, &whole(now, now)).await, []);
    assert_eq!(store.meters(None).await.expect("meters"), []);
    create(&store, Aggregation::Sum, MeterStart::Now).await;
}

pub async fn a_definition_that_is_not_usable_is_refused(harness: &dyn Harness) {
    let store = harness.store();
    project(&store, "p").await;
    let usable = definition(Aggregation::Sum);
    let group = usable.groups[0].clone();
    for (definition, fault) in [
        (MeterDefinition { slug: "Tokens".to_owned(), ..usable.clone() }, "slug"),
        (MeterDefinition { slug: String::new(), ..usable.clone() }, "slug"),
        (MeterDefinition { event: String::new(), ..usable.clone() }, "name of the events"),
        (MeterDefinition { value: None, ..usable.clone() }, "needs a value"),
        (MeterDefinition { aggregation: Aggregation::Count, ..usable.clone() }, "takes no value"),
        (MeterDefinition { groups: vec![group.clone(); 2], ..usable.clone() }, "twice"),
        (MeterDefinition { groups: vec![group; 9], ..usable.clone() }, "more than 8"),
    ] {
        let refused = store.create_meter("p", &definition, MeterStart::Now).await.expect_err("refused");
        assert!(
            matches!(&refused, StoreError::Invalid(message) if message.contains(fault)),
            "{fault}: {refused}"
        );
    }
    let refused = store.create_meter("other", &usable, MeterStart::Now).await.expect_err("refused");
    assert!(matches!(&refused, StoreError::Invalid(message) if message.contains("other")), "{refused}");
}

/// What a meter must show, computed from the events alone with whole thousandths.
#[derive(Default)]
struct Expected {
    events: u64,
    thousandths: Vec<i64>,
    values: BTreeSet<String>,
    latest: (u64, u128, i64),
}

impl Expected {
    fn add(&mut self, call: &Call, thousandths: i64) {
        self.events += 1;
        self.thousandths.push(thousandths);
        self.values.insert(shown(thousandths));
        self.latest = self.latest.max((call.ms, call.id, thousandths));
    }

    fn value(&self, aggregation: Aggregation) -> String {
        let sum: i64 = self.thousandths.iter().sum();
        match aggregation {
            Aggregation::Count => self.events.to_string(),
            Aggregation::Sum => shown(sum),
            Aggregation::Min => shown(*self.thousandths.iter().min().expect("an event")),
            Aggregation::Max => shown(*self.thousandths.iter().max().expect("an event")),
            Aggregation::Latest => shown(self.latest.2),
            Aggregation::UniqueCount => self.values.len().to_string(),
            Aggregation::Avg => unreachable!("compared as a sum"),
        }
    }
}

/// Thousandths in plain notation, without zeros at the end.
fn shown(thousandths: i64) -> String {
    let (sign, absolute) = (if thousandths < 0 { "-" } else { "" }, thousandths.unsigned_abs());
    let fraction = format!("{:03}", absolute % 1_000);
    let fraction = fraction.trim_end_matches('0');
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{}{point}{fraction}", absolute / 1_000)
}

pub async fn random_meters_and_events_agree_with_a_model(harness: &dyn Harness) {
    use rand::{RngExt, SeedableRng};
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let aggregations = [
        Aggregation::Count,
        Aggregation::Sum,
        Aggregation::Min,
        Aggregation::Max,
        Aggregation::Latest,
        Aggregation::UniqueCount,
    ];
    let mut lane = writer(&store).await;
    let mut meters = Vec::new();
    let mut expected: BTreeMap<(&str, String), Expected> = BTreeMap::new();
    let (mut known, mut written) = (BTreeSet::new(), Vec::new());
    for round in 0..30_u64 {
        if round == 10 {
            for aggregation in aggregations {
                meters.push(create(&store, aggregation, MeterStart::FirstEvent).await);
            }
        }
        let mut requests = Vec::new();
        for part in 0..random.random_range(1..4_u64) {
            let mut batch = Vec::new();
            for _ in 0..random.random_range(1..12) {
                let thousandths = random.random_range(-5_000..5_000_i64);
                let model = ["\"m\"", "1.50", "null"][random.random_range(0..3)];
                let properties = format!(r#"{{"n":{},"model":{model}}}"#, shown(thousandths));
                let subject = ["a", "b"][random.random_range(0..2)];
                let id = u128::from(random.random_range(0..400_u64));
                // An id has one time, so that its repetition is a duplicate.
                let ms = now - (id as u64 % 97) * 7 * MINUTE_MS;
                let call = call(ms, id, subject, &properties);
                if known.insert(id) {
                    let group = ["m", "1.5", ""]
                        [["\"m\"", "1.50", "null"].iter().position(|m| *m == model).expect("one")];
                    expected.entry((subject, group.to_owned())).or_default().add(&call, thousandths);
                }
                batch.push(call);
            }
            requests.push(calls(project, round << 8 | part, &batch));
        }
        if random.random_bool(0.3) {
            requests.extend(written.last().cloned());
        }
        lane.write(&requests).await.expect("written");
        written.extend(requests);
        if let Some(info) = meters.get(random.random_range(0..12_usize)) {
            store.backfill(info.meter.id, random.random_range(1..60)).await.expect("a step");
        }
        if random.random_bool(0.3) {
            store.move_additions().await.expect("moved");
        }
        every_check_holds(&store).await;
    }
    for info in &meters {
        while !store.backfill(info.meter.id, 100).await.expect("a step").is_last() {}
    }
    every_check_holds(&store).await;
    for info in &meters {
        let aggregation = info.meter.definition.aggregation;
        let query = MeterQuery { by_subject: true, by_groups: vec![0], ..whole(now - DAY_MS, now) };
        let rows = answer(&store, info, &query).await;
        assert_eq!(rows.len(), expected.len(), "seed {seed}");
        for row in rows {
            let key =
                (row.subject.as_deref().expect("by subject"), row.groups[0].clone().unwrap_or_default());
            let expected = &expected[&key];
            let shown = (row.events, row.value);
            assert_eq!(
                shown,
                (expected.events, expected.value(aggregation)),
                "{aggregation} {key:?} seed {seed}"
            );
        }
    }
    balanced(&store, project).await;
}

/// A JSON value as a hostile client may write it.
fn any_value(random: &mut impl rand::RngExt, depth: u32) -> String {
    let scalars = [
        "0",
        "-0",
        "-0.0",
        "1",
        "1.50",
        "15e-1",
        "1E+2",
        "123456789012345678",
        "1234567890123456789",
        "1e17",
        "1e18",
        "0.000000000000000001",
        "0.0000000000000000010",
        "1e-19",
        "12345678901234567890e-5",
        "99999999999999999.9",
        "null",
        "true",
        "false",
        r#""""#,
        r#""7""#,
        r#""-7.250""#,
        r#""007""#,
        r#""1e3""#,
        r#"" 1""#,
        r#""x""#,
        r#""\u0037""#,
        r#""caf\u00e9 \"q\" \\ \n\u0001""#,
        r#""\ud83e\udd80""#,
    ];
    match random.random_range(0..20) {
        0 if depth < 3 => format!("[{}]", any_value(random, depth + 1)),
        1 | 2 if depth < 3 => {
            format!(r#"{{"n":{},"v":{}}}"#, any_value(random, depth + 1), any_value(random, depth + 1))
        }
        3 => format!("\"{}\"", "y".repeat(random.random_range(190..210))),
        _ => scalars[random.random_range(0..scalars.len())].to_owned(),
    }
}

/// The check reads events with another program than writers: on PostgreSQL, in SQL.
pub async fn any_properties_are_counted_as_the_check_reads_them(harness: &dyn Harness) {
    use rand::{RngExt, SeedableRng};
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let store = harness.store();
    let project = project(&store, "p").await;
    let path = |text: &str| text.parse().expect("a path");
    let paths = ["$.n", "$.n.v", "$.n.n.v", "$['it\\'s \"n\"']", "subject", "context.n"];
    let paths = paths.map(|text| text.replace("\\'", "\u{2019}"));
    for (number, value) in paths.iter().enumerate() {
        for aggregation in [Aggregation::Sum, Aggregation::UniqueCount, Aggregation::Latest] {
            let definition = MeterDefinition {
                slug: format!("m{number}-{}", aggregation.to_string().replace('_', "-")),
                value: Some(path(value)),
                groups: vec![
                    Group { name: "a".to_owned(), path: path("$.g") },
                    Group { name: "b".to_owned(), path: path("$.n.n") },
                    Group { name: "c".to_owned(), path: path("client_id") },
                ],
                ..definition(aggregation)
            };
            store.create_meter("p", &definition, MeterStart::Now).await.expect("a meter");
        }
    }
    let now = now_ms();
    let batch: Vec<_> = (0..400)
        .map(|id| {
            let [n, quoted, g] = std::array::from_fn(|_| any_value(&mut random, 0));
            let again = if random.random_bool(0.1) { r#","n":5"# } else { "" };
            call(now, id, "a", &format!(r#"{{"n":{n}{again},"it\u2019s \"n\"":{quoted},"g": {g} }}"#))
        })
        .collect();
    writer(&store).await.write(&[calls(project, 1, &batch)]).await.expect("written");
    every_check_holds(&store).await;
    while store.move_additions().await.expect("moved") > 0 {}
    every_check_holds(&store).await;
    let stored = balanced(&store, project).await.stored;
    assert!(stored > 300, "most of these events can be stored: {stored}");
}
