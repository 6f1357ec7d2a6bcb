//! A process that is killed while it writes: what it was told is stored is there, what was not is written again, nothing
//! twice.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use shared::plan::ProjectId;
use shared::store::Work;
use uuid::Uuid;

use super::{harness, store};
use crate::suite::*;

const VICTIM: &str = "sqlite::kills::victim";
const FOLDER: &str = "MILLRACE_TEST_VICTIM_FOLDER";
const BATCHES: u64 = 400;
const EVENTS: u128 = 60;
/// Of which so many are those of the batch before.
const REPEATED: u128 = 10;

/// The same batch whoever makes it: a `now` that both sides could not agree on must not be in it.
fn batch(seq: u64) -> Work {
    let received_ms = 1_795_219_200_000;
    let first = u128::from(seq) * (EVENTS - REPEATED);
    work(
        ProjectId(1),
        Uuid::from_u128(u128::from(seq) + 1),
        entry(received_ms, seq),
        &events(received_ms, first..first + EVENTS),
    )
}

/// A process that is killed when dropped.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        self.0.kill().expect("a child can be killed, even a dead one");
        self.0.wait().expect("a child can be waited for");
    }
}

fn start_victim(folder: &Path) -> Victim {
    let program = std::env::current_exe().expect("a process knows its executable");
    let mut command = Command::new(program);
    command.args(["--ignored", "--exact", VICTIM, "--nocapture"]).env(FOLDER, folder);
    Victim(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("a child can be started"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of a_killed_process_loses_nothing_that_was_written"]
async fn victim() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = store(Path::new(&folder));
    let mut lane = writer(&store).await;
    for seq in 0..BATCHES {
        lane.write(&[batch(seq)]).await.expect("written");
        println!("\nwritten {seq}");
    }
}

/// Reads what the victim says until it has written this batch. Returns false when it ended before.
fn wait_for(victim: &mut Victim, last: u64) -> bool {
    let output = BufReader::new(victim.0.stdout.take().expect("standard output is piped"));
    let wanted = format!("written {last}");
    output.lines().map_while(Result::ok).any(|line| line == wanted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing_that_was_written() {
    let harness = harness().await;
    let project = project(&harness.store(), "p").await;
    assert_eq!(project, ProjectId(1));
    for written in [0, 7, 60, 150] {
        let mut victim = start_victim(harness.folder.path());
        let said_so = tokio::task::block_in_place(|| wait_for(&mut victim, written));
        drop(victim);
        assert!(said_so, "the victim ended before it was killed");
        let survivor = harness.another();
        let last = tokio::task::block_in_place(|| harness.connect())
            .query_row("SELECT count(*) FROM batches", [], |row| row.get::<_, u64>(0))
            .expect("the ledger can be read");
        assert!(last > written, "what was told to be written is there");
        let totals = balanced(&survivor, project).await;
        let found = (totals.stored, totals.duplicate);
        let per_batch = (EVENTS - REPEATED) as u64;
        assert_eq!(found, (last * per_batch + REPEATED as u64, (last - 1) * REPEATED as u64));
        let again: Vec<_> = (0..last).map(batch).collect();
        let again = writer(&survivor).await.write(&again).await.expect("written");
        assert!(again.iter().all(|written| written.redelivered));
        assert_eq!(balanced(&survivor, project).await, totals, "nothing was counted twice");
    }
}
