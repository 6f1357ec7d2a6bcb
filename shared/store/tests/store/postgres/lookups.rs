//! The cost of lookups.

use std::time::Duration;

use testkit::eventually;

use super::{PostgresHarness, harness};
use crate::suite::*;

const DEADLINE: Duration = Duration::from_secs(30);

/// Entries read from the primary keys of all partitions of events since the database was created.
async fn keys_read(harness: &PostgresHarness) -> i64 {
    let admin = harness.connect().await;
    let read = "SELECT coalesce(sum(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes WHERE relname LIKE 'events%'";
    admin.query_one(read, &[]).await.expect("statistics").get(0)
}

#[tokio::test]
async fn a_query_planned_on_an_empty_partition_still_uses_the_primary_key() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let mut lane = writer(&store).await;
    let mut sequence = 0;
    let mut next = |ids: std::ops::Range<u128>| {
        sequence += 1;
        let batch: Vec<_> = ids.map(|id| event(at_ms(now), id)).collect();
        request(project, new_batch_id(), entry(now, sequence), &batch)
    };

    // The query is planned for the first duplicates, when the table is almost empty.
    for _ in 0..2 {
        lane.write(&[next(1..6)]).await.expect("written");
    }
    for thousand in 1..21 {
        lane.write(&[next(thousand * 1_000..(thousand + 1) * 1_000)]).await.expect("written");
    }
    let again = lane.write(&[next(5_000..5_100)]).await.expect("written");
    assert_eq!(again.map_outcomes(), [duplicate(100)]);

    // A session reports its statistics when it ends.
    drop(lane);
    let read = eventually(DEADLINE, "the statistics", async || {
        let read = keys_read(&harness).await;
        (read >= 105).then_some(read)
    });
    let read = read.await;
    assert!(read <= 1_000, "to find 105 rows, {read} were read");
}

#[tokio::test]
async fn a_lookup_of_events_of_today_waits_for_no_other_partition() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let today = |seq| request(project, new_batch_id(), entry(now, seq), &events(now, 1..=5));
    let mut lane = writer(&store).await;
    lane.write(&[today(0)]).await.expect("written");
    // As while a day is made or dropped.
    let rival = harness.connect().await;
    let old = "SELECT 'events_' || to_char(now() AT TIME ZONE 'UTC' - interval '5 days', 'YYYYMMDD')";
    let old: String = rival.query_one(old, &[]).await.expect("a name").get(0);
    let lock = format!("BEGIN; LOCK TABLE {old}, events_default IN ACCESS EXCLUSIVE MODE");
    rival.batch_execute(&lock).await.expect("locked");
    let again = lane.write(&[today(1)]).await.expect("written");
    assert_eq!(again[0].outcome, duplicate(5));
}
