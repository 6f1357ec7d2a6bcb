//! Admission compared with the reference model, `LimitState::charge`.
//!
//! A stream has its own clock. Each answer contains the time of its decision, and the model decides for that
//! time.

use std::time::Duration;

use millrace_event::plan::{LimitState, Plan, Refusal, month_of};
use millrace_stream::{Decision, SharedStream};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use redis::Value;
use testkit::Redis;

use crate::redis::run;
use crate::suite::*;

#[derive(Clone, Debug)]
enum Step {
    Admit {
        count: u32,
        requests_per_minute: u32,
        burst: u32,
        events_per_month: Option<u64>,
    },
    /// Settles the oldest entry with this many duplicates.
    Settle {
        duplicate: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let admit = (
        prop_oneof![Just(10_u32), 1_u32..50],
        prop_oneof![1_u32..100, 10_000_u32..60_000_000],
        prop_oneof![1_u32..6, 1_000_u32..2_000],
        proptest::option::of(prop_oneof![(0_u64..10).prop_map(|tens| tens * 10), 0_u64..300]),
    )
        .prop_map(|(count, requests_per_minute, burst, events_per_month)| Step::Admit {
            count,
            requests_per_minute,
            burst,
            events_per_month,
        });
    prop_oneof![4 => admit, 1 => (0_u32..50).prop_map(|duplicate| Step::Settle { duplicate })]
}

/// The state of the project between two calls.
#[derive(Default)]
struct Model {
    tat_us: u64,
    month: u32,
    used: u64,
    accepted: u64,
    pending: i64,
}

impl Model {
    fn at(&self, now_us: u64) -> LimitState {
        let used = if self.month == month_of(now_us) { self.used } else { 0 };
        LimitState { now_us, tat_us: self.tat_us, used }
    }

    async fn admit(&mut self, stream: &SharedStream, plan: &Plan, count: u32) {
        let decision = admit_under(stream, &batch(count), plan).await;
        let (Decision::Admitted { limit_state, .. }
        | Decision::RateLimited { limit_state, .. }
        | Decision::QuotaExceeded { limit_state }) = decision
        else {
            panic!("{decision:?}");
        };
        let expected = match self.at(limit_state.now_us).charge(plan, u64::from(count)) {
            Ok(limit_state) => Decision::Admitted { received_ms: limit_state.now_us / 1_000, limit_state },
            Err(Refusal::Rate { wait_us }) => {
                Decision::RateLimited { wait_us, limit_state: self.at(limit_state.now_us) }
            }
            Err(Refusal::Quota) => Decision::QuotaExceeded { limit_state: self.at(limit_state.now_us) },
        };
        assert_eq!(decision, expected);
        if let Decision::Admitted { limit_state, .. } = expected {
            (self.tat_us, self.used) = (limit_state.tat_us, limit_state.used);
            self.month = month_of(limit_state.now_us);
            self.accepted += u64::from(count);
            self.pending += i64::from(count);
        }
    }

    async fn settle(&mut self, stream: &SharedStream, duplicate: u32) {
        let mut reader = stream.reader(0, "lane").await.unwrap();
        let Some(delivery) = reader.next(1, Duration::ZERO).await.unwrap().pop() else { return };
        let count = only_batch(&delivery).count;
        let duplicate = duplicate.min(count);
        assert_eq!(stream.settle(0, &[settlement(&delivery, duplicate, 0)]).await.unwrap(), 1);
        if month_of(delivery.id.ms * 1_000) == self.month {
            self.used -= u64::from(duplicate);
        }
        self.pending -= i64::from(count);
    }
}

/// Compares a stream with the model through many histories. `clear` empties the stream before each.
fn assert_decides_as_the_model<H: Harness>(
    start: impl AsyncFn() -> H,
    clear: impl AsyncFn(&H, &SharedStream),
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let harness = runtime.block_on(start());
    let stream = runtime.block_on(trusted_stream(&harness));
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let histories = proptest::collection::vec(step(), 1..40);
    let result = runner.run(&histories, |history| {
        runtime.block_on(async {
            clear(&harness, &stream).await;
            rebuilt(&stream, EPOCH, &[]).await;
            let mut model = Model::default();
            for step in history {
                match step {
                    Step::Admit { count, requests_per_minute, burst, events_per_month } => {
                        let plan = Plan { requests_per_minute, burst, events_per_month, ..plan() };
                        model.admit(&stream, &plan, count).await;
                    }
                    Step::Settle { duplicate } => model.settle(&stream, duplicate).await,
                }
                let now = counters(&stream).await;
                let modelled = (model.accepted, model.pending, model.used);
                assert_eq!((now.accepted, now.pending, now.used), modelled);
            }
        });
        Ok(())
    });
    result.unwrap();
}

#[test]
fn the_redis_stream_decides_like_the_model() {
    assert_decides_as_the_model(crate::redis::harness, async |redis, _| {
        run(redis, &["FLUSHALL"]).await;
    });
}

#[test]
fn the_embedded_stream_decides_like_the_model() {
    assert_decides_as_the_model(crate::embedded::harness, async |_, stream| {
        drain(stream, "lane").await;
    });
}

#[tokio::test]
async fn the_scripts_and_the_model_use_the_same_calendar() {
    let redis = Redis::start().await;
    let clock = include_str!("../../src/redis/clock.lua");
    let mut moments = Vec::new();
    for day in 0..=60_000_u64 {
        moments.push(day * 86_400_000_000);
        moments.push((day + 1) * 86_400_000_000 - 1);
    }
    for chunk in moments.chunks(5_000) {
        let mut command = redis::cmd("EVAL");
        command.arg(format!(
            "{clock}\nlocal months = {{}} for at, us in ipairs(ARGV) do months[at] = month_of(tonumber(us)) end return months"
        ));
        command.arg(0).arg(chunk);
        let months: Vec<u32> = command.query_async(&mut redis.connect().await).await.unwrap();
        for (&us, month) in chunk.iter().zip(months) {
            assert_eq!(month, month_of(us), "at {us}");
        }
    }
}

#[tokio::test]
async fn the_clock_of_a_shard_never_goes_back() {
    let redis = Redis::start().await;
    let stream = trusted_stream(&redis).await;
    let ahead_ms = stream.limit_state(PROJECT).await.unwrap().now_us / 1_000 + 3_600_000;
    run(&redis, &["HSET", "{s0}:shard", "clock_ms", &ahead_ms.to_string()]).await;
    assert_eq!(assert_admitted(admit(&stream, &batch(1)).await), ahead_ms);
    assert_eq!(assert_admitted(admit(&stream, &batch(1)).await), ahead_ms);
    assert_eq!(stream.limit_state(PROJECT).await.unwrap().now_us, ahead_ms * 1_000);
    assert_eq!(run(&redis, &["XLEN", "{s0}:events"]).await, Value::Int(2));
}
