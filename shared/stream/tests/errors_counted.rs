//! `millrace_stream_errors_total`, in a process that does nothing else: each failed call counts once.

use std::time::Duration;

use futures_util::future::join_all;
use millrace_event::entry::PackedBatch;
use millrace_event::plan::{Plan, ProjectId};
use millrace_stream::metrics::METRICS;
use millrace_stream::redis::{RedisOptions, RedisStream};
use millrace_stream::{Admission, Durability, EntryId, SharedStream, StreamError};
use millrace_telemetry::metrics::{Program, install};
use testkit::{Redis, eventually};
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(60);
const PROJECT: ProjectId = ProjectId(7);
/// Batches that wait together, so that calls have several of them.
const TOGETHER: usize = 20;

async fn opened(redis: &Redis, durability: Durability) -> SharedStream {
    let options = RedisOptions { durability, ..RedisOptions::new(redis.url()) };
    let stream: SharedStream = RedisStream::new(options).expect("a valid URL");
    eventually(DEADLINE, "the stream to answer", async || stream.limit_state(PROJECT).await).await;
    let epoch = Uuid::from_u128(1);
    stream.fence(0, epoch).await.expect("fenced");
    assert!(stream.rebuild(0, epoch, &[], &[], EntryId::default()).await.expect("rebuilt"));
    stream.trust_epoch(0, epoch);
    stream
}

async fn fails(stream: &SharedStream) -> StreamError {
    let packed = PackedBatch::pack(Uuid::now_v7(), PROJECT, 1, b"row");
    let plan = Plan {
        name: "any".to_owned(),
        requests_per_minute: 100_000,
        burst: 100_000,
        events_per_month: None,
        events_per_batch: 1_000,
    };
    let admission = Admission { packed: &packed, plan: &plan, digest: None, awaited: false };
    stream.admit(&admission).await.expect_err("Redis refuses it")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failed_admission_counts_once_in_both_modes() {
    let metrics = install(&[METRICS], &[Program::Api], &[]).expect("the first recorder");
    let counted = |kind: &str| -> u64 {
        let page = metrics.render();
        let series = format!("millrace_stream_errors_total{{kind=\"{kind}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&series));
        line.expect("every kind has a series").parse().expect("a number")
    };
    let redis = Redis::start().await;
    let strict = opened(&redis, Durability::Strict).await;
    let replicated = opened(&redis, Durability::Replicated { replicas: 1 }).await;
    // There is no replica: what the script admitted is unknown.
    let before = counted("unknown");
    let errors = join_all((0..TOGETHER).map(|_| fails(&replicated))).await;
    assert!(errors.iter().all(|error| matches!(error, StreamError::Unknown(_))), "{errors:?}");
    assert_eq!(counted("unknown") - before, TOGETHER as u64);

    redis.run(&["CONFIG", "SET", "maxmemory", "1000000"]).await;
    for stream in [&strict, &replicated] {
        let before = counted("full");
        let errors = join_all((0..TOGETHER).map(|_| fails(stream))).await;
        assert!(errors.iter().all(|error| matches!(error, StreamError::Full(_))), "{errors:?}");
        assert_eq!(counted("full") - before, TOGETHER as u64);
    }
    // A call of another kind.
    let before = counted("full");
    stream_is_full(&strict).await;
    assert_eq!(counted("full") - before, 1);
}

async fn stream_is_full(stream: &SharedStream) {
    let full = stream.check_writable(0).await.expect_err("Redis is full");
    assert!(matches!(full, StreamError::Full(_)), "{full}");
}
