//! Promises about a stream that can go back in time.

use millrace_event::AcknowledgedBatch;
use millrace_store::{StreamRecord, WriteError};
use uuid::Uuid;

use super::*;

fn acknowledged(project: ProjectId, id: EntryId, count: u32) -> AcknowledgedBatch {
    AcknowledgedBatch { id, batch_id: new_batch_id(), project, count }
}

/// Events of the listed hours, and whether they were reviewed.
async fn listed(store: &SharedStore) -> Vec<(ProjectId, u64, u64, bool)> {
    let hours = store.lost_batches().await.expect("an answer");
    hours.iter().map(|hour| (hour.project, hour.batches, hour.events, hour.reviewed)).collect()
}

pub async fn the_highest_entry_of_each_shard_is_recorded_and_never_lowered(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "shop").await;
    assert_eq!(store.stream_record(0).await.expect("an answer"), StreamRecord::default());
    let now = now_ms();
    let mut id = 0;
    let mut write = async |shard: u16, entries: &[EntryId]| {
        let requests: Vec<_> = entries
            .iter()
            .map(|entry| {
                id += 1;
                WriteRequest { shard, ..request(project, new_batch_id(), *entry, &events(now, [id])) }
            })
            .collect();
        writer(&store).await.write(&requests).await.expect("written");
        store.stream_record(shard).await.expect("an answer").position
    };
    assert_eq!(write(0, &[entry(now, 1), entry(now, 3), entry(now - 5, 9)]).await, entry(now, 3));
    assert_eq!(write(0, &[entry(now, 2)]).await, entry(now, 3));
    assert_eq!(write(1, &[entry(now - 9, 0)]).await, entry(now - 9, 0));
    assert_eq!(write(0, &[entry(now + 1, 0)]).await, entry(now + 1, 0));
    let epoch = Uuid::new_v4();
    assert!(store.replace_epoch(0, None, epoch).await.expect("an answer"));
    let record = StreamRecord { epoch: Some(epoch), position: entry(now + 1, 0) };
    assert_eq!(store.stream_record(0).await.expect("an answer"), record);
}

pub async fn a_lost_batch_is_recorded_once_and_listed_until_it_is_stored(harness: &dyn Harness) {
    let store = harness.store();
    let (shop, blog) = (project(&store, "shop").await, project(&store, "blog").await);
    // In the middle of an hour, so that all are of one.
    let hour_ms = now_ms() / 3_600_000 * 3_600_000 + 1_800_000;
    let batches = [
        acknowledged(shop, entry(hour_ms, 0), 5),
        acknowledged(shop, entry(hour_ms + 7, 0), 6),
        acknowledged(blog, entry(hour_ms, 1), 1),
    ];
    let ids: Vec<_> = batches.iter().map(|batch| batch.batch_id).collect();
    assert_eq!(store.not_in_ledger(&batches).await.expect("an answer"), batches);
    let mut recorded = store.record_lost(0, &batches[..2]).await.expect("recorded");
    recorded.sort_unstable();
    assert_eq!(recorded, ids[..2]);
    assert_eq!(store.record_lost(0, &batches).await.expect("recorded"), ids[2..]);
    assert_eq!(listed(&store).await, [(shop, 2, 11, false), (blog, 1, 1, false)]);

    // The client repeats one of them later, under the same id.
    let later = entry(hour_ms + 60_000, 0);
    let repeated = request(shop, ids[0], later, &events(hour_ms, 1..=5));
    writer(&store).await.write(&[repeated]).await.expect("written");
    assert_eq!(store.not_in_ledger(&batches).await.expect("an answer"), batches[1..]);
    assert_eq!(listed(&store).await, [(shop, 1, 6, false), (blog, 1, 1, false)]);
    let reused = AcknowledgedBatch { id: entry(hour_ms + 120_000, 0), ..batches[0] };
    assert_eq!(
        store.not_in_ledger(&[reused]).await.expect("an answer"),
        [reused],
        "an earlier use of the key"
    );

    assert_eq!(store.review_lost_batches().await.expect("reviewed"), 3);
    assert_eq!(store.review_lost_batches().await.expect("reviewed"), 0);
    assert_eq!(listed(&store).await, [(shop, 1, 6, true), (blog, 1, 1, true)]);
}

pub async fn lost_batches_are_kept_as_long_as_the_ledger(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "shop").await;
    let ids = [1, 9].map(|days| acknowledged(project, entry(now_ms() - days * DAY_MS, 0), 1));
    store.record_lost(0, &ids).await.expect("recorded");
    let policy = UpkeepPolicy { ledger_days: 5, ..keep_all() };
    store.upkeep(&policy).await.expect("upkeep").expect("no other process does the upkeep");
    assert_eq!(listed(&store).await, [(project, 1, 1, false)]);
}

pub async fn entries_that_were_read_under_another_epoch_are_not_committed(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "shop").await;
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    assert!(store.replace_epoch(0, None, first).await.expect("an answer"));
    let requests = [1, 2]
        .map(|id| request(project, new_batch_id(), entry(now_ms(), id), &events(now_ms(), [u128::from(id)])));
    let mut lane = writer(&store).await;
    lane.require_epoch(0, first);
    lane.write(&requests[..1]).await.expect("written");

    assert!(store.replace_epoch(0, Some(first), second).await.expect("an answer"));
    let refused = lane.write(&requests[1..]).await.expect_err("refused");
    assert!(matches!(refused, WriteError::EpochReplaced { shard: 0 }), "{refused}");
    let mut lane = writer(&store).await;
    lane.require_epoch(1, second);
    let refused = lane.write(&requests[1..]).await.expect_err("refused");
    assert!(matches!(refused, WriteError::EpochReplaced { shard: 1 }), "a shard without an epoch: {refused}");
    assert_eq!(balanced(&store, project).await.stored, 1);

    let mut lane = writer(&store).await;
    lane.require_epoch(0, second);
    lane.write(&requests).await.expect("written");
    assert_eq!(balanced(&store, project).await.stored, 2);
}

/// Otherwise the counters would be rebuilt from a ledger that does not have the entries yet.
pub async fn what_is_committed_under_an_epoch_is_visible_once_the_epoch_is_replaced(harness: &dyn Harness) {
    let (store, rebuilding) = (harness.store(), harness.another());
    let project = project(&store, "shop").await;
    let mut epoch = Uuid::new_v4();
    assert!(store.replace_epoch(0, None, epoch).await.expect("an answer"));
    let mut stored = 0;
    for seq in 1..=40 {
        let batch =
            request(project, new_batch_id(), entry(now_ms(), seq), &events(now_ms(), [u128::from(seq)]));
        let mut lane = writer(&store).await;
        lane.require_epoch(0, epoch);
        let next = Uuid::new_v4();
        let rebuild = async {
            assert!(rebuilding.replace_epoch(0, Some(epoch), next).await.expect("an answer"));
            balanced(&rebuilding, project).await.stored
        };
        let (written, counted) = tokio::join!(lane.write(std::slice::from_ref(&batch)), rebuild);
        stored += u64::from(written.is_ok());
        assert_eq!(counted, stored, "{written:?}");
        epoch = next;
    }
}
