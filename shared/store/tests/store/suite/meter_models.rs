//! Random meters and events, compared with a model of them and with the check.

use std::collections::{BTreeMap, BTreeSet};

use millrace_event::meter::{Aggregation, Group, MeterDefinition};
use millrace_store::{CancelOutcome, MeterQuery, MeterRow, MeterStart};
use rand::{RngExt, SeedableRng};

use super::cancelling::{cancel, event};
use super::metered::{Call, MINUTE_MS, answer, call, calls, create, definition, every_check_holds, whole};
use super::*;

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

const AGGREGATIONS: [Aggregation; 6] = [
    Aggregation::Count,
    Aggregation::Sum,
    Aggregation::Min,
    Aggregation::Max,
    Aggregation::Latest,
    Aggregation::UniqueCount,
];

/// Random events, many of which come again, and what meters must show of them by subject and group.
#[derive(Default)]
struct Traffic {
    known: BTreeMap<u128, KnownCall>,
    cancelled: BTreeSet<u128>,
}

/// An event that is stored, and what it counts.
struct KnownCall {
    call: Call,
    group: &'static str,
    thousandths: i64,
}

impl Traffic {
    fn batch(&mut self, random: &mut impl RngExt, now: u64) -> Vec<Call> {
        (0..random.random_range(1..12)).map(|_| self.call(random, now)).collect()
    }

    fn call(&mut self, random: &mut impl RngExt, now: u64) -> Call {
        let thousandths = random.random_range(-5_000..5_000_i64);
        let (model, group) = [("\"m\"", "m"), ("1.50", "1.5"), ("null", "")][random.random_range(0..3)];
        let properties = format!(r#"{{"n":{},"model":{model}}}"#, shown(thousandths));
        let subject = ["a", "b"][random.random_range(0..2)];
        let id = random.random_range(0..400_u64);
        // An id has one time, so that its repetition is a duplicate.
        let call = call(now - id % 97 * 7 * MINUTE_MS, id.into(), subject, &properties);
        let known = || KnownCall { call: call.clone(), group, thousandths };
        self.known.entry(id.into()).or_insert_with(known);
        call
    }

    /// Cancels some events, of which some are not stored, or cancelled already.
    async fn cancel(&mut self, random: &mut impl RngExt, store: &SharedStore, project: ProjectId, now: u64) {
        let ids: Vec<u64> = (0..random.random_range(1..6)).map(|_| random.random_range(0..400)).collect();
        let asked: Vec<_> = ids.iter().map(|id| event(now - id % 97 * 7 * MINUTE_MS, (*id).into())).collect();
        let outcomes = cancel(store, project, &asked).await;
        for (id, outcome) in ids.into_iter().zip(outcomes) {
            let id = u128::from(id);
            let expected = match (self.known.contains_key(&id), self.cancelled.contains(&id)) {
                (false, _) => CancelOutcome::NotFound,
                (true, false) => CancelOutcome::Cancelled,
                (true, true) => CancelOutcome::AlreadyCancelled,
            };
            assert_eq!(outcome, expected, "{id}");
            if outcome == CancelOutcome::Cancelled {
                self.cancelled.insert(id);
            }
        }
    }

    fn expected(&self) -> BTreeMap<(&'static str, &'static str), Expected> {
        let mut expected: BTreeMap<_, Expected> = BTreeMap::new();
        for (_, known) in self.known.iter().filter(|(id, _)| !self.cancelled.contains(id)) {
            let key = (known.call.subject, known.group);
            expected.entry(key).or_default().add(&known.call, known.thousandths);
        }
        expected
    }
}

pub async fn random_meters_and_events_agree_with_a_model(harness: &dyn Harness) {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let mut lane = writer(&store).await;
    let (mut traffic, mut meters, mut written) = (Traffic::default(), Vec::new(), Vec::new());
    for round in 0..30_u64 {
        if round == 10 {
            for aggregation in AGGREGATIONS {
                meters.push(create(&store, aggregation, MeterStart::FirstEvent).await);
            }
        }
        let parts = 0..random.random_range(1..4_u64);
        let requests = parts.map(|part| calls(project, round << 8 | part, &traffic.batch(&mut random, now)));
        let mut requests: Vec<_> = requests.collect();
        if random.random_bool(0.3) {
            requests.extend(written.last().cloned());
        }
        if random.random_bool(0.3) {
            // The process ends while it writes, and another one writes the same entries.
            let writing = lane.write(&requests);
            let pause = Duration::from_micros(random.random_range(0..4_000));
            if tokio::time::timeout(pause, writing).await.is_err() {
                lane = writer(&store).await;
            }
        }
        lane.write(&requests).await.expect("written");
        written.extend(requests);
        if let Some(info) = meters.get(random.random_range(0..12_usize)) {
            store.backfill(info.meter.id, random.random_range(1..60)).await.expect("a step");
        }
        if random.random_bool(0.3) {
            store.move_additions().await.expect("moved");
        }
        if random.random_bool(0.4) {
            traffic.cancel(&mut random, &store, project, now).await;
        }
        every_check_holds(&store).await;
    }
    for info in &meters {
        while !store.backfill(info.meter.id, 100).await.expect("a step").is_last() {}
    }
    every_check_holds(&store).await;
    for info in &meters {
        let query = MeterQuery { by_subject: true, by_groups: vec![0], ..whole(now - DAY_MS, now) };
        compare(info.meter.definition.aggregation, answer(&store, info, &query).await, &traffic.expected());
    }
    balanced(&store, project).await;
}

fn compare(
    aggregation: Aggregation,
    rows: Vec<MeterRow>,
    all: &BTreeMap<(&'static str, &'static str), Expected>,
) {
    assert_eq!(rows.len(), all.len());
    for row in rows {
        let (subject, group) = (row.subject.as_deref().expect("by subject"), row.groups[0].as_deref());
        let expected = &all[&(subject, group.unwrap_or_default())];
        let shown = (row.events, row.value);
        assert_eq!(
            shown,
            (expected.events, expected.value(aggregation)),
            "{aggregation} {subject} {group:?}"
        );
    }
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
