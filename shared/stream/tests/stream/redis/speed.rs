//! Measures what replicas cost an admission, and how long the counters of many projects take. Not a test. Run
//! it with `cargo test --release -p millrace-stream --test stream -- --ignored --nocapture --test-threads 1
//! redis::speed`.

use std::time::{Duration, Instant};

use millrace_event::entry::NewBatch;
use millrace_event::plan::{Plan, ProjectId};
use millrace_stream::{Admission, Decision, SharedStream};
use testkit::Redis;
use uuid::Uuid;

use super::growth::{PROJECTS, write_counters};
use super::{open, replicas};
use crate::suite::*;

const DURATION: Duration = Duration::from_secs(4);
const ROW_BYTES: usize = 350;

/// Prints the admissions per second of this many callers, each of which waits for its answer, and the median
/// and the 99th percentile of the wait.
async fn measure(name: &str, stream: &SharedStream, callers: usize) {
    let stop = Instant::now() + DURATION;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let stream = SharedStream::clone(stream);
        tasks.spawn(async move {
            let plan =
                Plan { requests_per_minute: u32::MAX, burst: u32::MAX, events_per_month: None, ..plan() };
            let row: Vec<u8> = Uuid::new_v4().into_bytes().into_iter().cycle().take(ROW_BYTES).collect();
            let template = NewBatch::new(Uuid::nil(), PROJECT, 1, row);
            let mut waited = Vec::new();
            while Instant::now() < stop {
                let batch = template.with_id(Uuid::now_v7());
                let admission = Admission { batch: &batch, plan: &plan, digest: None, awaited: false };
                let started = Instant::now();
                let decision = stream.admit(&admission).await.unwrap();
                waited.push(started.elapsed());
                assert!(matches!(decision, Decision::Admitted { .. }));
            }
            waited
        });
    }
    let mut waited = tasks.join_all().await.concat();
    waited.sort_unstable();
    let rate = waited.len() as u64 / DURATION.as_secs();
    let (median, slow) = (waited[waited.len() / 2], waited[waited.len() * 99 / 100]);
    println!("{name}, {callers} callers: {rate}/s, p50 {median:?}, p99 {slow:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn admissions_with_and_without_a_replica() {
    let pair = replicas::harness().await;
    let replicated = trusted_stream_with_backlog(&pair, u64::MAX >> 1).await;
    let strict = open(&pair.primary.url(), u64::MAX >> 1);
    connected(&strict).await;
    strict.trust_epoch(0, EPOCH);
    for _ in 0..2 {
        for callers in [1, 16, 128] {
            measure("strict", &strict, callers).await;
            measure("replicated", &replicated, callers).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn counters_of_many_projects() {
    let redis = Redis::start().await;
    write_counters(&redis, 1..=PROJECTS, 1).await;
    let stream = open(&redis.url(), ENOUGH);
    connected(&stream).await;
    let projects: Vec<_> = (1..=PROJECTS).map(ProjectId).collect();
    for _ in 0..3 {
        let started = Instant::now();
        stream.counters(&projects).await.unwrap();
        println!("{PROJECTS} projects: {:?}", started.elapsed());
    }
    let started = Instant::now();
    for project in &projects {
        stream.counters(&[*project]).await.unwrap();
    }
    println!("{PROJECTS} projects, a call for each: {:?}", started.elapsed());
}
