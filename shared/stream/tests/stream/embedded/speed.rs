//! Measures how many batches per second the embedded stream admits. Not a test. Run it with `cargo test
//! --release -p millrace-stream --test stream -- --ignored --nocapture --test-threads 1 embedded::speed`.

use std::time::{Duration, Instant};

use millrace_event::entry::NewBatch;
use millrace_event::plan::Plan;
use millrace_stream::{Admission, Decision};
use uuid::Uuid;

use super::Embedded;
use crate::suite::*;

const DURATION: Duration = Duration::from_secs(4);
const ROW_BYTES: usize = 350;

fn plan_without_limits() -> Plan {
    Plan { requests_per_minute: u32::MAX, burst: u32::MAX, events_per_month: None, ..plan() }
}

/// Prints the admissions per second of this many callers, each of which waits for its answer, and the mean
/// and the 99th percentile of the wait. With a lane that settles what it reads, or without.
async fn measure(callers: usize, with_lane: bool) {
    let embedded = Embedded::new();
    let stream = trusted_stream_with_backlog(&embedded, u64::MAX >> 1).await;
    let stop = Instant::now() + DURATION;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..callers {
        let stream = stream.clone();
        tasks.spawn(async move {
            let plan = plan_without_limits();
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
    let lane = with_lane.then(|| {
        let stream = stream.clone();
        tokio::spawn(async move {
            let mut reader = stream.reader(0, "lane").await.unwrap();
            while Instant::now() < stop {
                let deliveries = reader.next(128, Duration::from_millis(50)).await.unwrap();
                let settlements: Vec<_> = deliveries.iter().map(|entry| settlement(entry, 0, 0)).collect();
                stream.settle(0, &settlements).await.unwrap();
            }
        })
    });
    let mut waited = tasks.join_all().await.concat();
    if let Some(lane) = lane {
        lane.await.unwrap();
    }
    waited.sort_unstable();
    let rate = waited.len() as f64 / DURATION.as_secs_f64();
    let mean = waited.iter().sum::<Duration>() / u32::try_from(waited.len()).unwrap();
    let p99 = waited[waited.len() * 99 / 100];
    let backlog = stream.backlog().await.unwrap().entries;
    println!(
        "{callers} callers{}: {rate:.0} admissions/s, mean {mean:?}, p99 {p99:?}, a backlog of {backlog}",
        if with_lane { " and a lane" } else { "" }
    );
}

/// Prints the size of the files with a backlog of a million batches, and after it was drained.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn a_backlog_of_a_million() {
    let embedded = Embedded::new();
    let stream = trusted_stream_with_backlog(&embedded, u64::MAX >> 1).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..250 {
        let stream = stream.clone();
        callers.spawn(async move {
            let plan = plan_without_limits();
            let row: Vec<u8> = Uuid::new_v4().into_bytes().into_iter().cycle().take(ROW_BYTES).collect();
            for _ in 0..4_000 {
                let batch = NewBatch::new(Uuid::now_v7(), PROJECT, 1, row.clone());
                assert_admitted(admit_under(&stream, &batch, &plan).await);
            }
        });
    }
    callers.join_all().await;
    let folder = embedded.folder();
    let size = |name: &str| std::fs::metadata(folder.join(name)).map_or(0, |file| file.len() >> 20);
    let sizes = || format!("file {} MiB, log {} MiB", size("stream.db"), size("stream.db-wal"));
    println!("a million waiting: {}", sizes());
    let started = Instant::now();
    println!("listed: {} in {:?}", stream.pending_batches(0).await.unwrap().len(), started.elapsed());
    let started = Instant::now();
    let stream = embedded.restart(stream);
    println!("restarted in {:?}", started.elapsed());
    let started = Instant::now();
    drain(&stream, "lane").await;
    println!("drained in {:?}: {}", started.elapsed(), sizes());
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!("idle: {}", sizes());
    tokio::time::sleep(Duration::from_secs(17)).await;
    println!("after the markers have expired: {}", sizes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn admissions() {
    for callers in [1, 8, 64, 256, 1_024] {
        measure(callers, false).await;
        measure(callers, true).await;
    }
}
