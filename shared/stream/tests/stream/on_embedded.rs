//! The promises kept in a file, and what can be seen only there.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use millrace_stream::embedded::{EmbeddedOptions, EmbeddedStream};
use millrace_stream::{Admission, Decision, EntryId, SharedStream, StreamError};
use tempfile::TempDir;
use testkit::{Tmpfs, eventually};
use uuid::Uuid;

use super::bench::*;

/// A folder, and the one process that may serve it.
pub struct Embedded {
    folder: TempDir,
    served: OnceLock<Arc<EmbeddedStream>>,
}

impl Bench for Embedded {
    async fn start() -> Self {
        Self { folder: TempDir::new().unwrap(), served: OnceLock::new() }
    }

    /// There is one process; what another one would see, another view of the file sees.
    fn open(&self, backlog_events_max: u64) -> SharedStream {
        let served = self.served.get_or_init(|| open(self.folder(), backlog_events_max).unwrap());
        served.another(backlog_events_max)
    }
}

impl Embedded {
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }
}

impl Rig<Embedded> {
    /// Ends the process and starts the next.
    pub async fn restart(self) -> Self {
        let Self { bench, stream, epoch } = self;
        drop((stream, bench.served));
        let bench = Embedded { folder: bench.folder, served: OnceLock::new() };
        let stream = bench.open(ENOUGH);
        stream.trust_epoch(0, epoch);
        Self { bench, stream, epoch }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.bench.folder().join(name)
    }
}

pub fn open(folder: PathBuf, backlog_events_max: u64) -> Result<Arc<EmbeddedStream>, StreamError> {
    EmbeddedStream::open(EmbeddedOptions { folder, backlog_events_max })
}

#[track_caller]
fn refusal<T>(opened: Result<T, StreamError>) -> String {
    match opened {
        Err(StreamError::Refused(text)) => text,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("opened"),
    }
}

crate::suite::hold_to_the_suite!(Embedded);

#[tokio::test]
async fn a_restart_finds_everything_and_delivers_again_what_was_not_settled() {
    let rig = Rig::<Embedded>::start().await;
    let (done, open, keyed) = (batch(2), batch(3), batch(4));
    assert_admitted(admit(&rig.stream, &done).await);
    drain(&rig.stream, "lane").await;
    let received_ms = assert_admitted(admit(&rig.stream, &open).await);
    assert_admitted(admit_keyed(&rig.stream, &keyed, [1; 16]).await);
    let mut reader = rig.stream.reader(0, "lane").await.unwrap();
    let handed = reader.next(10, Duration::ZERO).await.unwrap();
    assert_eq!(rig.stream.note_attempt(0, handed[0].id).await.unwrap(), 1);
    drop(reader);
    let before = (counters(&rig.stream).await, rig.stream.backlog().await.unwrap().events);
    let tat_us = rig.stream.limit_state(PROJECT).await.unwrap().tat_us;

    let rig = rig.restart().await;
    assert_eq!(rig.stream.epoch(0).await.unwrap(), Some(rig.epoch));
    assert_eq!((counters(&rig.stream).await, rig.stream.backlog().await.unwrap().events), before);
    assert_eq!(rig.stream.limit_state(PROJECT).await.unwrap().tat_us, tat_us);
    assert!(matches!(admit(&rig.stream, &done).await, Decision::Repeated { .. }));
    let again = admit(&rig.stream, &open).await;
    assert!(
        matches!(again, Decision::Repeated { received_ms: first, .. } if first == received_ms),
        "{again:?}"
    );
    assert!(matches!(admit_keyed(&rig.stream, &keyed, [2; 16]).await, Decision::Conflict { .. }));
    assert_eq!(rig.stream.note_attempt(0, handed[0].id).await.unwrap(), 2);
    let redelivered: Vec<EntryId> = drain(&rig.stream, "lane").await.iter().map(|entry| entry.id).collect();
    assert_eq!(redelivered, handed.iter().map(|entry| entry.id).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_folder_in_use_is_refused_to_a_second_process() {
    let rig = Rig::<Embedded>::start().await;
    let text = refusal(open(rig.bench.folder(), ENOUGH));
    assert!(
        text.contains("is used by another process") && text.contains(&std::process::id().to_string()),
        "{text}"
    );
    rig.restart().await;
}

#[tokio::test]
async fn a_file_that_is_not_a_whole_stream_is_refused_and_left_as_it_is() {
    let rig = Rig::<Embedded>::start().await;
    for _ in 0..200 {
        assert_admitted(admit(&rig.stream, &batch(1)).await);
    }
    let path = rig.file("stream.db");
    let Rig { bench, stream, .. } = rig;
    drop((stream, bench.served));
    let whole = std::fs::read(&path).unwrap();
    let mut scratched = whole.clone();
    scratched[whole.len() / 2..whole.len() / 2 + 4_096].fill(0xA5);
    let foreign = bench.folder.path().join("foreign.db");
    rusqlite::Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    let cases = [
        ("garbage", b"these are no events ".repeat(1_000)),
        ("torn", whole[..whole.len() / 2].to_vec()),
        ("scratched", scratched),
        ("another program's", std::fs::read(foreign).unwrap()),
    ];
    for (what, bytes) in cases {
        std::fs::write(&path, &bytes).unwrap();
        let text = refusal(open(bench.folder.path().to_owned(), ENOUGH));
        assert!(text.contains("stream.db") && text.contains("move it away"), "{what}: {text}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{what}");
    }
    std::fs::write(&path, &whole).unwrap();
    let stream = open(bench.folder.path().to_owned(), ENOUGH).unwrap();
    use millrace_stream::Stream;
    assert_eq!(stream.pending_batches(0).await.unwrap().len(), 200);
}

#[tokio::test]
async fn a_log_without_its_file_is_refused() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("stream.db-wal"), [1; 4_096]).unwrap();
    let text = refusal(open(folder.path().to_owned(), ENOUGH));
    assert!(text.contains("its write-ahead log"), "{text}");
}

#[tokio::test]
async fn another_process_reads_while_this_one_serves() {
    let rig = Rig::<Embedded>::start().await;
    let packed = batch(3);
    assert_admitted(admit(&rig.stream, &packed).await);
    let view: SharedStream = EmbeddedStream::open_reader(rig.bench.folder()).unwrap();
    assert_eq!(counters(&view).await, counters(&rig.stream).await);
    assert_eq!(view.backlog().await.unwrap().events, 3);
    assert_eq!(view.epoch(0).await.unwrap(), Some(rig.epoch));
    assert_eq!(view.pending_batches(0).await.unwrap(), rig.stream.pending_batches(0).await.unwrap());
    assert_eq!(view.limit_state(PROJECT).await.unwrap().used, 3);
    drain(&rig.stream, "lane").await;
    assert_eq!(view.backlog().await.unwrap().events, 0);

    view.trust_epoch(0, rig.epoch);
    let plan = plan();
    let admission = Admission { packed: &packed, plan: &plan, digest: None, awaited: false };
    refusal(view.admit(&admission).await);
    refusal(view.settle(0, &[]).await);
    refusal(view.reader(0, "lane").await);
    refusal(EmbeddedStream::open_reader(rig.bench.folder().join("elsewhere")).map_err(|error| match error {
        StreamError::Unavailable(text) => StreamError::Refused(text),
        other => other,
    }));
}

#[tokio::test]
async fn the_clock_of_the_file_never_goes_back() {
    let rig = Rig::<Embedded>::start().await;
    let ahead_ms = rig.stream.limit_state(PROJECT).await.unwrap().now_us / 1_000 + 3_600_000;
    let path = rig.file("stream.db");
    let Rig { bench, stream, epoch } = rig;
    drop((stream, bench.served));
    let forward = format!("UPDATE shard SET last_position = {}", ahead_ms << 20);
    rusqlite::Connection::open(path).unwrap().execute_batch(&forward).unwrap();
    let bench = Embedded { folder: bench.folder, served: OnceLock::new() };
    let stream = bench.open(ENOUGH);
    stream.trust_epoch(0, epoch);
    assert_eq!(assert_admitted(admit(&stream, &batch(1)).await), ahead_ms);
    assert_eq!(assert_admitted(admit(&stream, &batch(1)).await), ahead_ms);
    assert_eq!(stream.limit_state(PROJECT).await.unwrap().now_us, ahead_ms * 1_000);
    assert_eq!(stream.backlog().await.unwrap().entries, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_without_counting_and_recovers_when_there_is_room() {
    let disk = match Tmpfs::mount(4 << 20) {
        Ok(disk) => disk,
        Err(reason) => return eprintln!("SKIPPED: {reason}"),
    };
    let stream: SharedStream = open(disk.path().join("data"), ENOUGH).unwrap();
    rebuilt(&stream, Uuid::new_v4(), &[]).await;
    let large = || {
        let noise: Vec<u8> =
            std::iter::repeat_with(|| Uuid::new_v4().into_bytes()).take(4_096).flatten().collect();
        millrace_event::entry::PackedBatch::pack(Uuid::now_v7(), PROJECT, 5, &noise)
    };
    let (mut admitted, plan) = (0, plan());
    let refused = loop {
        let packed = large();
        let admission = Admission { packed: &packed, plan: &plan, digest: None, awaited: false };
        match stream.admit(&admission).await {
            Ok(verdict) => assert_admitted(verdict),
            Err(error) => break (packed, error),
        };
        admitted += 1;
    };
    assert!(matches!(refused.1, StreamError::Full(_)), "{:?}", refused.1);
    assert!(admitted > 2, "{admitted}");
    let now = counters(&stream).await;
    assert_eq!((now.accepted, now.used), (5 * admitted, 5 * admitted));
    assert_eq!(stream.pending_batches(0).await.unwrap().len() as u64, admitted);

    disk.resize(64 << 20);
    assert_admitted(admit(&stream, &refused.0).await);
    assert_eq!(counters(&stream).await.accepted, 5 * admitted + 5);
    assert_eq!(drain(&stream, "lane").await.len() as u64, admitted + 1);
    assert_eq!(counters(&stream).await.pending, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_backlog_gives_its_space_back() {
    let rig = Rig::<Embedded>::start().await;
    let noise: Vec<u8> = (0..1 << 20).map(|at: u32| (at.wrapping_mul(0x9E37_79B9) >> 11) as u8).collect();
    for _ in 0..40 {
        let packed = millrace_event::entry::PackedBatch { data: noise.clone().into(), ..batch(1) };
        assert_admitted(admit(&rig.stream, &packed).await);
    }
    let size = |name: &str| std::fs::metadata(rig.file(name)).map_or(0, |file| file.len());
    assert!(size("stream.db") + size("stream.db-wal") > 40 << 20);
    assert_eq!(drain(&rig.stream, "lane").await.len(), 40);
    eventually(DEADLINE, "the file to be small again", async || {
        size("stream.db") + size("stream.db-wal") < 1 << 20
    })
    .await;
    assert_admitted(admit(&rig.stream, &batch(1)).await);
    assert_eq!(rig.stream.backlog().await.unwrap().entries, 1);
}
