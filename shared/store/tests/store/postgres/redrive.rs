//! Redrives with rejected rows, locks and lost sessions.

use std::time::Duration;

use millrace_event::Outcome;
use millrace_store::StoreError;
use testkit::eventually;

use super::harness;
use crate::suite::redriving::{dead, given_up, ids, order, redrive};
use crate::suite::*;

const CHECK: &str = "ALTER TABLE events ADD CONSTRAINT no_refunds CHECK (name <> 'refund')";
const NO_CHECK: &str = "ALTER TABLE events DROP CONSTRAINT no_refunds";

fn refund(ms: u64, id: u128) -> Event {
    Event { name: "refund".to_owned(), ..event(at_ms(ms), id) }
}

#[tokio::test]
async fn a_row_that_an_operators_check_rejects_is_dead_until_the_check_is_gone() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let admin = harness.connect().await;
    admin.batch_execute(CHECK).await.expect("a check");
    let mut batch = events(now, 1..=10);
    batch[3] = refund(now, 4);
    // Of another day, so in another partition.
    batch[7] = refund(now - 90 * DAY_MS, 8);
    let requests =
        [request(project, new_batch_id(), entry(now, 0), &batch), given_up(project, 1, &[refund(now, 11)])];
    let written = writer(&store).await.write(&requests).await.expect("written");
    assert_eq!(written[0].outcome, Outcome { stored: 8, duplicate: 0, dead: 2, conflict: 0 });
    let letters = dead(&store).await;
    let refused: Vec<_> =
        letters.iter().filter(|letter| letter.sqlstate.as_deref() == Some("23514")).collect();
    assert_eq!(refused.len(), 2);
    assert!(refused.iter().all(|letter| letter.reason.contains("no_refunds")), "{refused:?}");

    assert_eq!(redrive(&store).await.refused, 3);
    let again = dead(&store).await;
    assert!(again.iter().all(|letter| letter.sqlstate.as_deref() == Some("23514")), "{again:?}");
    admin.batch_execute(NO_CHECK).await.expect("no check");
    assert_eq!(redrive(&store).await.stored, 3);
    assert_eq!(harness.events(project).await.len(), 11);
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.dead, totals.stored_this_month), (11, 0, 8));
}

#[tokio::test]
async fn a_redrive_that_ends_before_its_commit_has_changed_nothing() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let requests: Vec<_> = (0..5).map(|seq| given_up(project, seq, &events(now, [seq.into(), 99]))).collect();
    writer(&store).await.write(&requests).await.expect("written");
    let before = balanced(&store, project).await;
    let ids = ids(&store).await;
    let admin = harness.connect().await;
    let (freeze, unfreeze) = ("BEGIN; LOCK TABLE usage_hourly IN ACCESS EXCLUSIVE MODE", "ROLLBACK");

    let waits = async || {
        let waiting = "SELECT pid FROM pg_locks WHERE NOT granted AND relation = 'usage_hourly'::regclass";
        eventually(Duration::from_secs(60), "the redrive to wait for usage", async || {
            admin.query(waiting, &[]).await.expect("locks").len() == 1
        })
        .await;
    };

    // The session is terminated when everything but usage is written.
    admin.batch_execute(freeze).await.expect("frozen");
    let end = async {
        waits().await;
        let end = "SELECT pg_terminate_backend(pid) FROM pg_locks
                    WHERE NOT granted AND relation = 'usage_hourly'::regclass";
        admin.batch_execute(end).await.expect("ended");
        admin.batch_execute(unfreeze).await.expect("unfrozen");
    };
    let (order, other) = (order(), harness.another());
    let (ended, ()) = tokio::join!(other.redrive(&order, &ids), end);
    assert!(matches!(&ended, Err(StoreError::Unavailable(_))), "{ended:?}");
    assert_eq!(balanced(&store, project).await, before);
    assert!(store.redrives(10).await.expect("history").is_empty());

    // The caller drops the future.
    admin.batch_execute(freeze).await.expect("frozen");
    tokio::select! {
        redriven = store.redrive(&order, &ids) => panic!("the redrive ignored a lock: {redriven:?}"),
        () = waits() => {}
    }
    admin.batch_execute(unfreeze).await.expect("unfrozen");
    assert_eq!(balanced(&store, project).await, before);

    let done = store.redrive(&order, &ids).await.expect("redriven");
    assert_eq!((done.letters, done.stored, done.duplicate), (5, 6, 4));
    balanced(&store, project).await;
}

#[tokio::test]
async fn a_letter_that_the_ledger_does_not_count_is_not_redriven() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let requests =
        [given_up(project, 0, &events(now_ms(), 1..=2)), given_up(project, 1, &events(now_ms(), 3..=4))];
    writer(&store).await.write(&requests).await.expect("written");
    let admin = harness.connect().await;
    admin.execute("DELETE FROM batches WHERE entry_seq = 1", &[]).await.expect("lost");
    let refused = store.redrive(&order(), &ids(&store).await).await.expect_err("refused");
    assert!(matches!(&refused, StoreError::Invalid(text) if text.contains("millrace audit")), "{refused}");
    assert!(harness.events(project).await.is_empty() && dead(&store).await.len() == 2);
}
