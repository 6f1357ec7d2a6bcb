//! Usage adds up: periods next to each other count every event once.

use millrace_event::plan::ProjectId;
use millrace_store::{UsageRow, UsageWindow};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use time::{Duration, OffsetDateTime};

use super::*;

const HOURS: i64 = 5 * 24;
const HOUR_MS: u64 = 3_600_000;
const CASES: usize = 25;

/// A batch at some time of the five days. Ids repeat, so that some events are duplicates.
#[derive(Clone, Debug)]
struct Batch {
    after_ms: u64,
    ids: Vec<u128>,
    is_dead: bool,
}

fn any_batch() -> impl Strategy<Value = Batch> {
    // Full hours and their last milliseconds are frequent.
    let hours = 0..HOURS.unsigned_abs();
    let within = prop_oneof![Just(0), Just(HOUR_MS - 1), 0..HOUR_MS];
    let ids = proptest::collection::vec(1..200_u128, 1..6);
    (hours, within, ids, proptest::bool::weighted(0.1)).prop_map(|(hour, within, ids, is_dead)| Batch {
        after_ms: hour * HOUR_MS + within,
        ids,
        is_dead,
    })
}

/// Full hours, ascending, from a day before the events to a day after them: a period and its pieces.
fn any_cuts() -> impl Strategy<Value = Vec<i64>> {
    proptest::collection::btree_set(-24..=HOURS + 24, 2..12).prop_map(|cuts| cuts.into_iter().collect())
}

type Sums = [u64; 4];

fn sums<'a>(rows: impl IntoIterator<Item = &'a UsageRow>) -> (Sums, u64) {
    rows.into_iter().fold(([0; 4], 0), |([events, duplicates, dead, conflicts], bytes), row| {
        (
            [events + row.events, duplicates + row.duplicates, dead + row.dead, conflicts + row.conflicts],
            bytes + row.bytes,
        )
    })
}

fn add(sums: &mut (Sums, u64), more: (Sums, u64)) {
    sums.0.iter_mut().zip(more.0).for_each(|(sum, more)| *sum += more);
    sums.1 += more.1;
}

/// The first of the previous month, less two days: the events cross the end of a month.
fn first_hour() -> OffsetDateTime {
    let now = OffsetDateTime::from_unix_timestamp((now_ms() / 1_000).cast_signed()).expect("a time");
    let this_month = now.replace_day(1).expect("a first").replace_time(time::Time::MIDNIGHT);
    (this_month - Duration::DAY).replace_day(1).expect("a first") - Duration::days(2)
}

/// Writes the batches, and returns the outcome of each with the hour of its receipt.
async fn write(store: &SharedStore, project: ProjectId, batches: &[Batch]) -> Vec<(i64, Sums)> {
    let first_ms = first_hour().unix_timestamp().unsigned_abs() * 1_000;
    let requests = batches.iter().zip(0_u64..).map(|(batch, seq)| {
        let entry = entry(first_ms + batch.after_ms, seq);
        let made = request(project, new_batch_id(), entry, &events(first_ms, batch.ids.iter().copied()));
        let letter = || Payload::DeadLetter { reason: "damaged".to_owned(), raw: vec![1].into() };
        if batch.is_dead { WriteRequest { payload: letter(), ..made } } else { made }
    });
    let requests: Vec<_> = requests.collect();
    let mut lane = writer(store).await;
    let mut outcomes = Vec::new();
    for chunk in requests.chunks(20) {
        outcomes.extend(lane.write(chunk).await.expect("written"));
    }
    let of_hour = |(batch, written): (&Batch, &WriteOutcome)| {
        let Outcome { stored, duplicate, dead, conflict } = written.outcome;
        ((batch.after_ms / HOUR_MS).cast_signed(), [stored, duplicate, dead, conflict].map(u64::from))
    };
    batches.iter().zip(&outcomes).map(of_hour).collect()
}

pub async fn usage_adds_up_over_every_partition_of_a_period(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "mine").await;
    let mut runner = TestRunner::default();
    let batches =
        proptest::collection::vec(any_batch(), 150).new_tree(&mut runner).expect("batches").current();
    let written = write(&store, project, &batches).await;
    let first = first_hour();
    let at = |hour: i64| first + Duration::hours(hour);
    for _ in 0..CASES {
        let cuts = any_cuts().new_tree(&mut runner).expect("cuts").current();
        let (from, to) = (cuts[0], *cuts.last().expect("two or more"));
        let received = written.iter().filter(|(hour, _)| (from..to).contains(hour));
        let expected =
            received.fold([0; 4], |sum, (_, more)| [0, 1, 2, 3].map(|index| sum[index] + more[index]));
        for window in [UsageWindow::Hour, UsageWindow::Day, UsageWindow::Month] {
            let usage = async |from, to| {
                let rows = store.usage(project, at(from), at(to), window).await.expect("usage");
                assert!(rows.is_sorted_by(|one, next| one.start < next.start), "{rows:?}");
                assert!(
                    rows.iter().all(|row| (at(from)..at(to)).contains(&row.start)),
                    "{rows:?} of {cuts:?}"
                );
                assert!(
                    rows.iter().all(|row| row.start == at(from) || begins(window, row.start)),
                    "{rows:?}"
                );
                sums(&rows)
            };
            let whole = usage(from, to).await;
            assert_eq!(whole.0, expected, "{window:?} of {cuts:?}");
            let mut pieces = ([0; 4], 0);
            for piece in cuts.windows(2) {
                add(&mut pieces, usage(piece[0], piece[1]).await);
            }
            assert_eq!(pieces, whole, "{window:?} of {cuts:?}");
        }
        let mut pieces = ([0; 4], 0);
        for piece in cuts.windows(2) {
            let all = store.usage_of_all(at(piece[0]), at(piece[1])).await.expect("usage");
            add(&mut pieces, sums(all.iter().map(|project| &project.usage)));
        }
        assert_eq!(pieces.0, expected, "all projects of {cuts:?}");
    }
}

/// Whether a window begins at this time.
fn begins(window: UsageWindow, time: OffsetDateTime) -> bool {
    let hour = time.truncate_to_hour() == time;
    let day = time.truncate_to_day() == time;
    match window {
        UsageWindow::Hour => hour,
        UsageWindow::Day => day,
        UsageWindow::Month => day && time.day() == 1,
    }
}
