//! Promises about thresholds of limits of customers.

use std::collections::{BTreeMap, BTreeSet};

use millrace_event::limit::{Amount, Charge, Counter, Period};
use millrace_event::meter::{Aggregation, MeterId};
use millrace_store::{
    MeterStart, Notification, RequestCharges, StoreError, ThresholdDefinition, ThresholdPeriod,
    ThresholdRule, Writer,
};
use rand::{RngExt, SeedableRng};

use super::metered::{call, calls, create};
use super::thresholds::all;
use super::*;

fn of_limit(name: &str, percent: u8, subject: Option<&str>, period: ThresholdPeriod) -> ThresholdDefinition {
    let (slug, subject) = ("sum".to_owned(), subject.map(str::to_owned));
    let rule = ThresholdRule::Limit { percent, slug, subject, period };
    ThresholdDefinition { name: name.to_owned(), rule, url: "https://hooks.example/in".to_owned() }
}

fn amount(text: &str) -> Amount {
    Amount::parse(text).expect("an amount")
}

/// A batch of one event of this customer, received at this time, and what it is charged for each period.
fn charged(
    (project, meter, ms): (ProjectId, MeterId, u64),
    (id, subject): (u64, &'static str),
    periods: &[Period],
    used: Amount,
) -> (WriteRequest, RequestCharges) {
    let charge = |period: &Period| {
        let counter = Counter { meter, period: *period, subject: subject.to_owned() };
        Charge { counter, events: vec![(0, used)] }
    };
    let mut request = calls(project, id, &[call(ms, id.into(), subject, r#"{"n":1}"#)]);
    request.entry = entry(ms, id);
    (request, RequestCharges::from([(0, periods.iter().map(charge).collect())]))
}

async fn store_one(lane: &mut Box<dyn Writer>, batch: &(WriteRequest, RequestCharges)) {
    lane.write_charged(std::slice::from_ref(&batch.0), &batch.1).await.expect("written");
}

/// Name, subject, and both values.
fn shown(one: &Notification) -> [&str; 4] {
    [&one.threshold_name, &one.subject, &one.threshold, &one.value]
}

pub async fn a_limit_is_reached_once_for_each_customer_by_what_is_stored(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let (meter, now) = (create(&store, Aggregation::Sum, MeterStart::Now).await.meter.id, now_ms());
    store.set_limit("p", "sum", Period::Month, None, amount("10")).await.expect("a limit");
    store.set_limit("p", "sum", Period::Month, Some("own"), amount("99.000000001")).await.expect("a limit");
    store.set_threshold("p", &of_limit("near", 80, None, ThresholdPeriod::Month)).await.expect("set");
    store.set_threshold("p", &of_limit("own", 100, Some("own"), ThresholdPeriod::Month)).await.expect("set");
    store.set_threshold("p", &of_limit("day", 1, None, ThresholdPeriod::Day)).await.expect("set");
    let mut lane = writer(&store).await;
    let batch =
        |id, subject, used| charged((project, meter, now), (id, subject), &[Period::Month], amount(used));
    let first = batch(1, "a", "7.999999999");
    for _ in 0..3 {
        store_one(&mut lane, &first).await;
    }
    store_one(&mut lane, &batch(2, "own", "70")).await;
    assert_eq!(all(&store).await, [], "a redelivered batch uses nothing, and a day has no limit");
    store_one(&mut lane, &batch(3, "a", "0.000000001")).await;
    store_one(&mut lane, &batch(4, "a", "2")).await;
    store_one(&mut lane, &batch(5, "own", "29.000000001")).await;
    let notified = all(&store).await;
    assert_eq!(
        notified.iter().map(shown).collect::<Vec<_>>(),
        [
            ["near", "a", "8", "8"],
            ["near", "own", "79.2000000008", "99.000000001"],
            ["own", "own", "99.000000001", "99.000000001"],
        ]
    );
    let one = &notified[0];
    assert_eq!((one.kind.as_str(), one.percent, one.meter.as_deref()), ("limit", Some(80), Some("sum")));
    assert_eq!((one.period, one.period_start.day()), (ThresholdPeriod::Month, 1));
}

pub async fn a_limit_that_changes_is_compared_as_it_is_when_an_event_is_stored(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let (meter, now) = (create(&store, Aggregation::Sum, MeterStart::Now).await.meter.id, now_ms());
    let month = Period::Month;
    store.set_limit("p", "sum", month, Some("a"), amount("100")).await.expect("a limit");
    store.set_threshold("p", &of_limit("half", 50, None, ThresholdPeriod::Month)).await.expect("set");
    let mut lane = writer(&store).await;
    let batch = |id| charged((project, meter, now), (id, "a"), &[month], amount("10"));
    store_one(&mut lane, &batch(1)).await;
    store.set_limit("p", "sum", month, Some("a"), amount("40")).await.expect("a lower limit");
    assert_eq!(all(&store).await, []);
    store_one(&mut lane, &batch(2)).await;
    assert_eq!(all(&store).await.iter().map(shown).collect::<Vec<_>>(), [["half", "a", "20", "20"]]);
    store.set_limit("p", "sum", month, Some("a"), amount("1000")).await.expect("a higher limit");
    store_one(&mut lane, &batch(3)).await;
    assert_eq!(all(&store).await.len(), 1, "what was reached stays reached");
    store.delete_limit("p", "sum", month, Some("a")).await.expect("removed");
    store.set_threshold("p", &of_limit("any", 1, None, ThresholdPeriod::Month)).await.expect("set");
    store_one(&mut lane, &batch(4)).await;
    assert_eq!(all(&store).await.len(), 1, "without a limit there is nothing to reach");
    assert!(store.delete_meter("p", "sum").await.expect("deleted"));
    assert_eq!(store.thresholds(Some(project)).await.expect("thresholds"), []);
}

pub async fn racing_writers_reach_a_limit_exactly_once(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let (meter, now) = (create(&store, Aggregation::Sum, MeterStart::Now).await.meter.id, now_ms());
    store.set_limit("p", "sum", Period::Month, None, amount("40")).await.expect("a limit");
    store.set_threshold("p", &of_limit("half", 50, None, ThresholdPeriod::Month)).await.expect("set");
    let writes = (0..4_u64).map(|lane| {
        let store = harness.another();
        async move {
            let mut writer = writer(&store).await;
            for seq in 0..10 {
                let batch =
                    charged((project, meter, now), (lane * 100 + seq, "a"), &[Period::Month], Amount::ONE);
                store_one(&mut writer, &batch).await;
            }
        }
    });
    futures_util::future::join_all(writes).await;
    assert_eq!(all(&store).await.iter().map(shown).collect::<Vec<_>>(), [["half", "a", "20", "20"]]);
}

pub async fn a_threshold_of_a_limit_that_is_not_usable_is_refused(harness: &dyn Harness) {
    let store = harness.store();
    project(&store, "p").await;
    create(&store, Aggregation::Sum, MeterStart::Now).await;
    create(&store, Aggregation::Max, MeterStart::Now).await;
    let month = ThresholdPeriod::Month;
    let mut of_max = of_limit("x", 5, None, month);
    if let ThresholdRule::Limit { slug, .. } = &mut of_max.rule {
        *slug = "max".to_owned();
    }
    for (definition, reason) in [
        (of_limit("x", 0, None, month), "1% to 100%"),
        (of_limit("x", 101, None, month), "1% to 100%"),
        (of_limit("x", 5, Some(""), month), "empty"),
        (of_limit("x", 5, Some("a\0"), month), "U+0000"),
        (of_max, "only count and sum"),
    ] {
        let Err(StoreError::Invalid(message)) = store.set_threshold("p", &definition).await else {
            panic!("{definition:?}")
        };
        assert!(message.contains(reason), "{message}");
    }
}

/// What is used, and what must have been notified of it.
#[derive(Default)]
struct Model {
    stored: BTreeSet<u64>,
    used: BTreeMap<(&'static str, Period), u64>,
    limits: BTreeMap<(Option<&'static str>, Period), u64>,
    notified: BTreeMap<(String, &'static str), String>,
}

impl Model {
    fn store(&mut self, (id, subject): (u64, &'static str), used: u64, thresholds: &[ThresholdDefinition]) {
        if !self.stored.insert(id) {
            return;
        }
        for period in [Period::Day, Period::Month] {
            let sum = self.used.entry((subject, period)).or_default();
            *sum += used;
            let own = self.limits.get(&(Some(subject), period));
            let Some(limit) = own.or(self.limits.get(&(None, period))) else { continue };
            for definition in thresholds {
                let ThresholdRule::Limit { percent, subject: only, period: per, .. } = &definition.rule
                else {
                    unreachable!("all are of limits");
                };
                let is_of = per.to_string() == period.to_string()
                    && only.as_deref().is_none_or(|only| only == subject);
                if is_of && *sum * 100 >= limit * u64::from(*percent) {
                    let place = (definition.name.clone(), subject);
                    self.notified.entry(place).or_insert(sum.to_string());
                }
            }
        }
    }
}

/// Limits change and vanish while events are stored, some of them twice.
pub async fn random_limits_and_thresholds_agree_with_a_model(harness: &dyn Harness) {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let store = harness.store();
    let project = project(&store, "p").await;
    let (meter, now) = (create(&store, Aggregation::Sum, MeterStart::Now).await.meter.id, now_ms());
    let mut lane = writer(&store).await;
    let (mut model, mut thresholds) = (Model::default(), Vec::new());
    let mut batches = BTreeMap::new();
    for round in 0..80_u64 {
        if round % 8 == 0 {
            let period = [ThresholdPeriod::Day, ThresholdPeriod::Month][random.random_range(0..2)];
            let only = random.random_bool(0.3).then_some("a");
            let percent = random.random_range(1..=100);
            thresholds.push(of_limit(&format!("t{round}"), percent, only, period));
            store.set_threshold("p", &thresholds[thresholds.len() - 1]).await.expect("set");
        }
        let (subject, period) = ([None, Some("a"), Some("b")][(round % 3) as usize], Period::Month);
        let period = if round % 2 == 0 { period } else { Period::Day };
        let limit = random.random_range(1..200_u64);
        if random.random_bool(0.2) {
            store.delete_limit("p", "sum", period, subject).await.expect("removed");
            model.limits.remove(&(subject, period));
        } else {
            let set = store.set_limit("p", "sum", period, subject, Amount::of_parts(limit, 0));
            set.await.expect("a limit");
            model.limits.insert((subject, period), limit);
        }
        let id = random.random_range(0..120_u64);
        let (customer, used) = (["a", "b", "c"][(id % 3) as usize], id * 7 % 11 + 1);
        let batch = batches.entry(id).or_insert_with(|| {
            let periods = [Period::Day, Period::Month];
            charged((project, meter, now), (id, customer), &periods, Amount::of_parts(used, 0))
        });
        store_one(&mut lane, batch).await;
        model.store((id, customer), used, &thresholds);
        let notified = all(&store).await;
        let found: BTreeMap<_, _> = notified
            .iter()
            .map(|one| ((one.threshold_name.clone(), one.subject.as_str()), one.value.clone()))
            .collect();
        assert_eq!(found, model.notified, "round {round}");
    }
    assert!(!model.notified.is_empty(), "the test compares something");
}
