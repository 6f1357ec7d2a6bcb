//! Redrives by a process that is killed.

use std::path::Path;

use super::kills::Victim;
use super::{harness, store};
use crate::suite::redriving::{dead, given_up, ids, order, redrive};
use crate::suite::*;

const VICTIM: &str = "sqlite::redrive::victim";
const LETTERS: u64 = 600;
const EVENTS: u128 = 5;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of the test below"]
async fn victim() {
    let Some(folder) = std::env::var_os(super::kills::FOLDER) else { return };
    let store = store(Path::new(&folder));
    for some in ids(&store).await.chunks(3) {
        store.redrive(&order(), some).await.expect("redriven");
        println!("\nredriven");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redrive_stores_all_or_nothing_of_a_chunk_and_the_next_finds_the_rest() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let requests: Vec<_> = (0..LETTERS)
        .map(|seq| {
            given_up(project, seq, &events(now, u128::from(seq) * EVENTS..u128::from(seq + 1) * EVENTS))
        })
        .collect();
    writer(&store).await.write(&requests).await.expect("written");
    for _ in 0..3 {
        let mut victim = Victim::start(VICTIM, harness.folder.path(), &[]);
        victim.wait_for("redriven");
        victim.wait_for("redriven");
        drop(victim);
        let totals = balanced(&store, project).await;
        assert_eq!(totals.stored + totals.dead, LETTERS * EVENTS as u64);
        let chunks: u64 =
            store.redrives(1_000).await.expect("history").iter().map(|r| r.redriven.letters).sum();
        assert_eq!(totals.stored, chunks * EVENTS as u64, "the records match the stored events");
    }
    let rest = dead(&store).await.len() as u64;
    assert!((1..LETTERS).contains(&rest), "the killed processes left {rest} letters");
    assert_eq!(redrive(&store).await.letters, rest);
    assert_eq!(balanced(&store, project).await.stored, LETTERS * EVENTS as u64);
}
