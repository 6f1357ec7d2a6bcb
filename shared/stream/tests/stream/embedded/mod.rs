//! Promises that only the embedded stream makes.

mod processes;
mod speed;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millrace_event::entry::NewBatch;
use millrace_stream::embedded::{EmbeddedOptions, EmbeddedStream};
use millrace_stream::{Admission, BatchState, Decision, EntryId, Outcome, SharedStream, Stream, StreamError};
use tempfile::TempDir;
use testkit::eventually;
use uuid::Uuid;

use crate::suite::*;

/// A folder, and the stream of the only process that may serve it.
pub struct Embedded {
    folder: TempDir,
    served: Mutex<Option<Arc<EmbeddedStream>>>,
}

pub async fn harness() -> Embedded {
    Embedded::new()
}

impl Harness for Embedded {
    /// Another view of the same file, because only one process can serve it.
    fn open(&self, backlog_events_max: u64) -> SharedStream {
        let mut served = self.served.lock().unwrap();
        let served = served.get_or_insert_with(|| open(self.folder(), backlog_events_max).unwrap());
        served.another(backlog_events_max)
    }
}

impl Embedded {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap(), served: Mutex::default() }
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Ends the process. `stream` must be the only view of the file.
    fn stop(&self, stream: SharedStream) {
        drop(stream);
        drop(self.served.lock().unwrap().take());
    }

    /// Ends the process and starts the next one, which trusts [`EPOCH`].
    fn restart(&self, stream: SharedStream) -> SharedStream {
        self.stop(stream);
        let stream = self.open(ENOUGH);
        stream.trust_epoch(0, EPOCH);
        stream
    }
}

fn open(folder: impl Into<PathBuf>, backlog_events_max: u64) -> Result<Arc<EmbeddedStream>, StreamError> {
    EmbeddedStream::open(EmbeddedOptions { folder: folder.into(), backlog_events_max })
}

#[track_caller]
fn refusal<T>(opened: Result<T, StreamError>) -> String {
    match opened {
        Err(StreamError::Refused(text)) => text,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("opened"),
    }
}

/// Turns a file with these unkeyed batches, of which some are settled, into one of release 0.1.
fn make_file_of_release_0_1(path: &Path, batches: &[(&NewBatch, bool)]) {
    let file = rusqlite::Connection::open(path).unwrap();
    for (batch, is_settled) in batches {
        let outcome = is_settled
            .then_some((i64::MAX, batch.count, 0, 0))
            .map_or((None, None, None, None), |o| (Some(o.0), Some(o.1), Some(o.2), Some(o.3)));
        let (expires_ms, stored, duplicate, dead) = outcome;
        let insert = "INSERT INTO markers (batch_id, project, count, received_ms, keep_ms, expires_ms, stored, duplicate, dead)
                      VALUES (?1, ?2, ?3, 5, 15000, ?4, ?5, ?6, ?7)";
        let id = batch.batch_id.into_bytes();
        file.execute(insert, (id, PROJECT.0, batch.count, expires_ms, stored, duplicate, dead)).unwrap();
    }
    let older = "ALTER TABLE markers DROP COLUMN conflict; ALTER TABLE entries DROP COLUMN batches;
                 PRAGMA user_version = 1;";
    file.execute_batch(older).unwrap();
}

#[tokio::test]
async fn a_file_of_the_release_before_is_understood() {
    let embedded = Embedded::new();
    let stream = trusted_stream(&embedded).await;
    let (settled, pending, newer) = (batch(2), batch(3), keyed_batch(4));
    assert_admitted(admit(&stream, &settled).await);
    drain(&stream, "lane").await;
    assert_admitted(admit(&stream, &pending).await);
    embedded.stop(stream);
    make_file_of_release_0_1(&embedded.file("stream.db"), &[(&settled, true), (&pending, false)]);
    let reading = refusal(EmbeddedStream::open_reader(embedded.folder()));
    assert!(reading.contains("start the service of this release once"), "{reading}");
    let stream = embedded.open(ENOUGH);
    stream.trust_epoch(0, EPOCH);
    assert!(EmbeddedStream::open_reader(embedded.folder()).is_ok());
    let state = stream.batch_state(PROJECT, settled.batch_id).await.unwrap();
    let outcome = Outcome { stored: 2, ..Outcome::default() };
    assert_eq!(state, BatchState::Settled { project: PROJECT, outcome });
    assert!(matches!(admit(&stream, &pending).await, Decision::Repeated { received_ms: 5, .. }));
    assert_admitted(admit(&stream, &newer).await);
    assert_eq!(stream.pending_batches(0).await.unwrap().len(), 2);
    let delivery = next_delivery(&stream, "lane").await;
    assert_eq!(only_batch(&delivery).batch_id, pending.batch_id);
    let outcome = Outcome { stored: 1, duplicate: 2, dead: 0, conflict: 1 };
    assert_eq!(stream.settle(0, &[settlement_with(&delivery, outcome)]).await.unwrap(), 1);
    let state = stream.batch_state(PROJECT, pending.batch_id).await.unwrap();
    assert_eq!(state, BatchState::Settled { project: PROJECT, outcome });
    assert_eq!(only_batch(&next_delivery(&stream, "lane").await).batch_id, newer.batch_id);
}

#[tokio::test]
async fn a_restart_keeps_everything_and_delivers_unsettled_entries_again() {
    let embedded = Embedded::new();
    let stream = trusted_stream(&embedded).await;
    let (settled, pending, keyed) = (batch(2), batch(3), keyed_batch(4));
    assert_admitted(admit(&stream, &settled).await);
    drain(&stream, "lane").await;
    let received_ms = assert_admitted(admit(&stream, &pending).await);
    assert_admitted(admit_keyed(&stream, &keyed, [1; 16]).await);
    let mut reader = stream.reader(0, "lane").await.unwrap();
    let delivered = reader.next(10, Duration::ZERO).await.unwrap();
    assert_eq!(stream.note_attempt(0, delivered[0].id).await.unwrap(), 1);
    drop(reader);
    let before = (counters(&stream).await, stream.backlog().await.unwrap().events);
    let tat_us = stream.limit_state(PROJECT).await.unwrap().tat_us;

    let stream = embedded.restart(stream);
    assert_eq!(stream.epoch(0).await.unwrap(), Some(EPOCH));
    assert_eq!((counters(&stream).await, stream.backlog().await.unwrap().events), before);
    assert_eq!(stream.limit_state(PROJECT).await.unwrap().tat_us, tat_us);
    let state = stream.batch_state(PROJECT, settled.batch_id).await.unwrap();
    assert_eq!(
        state,
        BatchState::Unknown,
        "the store has it, and no client knows it before it is acknowledged"
    );
    let again = admit(&stream, &pending).await;
    assert!(
        matches!(again, Decision::Repeated { received_ms: first, .. } if first == received_ms),
        "{again:?}"
    );
    assert!(matches!(admit_keyed(&stream, &keyed, [2; 16]).await, Decision::Conflict { .. }));
    assert_eq!(stream.note_attempt(0, delivered[0].id).await.unwrap(), 2);
    let redelivered: Vec<EntryId> = drain(&stream, "lane").await.iter().map(|entry| entry.id).collect();
    assert_eq!(redelivered, delivered.iter().map(|entry| entry.id).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_folder_in_use_cannot_be_opened_again() {
    let embedded = Embedded::new();
    let stream = trusted_stream(&embedded).await;
    let text = refusal(open(embedded.folder(), ENOUGH));
    assert!(
        text.contains("is used by another process") && text.contains(&std::process::id().to_string()),
        "{text}"
    );
    embedded.restart(stream);
}

#[tokio::test]
async fn a_file_that_is_not_an_intact_stream_is_refused_and_not_changed() {
    let embedded = Embedded::new();
    let stream = trusted_stream(&embedded).await;
    for _ in 0..200 {
        assert_admitted(admit(&stream, &batch(1)).await);
    }
    let path = embedded.file("stream.db");
    embedded.stop(stream);
    let intact = std::fs::read(&path).unwrap();
    let mut overwritten = intact.clone();
    overwritten[intact.len() / 2..intact.len() / 2 + 4_096].fill(0xA5);
    let foreign = embedded.folder().join("foreign.db");
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    let cases = [
        ("not a database", b"these are no events ".repeat(1_000)),
        ("truncated", intact[..intact.len() / 2].to_vec()),
        ("overwritten", overwritten),
        ("of another program", std::fs::read(foreign).unwrap()),
    ];
    for (what, bytes) in cases {
        std::fs::write(&path, &bytes).unwrap();
        let text = refusal(open(embedded.folder(), ENOUGH));
        assert!(text.contains("stream.db") && text.contains("move it away"), "{what}: {text}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{what}");
    }
    std::fs::write(&path, &intact).unwrap();
    let stream = open(embedded.folder(), ENOUGH).unwrap();
    assert_eq!(stream.pending_batches(0).await.unwrap().len(), 200);
}

#[tokio::test]
async fn a_write_ahead_log_without_its_file_is_refused() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("stream.db-wal"), [1; 4_096]).unwrap();
    let text = refusal(open(folder.path(), ENOUGH));
    assert!(text.contains("its write-ahead log"), "{text}");
}

#[tokio::test]
async fn another_process_reads_while_this_one_serves() {
    let embedded = Embedded::new();
    let stream = trusted_stream(&embedded).await;
    let batch = batch(3);
    assert_admitted(admit(&stream, &batch).await);
    let reading: SharedStream = EmbeddedStream::open_reader(embedded.folder()).unwrap();
    assert_eq!(counters(&reading).await, counters(&stream).await);
    assert_eq!(reading.backlog().await.unwrap().events, 3);
    assert_eq!(reading.epoch(0).await.unwrap(), Some(EPOCH));
    assert_eq!(reading.pending_batches(0).await.unwrap(), stream.pending_batches(0).await.unwrap());
    assert_eq!(reading.limit_state(PROJECT).await.unwrap().used, 3);
    drain(&stream, "lane").await;
    assert_eq!(reading.backlog().await.unwrap().events, 0);

    reading.trust_epoch(0, EPOCH);
    let plan = plan();
    let admission = Admission { batch: &batch, plan: &plan, digest: None, awaited: false };
    refusal(reading.admit(&admission).await);
    refusal(reading.settle(0, &[]).await);
    refusal(reading.reader(0, "lane").await);
    refusal(EmbeddedStream::open_reader(embedded.folder().join("elsewhere")).map_err(|error| match error {
        StreamError::Unavailable(text) => StreamError::Refused(text),
        other => other,
    }));
}

#[tokio::test]
async fn the_clock_of_the_file_never_goes_back() {
    let embedded = Embedded::new();
    let stream = trusted_stream(&embedded).await;
    let ahead_ms = stream.limit_state(PROJECT).await.unwrap().now_us / 1_000 + 3_600_000;
    let path = embedded.file("stream.db");
    embedded.stop(stream);
    let forward = format!("UPDATE shard SET last_position = {}", ahead_ms << 20);
    rusqlite::Connection::open(path).unwrap().execute_batch(&forward).unwrap();
    let stream = embedded.open(ENOUGH);
    stream.trust_epoch(0, EPOCH);
    assert_eq!(assert_admitted(admit(&stream, &batch(1)).await), ahead_ms);
    assert_eq!(assert_admitted(admit(&stream, &batch(1)).await), ahead_ms);
    assert_eq!(stream.limit_state(PROJECT).await.unwrap().now_us, ahead_ms * 1_000);
    assert_eq!(stream.backlog().await.unwrap().entries, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_backlog_returns_its_space() {
    let embedded = Embedded::new();
    let stream = trusted_stream(&embedded).await;
    let noise: Vec<u8> =
        std::iter::repeat_with(|| Uuid::new_v4().into_bytes()).take(1 << 16).flatten().collect();
    for _ in 0..40 {
        let batch = NewBatch::new(Uuid::now_v7(), PROJECT, 1, noise.clone());
        assert_admitted(admit(&stream, &batch).await);
    }
    let size = |name: &str| std::fs::metadata(embedded.file(name)).map_or(0, |file| file.len());
    assert!(size("stream.db") + size("stream.db-wal") > 40 << 20);
    assert_eq!(drain(&stream, "lane").await.len(), 40);
    eventually(DEADLINE, "the file to shrink", async || size("stream.db") + size("stream.db-wal") < 1 << 20)
        .await;
    assert_admitted(admit(&stream, &batch(1)).await);
    assert_eq!(stream.backlog().await.unwrap().entries, 1);
}
