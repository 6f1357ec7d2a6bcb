//! Limits of customers compared with the reference model, `millrace_event::limit::charge`, on random batches,
//! limits, refunds and changes of the window.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_event::limit::{Amount, Charge, Counter, LimitedCharge, Period, Refund, charge};
use millrace_event::plan::Plan;
use millrace_stream::{Decision, Settlement, SharedStream};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::redis::run;
use crate::suite::limiting::counter;
use crate::suite::*;

const PERIODS: [Period; 3] = [Period::Hour, Period::Day, Period::Month];
const SUBJECTS: [&str; 2] = ["acme", "other: a customer"];

/// A counter by its number, the units of its limit, and what each event takes: units and billionths.
type RandomCharge = (usize, u64, Vec<(u64, u32)>);

#[derive(Clone, Debug)]
enum Step {
    /// Charges of counters.
    Admit(Vec<RandomCharge>),
    /// Settles the oldest entry, of which the events at these places are not stored.
    Settle(Vec<bool>),
    /// What is used is then of a window that has ended.
    EndOfWindow,
}

fn step() -> impl Strategy<Value = Step> {
    let part = prop_oneof![Just(0_u32), Just(999_999_999_u32), 0..1_000_000_000_u32];
    let units = prop_oneof![4 => 0_u64..5, 1 => Just(99_999_999_999_999_u64)];
    let limit = prop_oneof![4 => 0_u64..30, 1 => Just(999_999_999_999_999_u64)];
    let charges = vec((0..PERIODS.len() * SUBJECTS.len(), limit, vec((units, part), 1..4)), 1..4);
    prop_oneof![
        5 => charges.prop_map(Step::Admit),
        2 => vec(any::<bool>(), 4).prop_map(Step::Settle),
        1 => Just(Step::EndOfWindow),
    ]
}

fn counter_at(at: usize) -> Counter {
    counter(7, PERIODS[at / SUBJECTS.len()], SUBJECTS[at % SUBJECTS.len()])
}

/// What is used in the current windows.
#[derive(Default)]
struct Model {
    used: BTreeMap<Counter, (u64, Amount)>,
}

impl Model {
    fn used(&self, counter: &Counter, now_us: u64) -> Amount {
        let found = self.used.get(counter).filter(|(window, _)| *window == counter.period.window(now_us));
        found.map_or(Amount::ZERO, |(_, used)| *used)
    }

    async fn admit(&mut self, stream: &SharedStream, charges: Vec<RandomCharge>) {
        // A batch is charged once to a counter.
        let charges: BTreeMap<_, _> =
            charges.into_iter().map(|(at, limit, events)| (at, (limit, events))).collect();
        let limited = |(at, (limit, events)): (usize, (u64, Vec<(u64, u32)>))| {
            let amounts = events.into_iter().map(|(units, part)| Amount::of_parts(units, part));
            let charge = Charge { counter: counter_at(at), events: (0..).zip(amounts).collect() };
            LimitedCharge { charge, limit: Amount::of_parts(limit, 0) }
        };
        let charges: Vec<_> = charges.into_iter().map(limited).collect();
        let plan = Plan { requests_per_minute: u32::MAX, burst: u32::MAX, events_per_month: None, ..plan() };
        let decision = admit_under(stream, &batch(4).with_charges(charges.clone()), &plan).await;
        let (Decision::Admitted { limit_state, .. } | Decision::LimitExceeded { limit_state, .. }) =
            &decision
        else {
            panic!("{decision:?}");
        };
        let now_us = limit_state.now_us;
        let used: Vec<_> = charges.iter().map(|limited| self.used(&limited.charge.counter, now_us)).collect();
        match charge(&used, &charges) {
            Err(_) => assert_eq!(decision, Decision::LimitExceeded { limit_state: *limit_state, used }),
            Ok(after) => {
                assert!(matches!(decision, Decision::Admitted { .. }), "{decision:?}");
                for (limited, after) in charges.iter().zip(after) {
                    let counter = limited.charge.counter.clone();
                    self.used.insert(counter.clone(), (counter.period.window(now_us), after));
                }
            }
        }
    }

    async fn settle(&mut self, stream: &SharedStream, is_stored: &[bool]) {
        let mut reader = stream.reader(0, "lane").await.unwrap();
        let Some(delivery) = reader.next(1, Duration::ZERO).await.unwrap().pop() else { return };
        let entry = delivery.entry.as_ref().unwrap();
        let charges = entry.charges_of(only_batch(&delivery).batch_id);
        let refund = |charge: &Charge| charge.refund(|event| is_stored[event as usize]);
        let refunds: Vec<Refund> = charges.iter().filter_map(refund).collect();
        for Refund { counter, amount } in &refunds {
            if let Some((window, used)) = self.used.get_mut(counter)
                && *window == counter.period.window(delivery.id.ms * 1_000)
            {
                *used = used.minus(*amount);
            }
        }
        let refunds = refunds.into_iter().map(|refund| (0, refund)).collect();
        let settlement = Settlement { refunds, ..settlement(&delivery, 0, 0) };
        assert_eq!(stream.settle(0, &[settlement]).await.unwrap(), 1);
    }

    async fn assert_is_that_of(&self, stream: &SharedStream) {
        let counters: Vec<_> = (0..PERIODS.len() * SUBJECTS.len()).map(counter_at).collect();
        let (now_us, used) = stream.limits_used(PROJECT, &counters).await.unwrap();
        let expected: Vec<_> = counters.iter().map(|counter| self.used(counter, now_us)).collect();
        assert_eq!(used, expected);
    }
}

/// Compares a stream with the model through many histories. `clear` empties the stream before each, and
/// `end_windows` gives every counter the window before its own.
fn assert_limits_as_the_model<H: Harness>(
    start: impl AsyncFn() -> H,
    clear: impl AsyncFn(&H, &SharedStream),
    end_windows: impl AsyncFn(&H, &SharedStream, &mut Model),
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let harness = runtime.block_on(start());
    let stream = runtime.block_on(trusted_stream(&harness));
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let result = runner.run(&vec(step(), 1..30), |history| {
        runtime.block_on(async {
            clear(&harness, &stream).await;
            let mut model = Model::default();
            for step in history {
                match step {
                    Step::Admit(charges) => model.admit(&stream, charges).await,
                    Step::Settle(is_stored) => model.settle(&stream, &is_stored).await,
                    Step::EndOfWindow => end_windows(&harness, &stream, &mut model).await,
                }
                model.assert_is_that_of(&stream).await;
            }
        });
        Ok(())
    });
    result.unwrap();
}

#[test]
fn the_redis_stream_limits_like_the_model() {
    assert_limits_as_the_model(
        crate::redis::harness,
        async |redis, stream| {
            run(redis, &["FLUSHALL"]).await;
            rebuilt(stream, EPOCH, &[]).await;
        },
        async |redis, _, model| {
            // Every counter is then of a window that is no longer the current one.
            for (counter, (window, _)) in &mut model.used {
                *window -= 1;
                let Counter { meter, period, subject } = counter;
                let key = format!("{{s0}}:limit:{EPOCH}:{PROJECT}:{}:{period}:{subject}", meter.0);
                run(redis, &["HSET", &key, "window", &window.to_string()]).await;
            }
        },
    );
}

#[test]
fn the_embedded_stream_limits_like_the_model() {
    assert_limits_as_the_model(
        crate::embedded::harness,
        async |_, stream| {
            drain(stream, "lane").await;
            stream.fence(0, EPOCH).await.unwrap();
            assert!(stream.restore_limits(0, EPOCH, &[]).await.unwrap());
            rebuilt(stream, EPOCH, &[]).await;
        },
        async |_, stream, model| {
            // Only a rebuild can give counters of this file another window.
            for (window, _) in model.used.values_mut() {
                *window -= 1;
            }
            let states = model.used.iter().map(|(counter, (window, used))| {
                let (counter, window, used) = (counter.clone(), *window, *used);
                (PROJECT, millrace_event::limit::CounterState { counter, window, used })
            });
            stream.fence(0, EPOCH).await.unwrap();
            assert!(stream.restore_limits(0, EPOCH, &states.collect::<Vec<_>>()).await.unwrap());
            rebuilt(stream, EPOCH, &[]).await;
        },
    );
}
