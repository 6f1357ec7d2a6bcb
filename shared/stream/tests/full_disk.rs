//! The embedded stream on a disk that runs full. The test is reported as ignored where no tmpfs can be
//! mounted.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use millrace_event::entry::{EntryBatch, NewBatch};
use millrace_event::plan::{Plan, ProjectId};
use millrace_stream::embedded::{EmbeddedOptions, EmbeddedStream};
use millrace_stream::{
    Admission, Decision, EntryId, Outcome, ProjectCounters, SettledBatch, Settlement, Stream, StreamError,
};
use testkit::Tmpfs;
use uuid::Uuid;

const PROJECT: ProjectId = ProjectId(7);
/// Events in each batch.
const EVENTS: u32 = 5;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let name =
        "an_embedded_stream_on_a_full_disk_refuses_without_counting_and_admits_again_when_there_is_space";
    let trial = Trial::test(name, || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime can be created").block_on(embedded_stream_on_a_full_disk());
        Ok(())
    });
    let trial = match Tmpfs::mount(1 << 20) {
        Ok(_) => trial,
        Err(reason) => trial.with_kind(reason.to_string()).with_ignored_flag(true),
    };
    libtest_mimic::run(&arguments, vec![trial]).exit_code()
}

async fn embedded_stream_on_a_full_disk() {
    let disk = Tmpfs::mount(4 << 20).unwrap();
    let stream = open(&disk.path().join("data")).await;
    let mut admitted = 0;
    let (refused, error) = loop {
        let batch = large_batch();
        match admit(&stream, &batch).await {
            Ok(decision) => assert!(matches!(decision, Decision::Admitted { .. }), "{decision:?}"),
            Err(error) => break (batch, error),
        }
        admitted += 1;
    };
    assert!(matches!(error, StreamError::Full(_)), "{error:?}");
    assert!(admitted > 2, "{admitted}");
    let full = stream.check_writable(0).await.unwrap_err();
    assert!(full.to_string().contains("the disk of stream.db is full"), "{full}");
    let now = counters(&stream).await;
    let events = u64::from(EVENTS);
    assert_eq!((now.accepted, now.used), (events * admitted, events * admitted));
    assert_eq!(stream.pending_batches(0).await.unwrap().len() as u64, admitted);

    disk.resize(64 << 20);
    stream.check_writable(0).await.unwrap();
    let decision = admit(&stream, &refused).await.unwrap();
    assert!(matches!(decision, Decision::Admitted { .. }), "{decision:?}");
    assert_eq!(counters(&stream).await.accepted, events * (admitted + 1));
    assert_eq!(settle_all(&stream).await, admitted + 1);
    assert_eq!(counters(&stream).await.pending, 0);
}

async fn open(folder: &Path) -> Arc<EmbeddedStream> {
    let options = EmbeddedOptions { folder: folder.to_owned(), backlog_events_max: 1_000_000 };
    let stream = EmbeddedStream::open(options).unwrap();
    let epoch = Uuid::new_v4();
    stream.fence(0, epoch).await.unwrap();
    assert!(stream.rebuild(0, epoch, &[], &[], EntryId::default()).await.unwrap());
    stream.trust_epoch(0, epoch);
    stream
}

/// 64 KiB that do not compress.
fn large_batch() -> NewBatch {
    let noise: Vec<u8> =
        std::iter::repeat_with(|| Uuid::new_v4().into_bytes()).take(4_096).flatten().collect();
    NewBatch::new(Uuid::now_v7(), PROJECT, EVENTS, noise)
}

async fn admit(stream: &EmbeddedStream, batch: &NewBatch) -> Result<Decision, StreamError> {
    let plan = Plan {
        name: "test".to_owned(),
        requests_per_minute: 60_000,
        burst: 100_000,
        events_per_month: Some(1_000_000),
        events_per_batch: 1_000,
    };
    stream.admit(&Admission { batch, plan: &plan, digest: None, awaited: false }).await
}

async fn counters(stream: &EmbeddedStream) -> ProjectCounters {
    stream.counters(&[PROJECT]).await.unwrap()[0]
}

/// Reads and settles all entries. Returns how many.
async fn settle_all(stream: &EmbeddedStream) -> u64 {
    let mut reader = stream.reader(0, "lane").await.unwrap();
    let deliveries = reader.next(1_000, Duration::ZERO).await.unwrap();
    let settlements: Vec<Settlement> = deliveries
        .iter()
        .map(|delivery| {
            let entry = delivery.entry.as_ref().unwrap();
            let settled = |batch: &EntryBatch| {
                let EntryBatch { batch_id, project, count, .. } = *batch;
                let outcome = Outcome { stored: count, ..Outcome::default() };
                SettledBatch { batch_id, project, count, outcome }
            };
            let batches = entry.admitted().map(settled).collect();
            Settlement { id: delivery.id, bytes: entry.packed_bytes(), batches, refunds: Vec::new() }
        })
        .collect();
    stream.settle(0, &settlements).await.unwrap()
}
