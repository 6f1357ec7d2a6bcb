//! Random thresholds and events, compared with a model of them.

use std::collections::{BTreeMap, BTreeSet};

use millrace_event::meter::{Aggregation, Decimal};
use millrace_store::{MeterStart, ThresholdInfo, ThresholdPeriod, ThresholdRule};
use rand::{RngExt, SeedableRng};
use time::OffsetDateTime;

use super::metered::{Call, MINUTE_MS, call, calls, create};
use super::thresholds::{all, move_all, of_meter};
use super::*;

const AGGREGATIONS: [Aggregation; 4] =
    [Aggregation::Count, Aggregation::Sum, Aggregation::Max, Aggregation::UniqueCount];
const PERIODS: [ThresholdPeriod; 3] = [ThresholdPeriod::Hour, ThresholdPeriod::Day, ThresholdPeriod::Month];

/// Threshold, subject, start of the period in seconds since 1970.
type Place = (i64, &'static str, i64);

/// The start of the period around this time.
fn start(period: ThresholdPeriod, ms: u64) -> i64 {
    let at = OffsetDateTime::from_unix_timestamp((ms / 1_000).cast_signed()).expect("a time");
    let day = at.date().midnight().assume_utc().unix_timestamp();
    match period {
        ThresholdPeriod::Hour => day + i64::from(at.hour()) * 3_600,
        ThresholdPeriod::Day => day,
        ThresholdPeriod::Month => day - i64::from(at.day() - 1) * 86_400,
    }
}

/// The end of the period with this start. Any day of the month after is good enough for a month.
fn end(period: ThresholdPeriod, start: i64) -> i64 {
    match period {
        ThresholdPeriod::Hour => start + 3_600,
        ThresholdPeriod::Day => start + 86_400,
        ThresholdPeriod::Month => self::start(period, (start + 32 * 86_400).unsigned_abs() * 1_000),
    }
}

fn figure(aggregation: Aggregation, numbers: &[i64]) -> i64 {
    match aggregation {
        Aggregation::Count => numbers.len() as i64,
        Aggregation::Sum => numbers.iter().sum(),
        Aggregation::Max => numbers.iter().copied().max().unwrap_or_default(),
        Aggregation::UniqueCount => numbers.iter().collect::<BTreeSet<_>>().len() as i64,
        other => unreachable!("{other} has no threshold"),
    }
}

/// What was stored, and what must have been notified of it.
#[derive(Default)]
struct Model {
    known: BTreeSet<u128>,
    numbers: BTreeMap<(&'static str, u64), Vec<i64>>,
    notified: BTreeMap<Place, String>,
}

impl Model {
    /// Stores these events in one step, and compares the figures that they change with all thresholds.
    fn store(&mut self, events: &[(Call, i64)], thresholds: &[ThresholdInfo]) {
        let mut changed = BTreeSet::new();
        for (event, number) in events {
            if self.known.insert(event.id) {
                self.numbers.entry((event.subject, event.ms)).or_default().push(*number);
                changed.insert((event.subject, event.ms));
            }
        }
        for info in thresholds {
            let ThresholdRule::Meter { slug, subject: only, period, value } = &info.definition.rule else {
                unreachable!("all are of meters");
            };
            let aggregation: Aggregation = slug.parse().expect("slugs are aggregations");
            let of_one =
                changed.iter().filter(|(subject, _)| only.as_ref().is_none_or(|only| only == subject));
            for (subject, ms) in of_one {
                let start = start(*period, *ms);
                let is_open = end(*period, start) > info.created_at.unix_timestamp();
                let period = self
                    .numbers
                    .iter()
                    .filter(|((of, at), _)| of == subject && self::start(*period, *at) == start);
                let numbers: Vec<_> = period.flat_map(|(_, numbers)| numbers.iter().copied()).collect();
                let figure = figure(aggregation, &numbers);
                if is_open && Decimal::from(figure) >= *value {
                    let place = (info.threshold_id, *subject, start);
                    self.notified.entry(place).or_insert(figure.to_string());
                }
            }
        }
    }
}

/// One definition at random.
async fn set_one(store: &SharedStore, random: &mut impl RngExt, number: usize) -> ThresholdInfo {
    let aggregation = AGGREGATIONS[random.random_range(0..AGGREGATIONS.len())];
    let period = PERIODS[random.random_range(0..PERIODS.len())];
    let value = random.random_range(1..40_i64).to_string();
    let mut definition = of_meter(&format!("t{number}"), aggregation, period, &value);
    if let ThresholdRule::Meter { subject, .. } = &mut definition.rule
        && random.random_bool(0.3)
    {
        *subject = Some("a".to_owned());
    }
    store.set_threshold("p", &definition).await.expect("set").info
}

/// Sums go up and down, so a threshold can be passed and left again: it is reached once all the same.
pub async fn random_thresholds_and_events_agree_with_a_model(harness: &dyn Harness) {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let store = harness.store();
    let project = project(&store, "p").await;
    for aggregation in AGGREGATIONS {
        create(&store, aggregation, MeterStart::Now).await;
    }
    let now = now_ms();
    let mut lane = writer(&store).await;
    let (mut model, mut thresholds, mut written) = (Model::default(), Vec::new(), Vec::new());
    // Random thresholds may be out of reach. These are not.
    for (name, value) in [("one", "1"), ("five", "5"), ("twenty", "20")] {
        let certain = of_meter(name, Aggregation::Count, ThresholdPeriod::Month, value);
        thresholds.push(store.set_threshold("p", &certain).await.expect("set").info);
    }
    for round in 0..60_u64 {
        if round % 5 == 0 {
            thresholds.push(set_one(&store, &mut random, thresholds.len()).await);
        }
        let events: Vec<_> = (0..random.random_range(1..8))
            .map(|_| {
                let id = random.random_range(0..600_u64);
                // An id has one time, subject and number, so that its repetition is a duplicate.
                let number = (id * 7 % 23).cast_signed() - 9;
                let subject = ["a", "b", "c"][(id % 3) as usize];
                let ms = now - id % 41 * 20 * MINUTE_MS;
                (call(ms, id.into(), subject, &format!(r#"{{"n":{number}}}"#)), number)
            })
            .collect();
        let request =
            calls(project, round, &events.iter().map(|(event, _)| event.clone()).collect::<Vec<_>>());
        model.store(&events, &thresholds);
        let mut requests = vec![request];
        if random.random_bool(0.3) {
            requests.extend(written.last().cloned());
        }
        lane.write(&requests).await.expect("written");
        written.extend(requests);
        // On a store that adds in bulk, one move compares what was added since the last.
        move_all(&store).await;
        let notified: BTreeMap<_, _> = all(&store).await.into_iter().map(notified).collect();
        let expected = model.notified.iter().map(|((id, subject, start), value)| {
            let name = thresholds.iter().find(|info| info.threshold_id == *id).expect("a threshold");
            ((name.definition.name.clone(), (*subject).to_owned(), *start), value.clone())
        });
        assert_eq!(notified, expected.collect(), "round {round}");
    }
    assert!(!model.notified.is_empty(), "the test compares something");
}

fn notified(one: millrace_store::Notification) -> ((String, String, i64), String) {
    ((one.threshold_name, one.subject, one.period_start.unix_timestamp()), one.value)
}
