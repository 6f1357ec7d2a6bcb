//! Promises about limits of customers.

use millrace_event::limit::{Amount, Charge, Counter, CounterState, Period, Refund};
use millrace_event::meter::{Aggregation, MeterId};
use millrace_event::{EntryId, PendingBatch};
use millrace_store::{LimitFilter, LimitPlace, MeterStart, RequestCharges, RequestRefunds, StoreError};

use super::metered::{call, calls, create};
use super::redriving::redrive;
use super::*;

fn amount(text: &str) -> Amount {
    Amount::parse(text).expect("an amount")
}

fn counter(meter: MeterId, period: Period, subject: &str) -> Counter {
    Counter { meter, period, subject: subject.to_owned() }
}

/// A charge of the events at the places from 0.
fn charge(counter: Counter, amounts: &[&str]) -> Charge {
    Charge { counter, events: (0..).zip(amounts.iter().map(|text| amount(text))).collect() }
}

fn charges(of: &[(usize, Charge)]) -> RequestCharges {
    let mut charges = RequestCharges::new();
    of.iter().for_each(|(index, charge)| charges.entry(*index).or_default().push(charge.clone()));
    charges
}

fn refunds(of: &[(usize, &Counter, &str)]) -> RequestRefunds {
    let mut refunds = RequestRefunds::new();
    for (index, counter, text) in of {
        let refund = Refund { counter: Counter::clone(counter), amount: amount(text) };
        refunds.entry(*index).or_default().push(refund);
    }
    refunds
}

fn pending(request: &WriteRequest) -> PendingBatch {
    let WriteRequest { entry, batch_id, project, count, .. } = *request;
    PendingBatch { id: entry, batch_id, project, count, bytes: 1 }
}

/// The counters of a rebuild, as texts.
async fn rebuilt(store: &SharedStore, pending: &[(PendingBatch, Vec<Charge>)]) -> Vec<(String, String)> {
    let states = store.limits_for_rebuild(0, 1, pending).await.expect("counters");
    let state = |(_, CounterState { counter, used, .. }): (ProjectId, CounterState)| {
        (format!("{} {}", counter.subject, counter.period), used.to_string())
    };
    states.into_iter().map(state).collect()
}

fn expect(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(counter, used)| ((*counter).to_owned(), (*used).to_owned())).collect()
}

pub async fn a_limit_is_set_changed_and_removed(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let meter = create(&store, Aggregation::Sum, MeterStart::Now).await.meter.id;
    assert!(store.limit_versions().await.expect("versions").is_empty());
    let month = Period::Month;
    store.set_limit("p", "sum", month, Some("acme"), amount("5")).await.expect("a limit");
    let first = store.limit_versions().await.expect("versions")[&project];
    store.set_limit("p", "sum", month, Some("acme"), amount("7.000000001")).await.expect("a change");
    store.set_limit("p", "sum", Period::Day, None, amount("0")).await.expect("a limit");
    let second = store.limit_versions().await.expect("versions")[&project];
    assert!(second > first);
    let set = harness.another().limit_set(project).await.expect("limits");
    let of_acme = [(Period::Day, amount("0")), (month, amount("7.000000001"))];
    assert_eq!(set.of_customer(meter, "acme"), of_acme);
    assert_eq!(set.of_customer(meter, "other"), of_acme[..1]);
    let filter = LimitFilter { project: "p".to_owned(), at_most: 10, ..LimitFilter::default() };
    let listed = store.limits(&filter).await.expect("a list");
    let shown: Vec<_> = listed.iter().map(|limit| (limit.subject.as_deref(), limit.period)).collect();
    assert_eq!(shown, [(None, Period::Day), (Some("acme"), month)]);
    let only = LimitFilter { subject: Some("acme".to_owned()), ..filter.clone() };
    assert_eq!(store.limits(&only).await.expect("a list"), listed[1..]);
    let first = LimitPlace { slug: "sum".to_owned(), subject: String::new(), period: Period::Day };
    let rest = LimitFilter { after: Some(first), ..filter.clone() };
    assert_eq!(store.limits(&rest).await.expect("a list"), listed[1..]);
    assert!(store.delete_limit("p", "sum", Period::Day, None).await.expect("removed"));
    assert!(!store.delete_limit("p", "sum", Period::Day, None).await.expect("there is none"));
    let third = store.limit_versions().await.expect("versions")[&project];
    assert!(third > second);
    assert!(store.delete_meter("p", "sum").await.expect("deleted"));
    assert!(store.limit_set(project).await.expect("limits").is_empty(), "a meter takes its limits with it");
    assert!(store.limit_versions().await.expect("versions")[&project] > third);
    assert_eq!(store.limits(&filter).await.expect("a list"), []);
}

pub async fn a_limit_that_cannot_be_kept_is_refused(harness: &dyn Harness) {
    let store = harness.store();
    project(&store, "p").await;
    for aggregation in [Aggregation::Max, Aggregation::UniqueCount, Aggregation::Count] {
        create(&store, aggregation, MeterStart::Now).await;
    }
    let set = |project: &'static str, slug: &'static str, subject: &str| {
        let (store, subject) = (&store, subject.to_owned());
        async move { store.set_limit(project, slug, Period::Hour, Some(&subject), amount("1")).await }
    };
    for (project, slug, subject, reason) in [
        ("p", "max", "a", "only count and sum"),
        ("p", "unique_count", "a", "only count and sum"),
        ("p", "none", "a", "no meter none"),
        ("q", "count", "a", "q"),
        ("p", "count", "", "empty"),
        ("p", "count", &"s".repeat(201), "200 bytes"),
        ("p", "count", "a\0", "U+0000"),
    ] {
        let Err(StoreError::Invalid(message) | StoreError::Missing(message)) =
            set(project, slug, subject).await
        else {
            panic!("{slug}")
        };
        assert!(message.contains(reason), "{message}");
    }
    set("p", "count", "a").await.expect("a limit");
}

pub async fn what_stored_events_used_is_recorded_once(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let (now, meter) = (now_ms(), MeterId(1));
    let (month, day) = (counter(meter, Period::Month, "a"), counter(meter, Period::Day, "a"));
    let first = calls(project, 1, &[call(now, 1, "a", "{}"), call(now, 2, "a", "{}")]);
    let again = calls(project, 2, &[call(now, 2, "a", "{}"), call(now, 3, "a", "{}")]);
    let mut lane = writer(&store).await;
    let of_first = charge(month.clone(), &["1.999999999", "2.000000002"]);
    let of_again = charge(month.clone(), &["5", "7"]);
    let charged = charges(&[(0, of_first.clone()), (0, charge(day.clone(), &["1"])), (1, of_again.clone())]);
    let both = [first.clone(), again.clone()];
    let expected = refunds(&[(1, &month, "5")]);
    let (_, given_back) = lane.write_charged(&both, &charged).await.expect("written");
    assert_eq!(given_back, expected);
    let (outcomes, given_back) = lane.write_charged(&both, &charged).await.expect("written again");
    assert!(outcomes.iter().all(|outcome| outcome.redelivered));
    assert_eq!(given_back, expected, "the settlement of a redelivered entry gives back the same");
    let settled = expect(&[("a day", "1"), ("a month", "11.000000001")]);
    assert_eq!(rebuilt(&store, &[]).await, settled);
    let waiting = [(pending(&again), vec![of_again]), (pending(&first), vec![of_first])];
    let with_refunds = expect(&[("a day", "1"), ("a month", "16.000000001")]);
    assert_eq!(rebuilt(&store, &waiting).await, with_refunds, "settling will give 5 back");
}

pub async fn a_pending_batch_is_in_the_counters_of_a_rebuild(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let month = counter(MeterId(1), Period::Month, "a");
    let unwritten = calls(project, 1, &[call(now, 1, "a", "{}"), call(now, 2, "a", "{}")]);
    let of_last_year = EntryId { ms: now - 400 * DAY_MS, seq: 0 };
    let old = PendingBatch { id: of_last_year, ..pending(&unwritten) };
    let waiting = [
        (old, vec![charge(month.clone(), &["100"])]),
        (pending(&unwritten), vec![charge(month, &["1.5", "2"])]),
    ];
    assert_eq!(rebuilt(&store, &waiting).await, expect(&[("a month", "3.5")]), "the latest window counts");
    assert_eq!(store.limits_for_rebuild(1, 2, &waiting[..0]).await.expect("counters"), []);
}

pub async fn a_redriven_event_is_not_charged_again(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let month = counter(MeterId(1), Period::Month, "a");
    let dead = super::redriving::given_up_as(&calls(project, 1, &[call(now, 1, "a", "{}")]));
    let charged = charges(&[(0, charge(month.clone(), &["4"]))]);
    let mut lane = writer(&store).await;
    let (_, given_back) = lane.write_charged(std::slice::from_ref(&dead), &charged).await.expect("written");
    assert_eq!(given_back, refunds(&[(0, &month, "4")]));
    redrive(&store).await;
    let (_, given_back) = lane.write_charged(&[dead], &charged).await.expect("written again");
    assert_eq!(given_back, refunds(&[(0, &month, "4")]), "a late settlement gives back what was dead then");
    assert_eq!(rebuilt(&store, &[]).await, expect(&[]));
}
