//! Processes that are killed while they write: every confirmed write is stored. A repetition writes the rest,
//! and nothing twice.

use std::io::{BufRead, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use millrace_event::plan::ProjectId;
use millrace_store::{WriteError, WriteRequest};
use testkit::{DiskError, Shim};
use uuid::Uuid;

use super::{harness, store};
use crate::suite::*;

const VICTIM: &str = "sqlite::kills::victim";
pub const FOLDER: &str = "MILLRACE_TEST_VICTIM_FOLDER";
const BATCHES: u64 = 400;
const EVENTS: u128 = 60;
/// Events that a batch repeats from the batch before it.
const REPEATED: u128 = 10;

/// The same batch in every process, so its time is fixed.
fn batch(seq: u64) -> WriteRequest {
    let received_ms = 1_795_219_200_000;
    let first = u128::from(seq) * (EVENTS - REPEATED);
    request(
        ProjectId(1),
        Uuid::from_u128(u128::from(seq) + 1),
        entry(received_ms, seq),
        &events(received_ms, first..first + EVENTS),
    )
}

/// A process that writes batches and prints a line for each. Killed when dropped.
pub struct Victim {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Victim {
    pub fn start(victim: &str, folder: &Path, variables: &[(&str, &str)]) -> Self {
        let program = std::env::current_exe().expect("a process knows its executable");
        let mut command = Command::new(program);
        command.args(["--ignored", "--exact", victim, "--nocapture"]).env(FOLDER, folder);
        command.envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("a child can be started");
        let output = child.stdout.take().expect("standard output is piped");
        Self { child, lines: BufReader::new(output).lines() }
    }

    /// Waits until it prints this line.
    pub fn wait_for(&mut self, wanted: &str) {
        let mut lines = self.lines.by_ref().map_while(Result::ok);
        let is_printed = tokio::task::block_in_place(|| lines.any(|line| line == wanted));
        assert!(is_printed, "the victim ended without printing {wanted:?}");
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.child.kill().expect("a child can be killed, even a dead one");
        self.child.wait().expect("a child can be waited for");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of the tests below"]
async fn victim() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = store(Path::new(&folder));
    let mut lane = writer(&store).await;
    for seq in 0..BATCHES {
        while let Err(WriteError::Environment { sqlstate, .. }) = lane.write(&[batch(seq)]).await {
            println!("\nrefused {sqlstate}");
            lane = writer(&store).await;
        }
        println!("\nwritten {seq}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing_that_was_written() {
    let harness = harness().await;
    let project = project(&harness.store(), "p").await;
    assert_eq!(project, ProjectId(1));
    for written in [0, 7, 60, 150] {
        let mut victim = Victim::start(VICTIM, harness.folder.path(), &[]);
        victim.wait_for(&format!("written {written}"));
        drop(victim);
        let survivor = harness.another();
        let batches = "SELECT count(*) FROM batches";
        let last: u64 =
            harness.connect().query_row(batches, [], |row| row.get(0)).expect("the ledger is there");
        assert!(last > written, "every confirmed batch is in the ledger");
        let totals = balanced(&survivor, project).await;
        let (new, repeated) = ((EVENTS - REPEATED) as u64, REPEATED as u64);
        assert_eq!((totals.stored, totals.duplicate), (last * new + repeated, (last - 1) * repeated));
        let again: Vec<_> = (0..last).map(batch).collect();
        let again = writer(&survivor).await.write(&again).await.expect("written");
        assert!(again.iter().all(|written| written.redelivered));
        assert_eq!(balanced(&survivor, project).await, totals, "nothing was counted twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_is_confirmed_before_the_disk_has_it() {
    let harness = harness().await;
    let project = project(&harness.store(), "p").await;
    // A disk that accepts writes and fails when it is asked to sync them.
    let disk = Shim::create();
    disk.fail_disk(Some(DiskError::Broken));
    let mut victim = Victim::start(VICTIM, harness.folder.path(), &disk.variables());
    victim.wait_for("refused 58030");
    victim.wait_for("refused 58030");
    disk.fail_disk(None);
    victim.wait_for("written 3");
    drop(victim);
    let again: Vec<_> = (0..=3).map(batch).collect();
    let again = writer(&harness.another()).await.write(&again).await.expect("written");
    assert!(again.iter().all(|written| written.redelivered));
    assert_eq!(balanced(&harness.another(), project).await.dead, 0);
}
