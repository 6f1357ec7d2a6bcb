//! The embedded stream in a separate process, which is killed under load or gets a disk that fails.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use millrace_event::entry::NewBatch;
use millrace_event::plan::Plan;
use millrace_stream::embedded::EmbeddedStream;
use millrace_stream::{Admission, BatchState, Decision, SharedStream, StreamError};
use tempfile::TempDir;
use testkit::{DiskError, Launch, Program, Shim, eventually};
use uuid::Uuid;

use super::open;
use crate::suite::*;

/// Variables of the child process: the folder of its stream, and the number of its first batch.
const FOLDER: &str = "STREAM_TEST_FOLDER";
const FIRST: &str = "STREAM_TEST_FIRST";
const CHILD: &str = "embedded::processes::a_process_under_load";
const UNKNOWN: &str = "not admitted: the stream did not answer in time; the outcome is unknown";
const CLIENTS: u128 = 16;
const EVENTS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(5);

fn numbered(number: u128) -> NewBatch {
    batch_with_id(Uuid::from_u128(number), EVENTS)
}

async fn admit_numbered(stream: &SharedStream, number: u128) -> Result<Decision, StreamError> {
    let plan = Plan { requests_per_minute: u32::MAX, burst: u32::MAX, events_per_month: None, ..plan() };
    let batch = numbered(number);
    // With a key, so that the batch is remembered until the test looks it up.
    stream.admit(&Admission { batch: &batch, plan: &plan, digest: Some([1; 16]), awaited: false }).await
}

/// The child process. Until it is killed, its clients admit one batch after the other and print each, and its
/// lane settles two of three.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the tests below"]
async fn a_process_under_load() {
    let (Ok(folder), Ok(first)) = (std::env::var(FOLDER), std::env::var(FIRST)) else { return };
    let first: u128 = first.parse().unwrap();
    let stream: SharedStream = open(folder, ENOUGH).unwrap();
    match stream.epoch(0).await.unwrap() {
        Some(epoch) => stream.trust_epoch(0, epoch),
        None => rebuilt(&stream, Uuid::new_v4(), &[]).await,
    }
    for client in 0..CLIENTS {
        let stream = stream.clone();
        tokio::spawn(async move {
            let mut number = first + client;
            loop {
                match admit_numbered(&stream, number).await {
                    Ok(Decision::Admitted { .. } | Decision::Repeated { .. }) => {
                        println!("admitted {number}.");
                        number += CLIENTS;
                    }
                    Ok(other) => panic!("{other:?}"),
                    Err(error) => {
                        println!("not admitted: {error}");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        });
    }
    let mut reader = stream.reader(0, "lane").await.unwrap();
    loop {
        let Ok(deliveries) = reader.next(50, Duration::from_secs(1)).await else { continue };
        let settlements: Vec<_> = deliveries
            .iter()
            .map(|delivery| settlement(delivery, 1, 0))
            .filter(|settlement| settlement.batches[0].batch_id.as_u128() % 3 > 0)
            .collect();
        while stream.settle(0, &settlements).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn start(folder: &Path, first: u128, shim: Option<&Shim>) -> Program {
    let executable = std::env::current_exe().unwrap();
    let name = Path::new("deps").join(executable.file_name().unwrap());
    let (folder, first) = (folder.display().to_string(), first.to_string());
    let mut variables = vec![(FOLDER, folder.as_str()), (FIRST, first.as_str())];
    variables.extend(shim.iter().flat_map(|shim| shim.variables()));
    let arguments = &[CHILD, "--exact", "--ignored", "--nocapture"];
    Program::launch(name.to_str().unwrap(), &Launch { arguments, variables: &variables, ..Launch::default() })
}

/// The batches whose admission the child has printed.
fn acknowledged(child: &Program) -> HashSet<u128> {
    let log = child.log();
    let numbers =
        log.lines().filter_map(|line| line.split_once("admitted ")?.1.strip_suffix('.')?.parse().ok());
    numbers.collect()
}

/// Opens the file of a dead process and compares every batch that it may have admitted with the counters.
async fn assert_nothing_is_lost_or_doubled(folder: &Path, acknowledged: &HashSet<u128>, asked: &[u128]) {
    let stream: SharedStream = open(folder, ENOUGH).unwrap();
    stream.trust_epoch(0, stream.epoch(0).await.unwrap().unwrap());
    let (mut pending, mut settled) = (HashSet::new(), 0);
    for &number in asked {
        match stream.batch_state(PROJECT, Uuid::from_u128(number)).await.unwrap() {
            BatchState::Pending { .. } => assert!(pending.insert(Uuid::from_u128(number))),
            BatchState::Settled { .. } => settled += 1,
            BatchState::Unknown => assert!(!acknowledged.contains(&number), "batch {number} is lost"),
        }
    }
    let listed: Vec<_> = stream.pending_batches(0).await.unwrap();
    assert_eq!(listed.len(), pending.len());
    assert!(listed.iter().all(|batch| pending.contains(&batch.batch_id)));

    let per_batch = u64::from(EVENTS);
    let (waiting, known) = (pending.len() as u64, pending.len() as u64 + settled);
    let now = counters(&stream).await;
    let expected = (per_batch * known, per_batch * waiting, per_batch * known - settled);
    assert_eq!((now.accepted, now.pending.unsigned_abs(), now.used), expected);
    let backlog = stream.backlog().await.unwrap();
    assert_eq!(backlog.events, per_batch * waiting);
    assert_eq!(backlog.entries, listed.chunk_by(|one, next| one.id == next.id).count() as u64);

    for &number in acknowledged {
        let again = admit_numbered(&stream, number).await.unwrap();
        assert!(matches!(again, Decision::Repeated { .. }), "batch {number}: {again:?}");
    }
    assert_eq!(counters(&stream).await, now);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_minus_nine_under_load_loses_and_doubles_no_batch() {
    let folder = TempDir::new().unwrap();
    let (mut all, mut asked) = (HashSet::new(), Vec::new());
    for round in 0..4 {
        let first = round * 1_000_000;
        let mut child = start(folder.path(), first, None);
        // The first round ends while the file is small, later ones after its write-ahead log has restarted.
        child.wait_for_line(&format!("admitted {}.", first + 150 * (round * round + 1))).await;
        child.kill().await;
        let acknowledged = acknowledged(&child);
        asked.extend(first..=acknowledged.iter().max().unwrap() + CLIENTS);
        all.extend(acknowledged);
        assert_nothing_is_lost_or_doubled(folder.path(), &all, &asked).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_cannot_sync_leaves_the_outcome_unknown_and_loses_no_batch() {
    let (folder, shim) = (TempDir::new().unwrap(), Shim::create());
    let mut child = start(folder.path(), 0, Some(&shim));
    child.wait_for_line("admitted 100.").await;
    for _ in 0..2 {
        shim.fail_disk(Some(DiskError::Broken));
        let failed = child.log().matches(UNKNOWN).count();
        eventually(DEADLINE, "the disk to fail", async || child.log().matches(UNKNOWN).count() > failed)
            .await;
        shim.fail_disk(None);
        let before = acknowledged(&child).len();
        eventually(DEADLINE, "more admissions", async || acknowledged(&child).len() > before + 200).await;
    }
    // Pages that could not be synced were written: the next process may find them in the file.
    shim.fail_disk(Some(DiskError::Broken));
    let failed = child.log().matches(UNKNOWN).count();
    eventually(DEADLINE, "the disk to fail", async || child.log().matches(UNKNOWN).count() > failed).await;
    child.kill().await;
    let acknowledged = acknowledged(&child);
    let asked: Vec<u128> = (0..=acknowledged.iter().max().unwrap() + CLIENTS).collect();
    assert_nothing_is_lost_or_doubled(folder.path(), &acknowledged, &asked).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_under_load_can_be_read_by_another() {
    let folder = TempDir::new().unwrap();
    let mut child = start(folder.path(), 0, None);
    child.wait_for_line("admitted 100.").await;
    let reading: SharedStream = EmbeddedStream::open_reader(folder.path()).unwrap();
    for _ in 0..20 {
        let now = counters(&reading).await;
        assert!(now.accepted >= 100 * u64::from(EVENTS) && now.pending >= 0, "{now:?}");
        // Both sums are of the same commit, while the next one is being written.
        let backlog = reading.backlog().await.unwrap();
        let per_batch = u64::from(EVENTS);
        assert!(
            backlog.events % per_batch == 0 && backlog.events >= backlog.entries * per_batch,
            "{backlog:?}"
        );
    }
    assert!(matches!(open(folder.path(), ENOUGH), Err(StreamError::Refused(_))));
    child.kill().await;
    drop(child);
    // The file of a dead process can be read as well.
    let left: SharedStream = EmbeddedStream::open_reader(folder.path()).unwrap();
    assert!(counters(&left).await.accepted >= counters(&reading).await.accepted);
}
