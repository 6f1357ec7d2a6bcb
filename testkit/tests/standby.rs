//! A standby without replication answers reads.

use testkit::Postgres;
use tokio::time::{Duration, timeout};

/// The lock of an unfinished transaction would otherwise stay on the standby forever.
#[tokio::test]
async fn a_standby_that_was_cut_off_within_a_transaction_gets_its_end_first() {
    let primary = Postgres::start().await;
    let client = primary.connect().await;
    client.batch_execute("CREATE TABLE t AS SELECT 1 AS a").await.unwrap();
    let standby = primary.start_standby().await;
    let locking = primary.connect().await;
    locking
        .batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE; INSERT INTO t VALUES (2)")
        .await
        .unwrap();
    // Its commit sends the lock to the standby.
    client.batch_execute("CREATE TABLE another (a int)").await.unwrap();
    standby.catch_up(&primary).await;
    let mut cut = Box::pin(standby.cut_replication());
    assert!(timeout(Duration::from_secs(2), &mut cut).await.is_err(), "the table is locked");
    locking.batch_execute("COMMIT").await.unwrap();
    cut.await;
    let counted = standby.connect().await.query_one("SELECT count(*) FROM t", &[]).await.unwrap();
    assert_eq!(counted.get::<_, i64>(0), 2);
    client.batch_execute("INSERT INTO t VALUES (3)").await.unwrap();
    let counted = standby.connect().await.query_one("SELECT count(*) FROM t", &[]).await.unwrap();
    assert_eq!(counted.get::<_, i64>(0), 2, "replication has ended");
}
