//! Promises about usage, epochs, counters, retention and migrations.

use millrace_event::PendingBatch;
use millrace_event::plan::month_of;
use millrace_store::{LedgerSums, UsageWindow, WriteError};
use time::OffsetDateTime;
use uuid::Uuid;

use super::*;

const HOUR_MS: u64 = 3_600_000;

fn moment(ms: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).expect("a moment")
}

pub async fn usage_is_summed_over_hours_days_and_months(harness: &dyn Harness) {
    let store = harness.store();
    let (mine, other) = (project(&store, "mine").await, project(&store, "other").await);
    let day = now_ms() / DAY_MS * DAY_MS;
    let batch = |project, ms, ids| request(project, new_batch_id(), entry(ms, 0), &events(day, ids));
    let requests = [
        batch(mine, day - DAY_MS, 1..=3),
        batch(mine, day + 1, 3..=5),
        batch(mine, day + HOUR_MS - 1, 6..=6),
        batch(mine, day + HOUR_MS, 7..=8),
        batch(other, day, 1..=9),
    ];
    writer(&store).await.write(&requests).await.expect("written");
    let usage = async |window| {
        let rows =
            store.usage(mine, moment(day - DAY_MS), moment(day + DAY_MS), window).await.expect("usage");
        rows.into_iter().map(|row| (row.start, row.events, row.duplicates, row.dead)).collect::<Vec<_>>()
    };
    let (yesterday, today, next) = (moment(day - DAY_MS), moment(day), moment(day + HOUR_MS));
    assert_eq!(usage(UsageWindow::Hour).await, [(yesterday, 3, 0, 0), (today, 3, 1, 0), (next, 2, 0, 0)]);
    assert_eq!(usage(UsageWindow::Day).await, [(yesterday, 3, 0, 0), (today, 5, 1, 0)]);
    let months = usage(UsageWindow::Month).await;
    assert_eq!(months.iter().map(|(_, events, ..)| events).sum::<u64>(), 8);
    assert_eq!(months[0].0, yesterday, "a window is cut to the period");
    assert!(months[1..].iter().all(|(start, ..)| start.day() == 1), "{months:?}");
    let half_open = store.usage(mine, today, next, UsageWindow::Hour).await.expect("usage");
    assert_eq!(half_open.len(), 1);
    let bytes: u64 = requests[1..3].iter().map(rows_bytes).sum();
    assert_eq!(half_open[0].bytes, bytes - row(mine, &events(day, [3])[0]).len() as u64);
}

fn rows_bytes(request: &WriteRequest) -> u64 {
    match &request.payload {
        Payload::Rows(rows) => rows.len() as u64,
        Payload::DeadLetter { .. } => 0,
    }
}

pub async fn an_epoch_is_replaced_only_if_it_is_the_expected_one(harness: &dyn Harness) {
    let (store, other) = (harness.store(), harness.another());
    let (first, second, third) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(store.epoch(3).await.expect("an answer"), None);
    assert!(!store.replace_epoch(3, Some(first), second).await.expect("an answer"));
    let both = tokio::join!(store.replace_epoch(3, None, first), other.replace_epoch(3, None, second));
    let (won, lost) = (both.0.expect("an answer"), both.1.expect("an answer"));
    assert!(won != lost, "exactly one is the first");
    let current = store.epoch(3).await.expect("an answer").expect("an epoch");
    assert_eq!(current, if won { first } else { second });
    assert!(!store.replace_epoch(3, Some(third), first).await.expect("an answer"));
    assert!(store.replace_epoch(3, Some(current), third).await.expect("an answer"));
    assert_eq!(store.epoch(3).await.expect("an answer"), Some(third));
    assert_eq!(store.epoch(4).await.expect("an answer"), None);
}

pub async fn replicas_of_a_shard_are_recorded_once_it_has_an_epoch_and_kept_with_the_next(
    harness: &dyn Harness,
) {
    let (store, other) = (harness.store(), harness.another());
    let (first, second) = (Uuid::new_v4(), Uuid::new_v4());
    assert!(!store.record_replicas(7).await.expect("an answer"), "the shard has no epoch yet");
    for shard in [7, 8, 9] {
        assert!(store.replace_epoch(shard, None, first).await.expect("an answer"));
    }
    assert_eq!(other.shards_with_replicas().await.expect("shards"), Vec::<u16>::new());
    for shard in [9, 7, 7] {
        assert!(store.record_replicas(shard).await.expect("an answer"));
    }
    assert!(store.replace_epoch(7, Some(first), second).await.expect("an answer"));
    assert_eq!(other.shards_with_replicas().await.expect("shards"), [7, 9]);
    assert_eq!(other.epoch(7).await.expect("an answer"), Some(second));
}

pub async fn the_number_of_shards_is_replaced_only_if_the_epochs_are_the_expected_ones(
    harness: &dyn Harness,
) {
    let (store, epoch) = (harness.store(), Uuid::new_v4());
    assert!(store.replace_epoch(0, None, epoch).await.expect("recorded"));
    for wrong in [&[None][..], &[Some(Uuid::new_v4())], &[Some(epoch), Some(epoch)]] {
        assert!(!store.replace_shards(wrong, 3).await.expect("an answer"), "{wrong:?}");
    }
    assert_eq!(store.shards_recorded().await.expect("an answer"), 1);
    assert_eq!(store.epoch(0).await.expect("an answer"), Some(epoch));
    assert!(store.replace_shards(&[Some(epoch)], 3).await.expect("replaced"));
    assert_eq!(store.shards_recorded().await.expect("an answer"), 3);
    let mut epochs = vec![Some(epoch)];
    for shard in 0..3 {
        let recorded = store.epoch(shard).await.expect("an answer");
        assert!(recorded.is_some() && !epochs.contains(&recorded), "every shard has an epoch of its own");
        epochs.push(recorded);
    }
    assert!(store.replace_shards(&epochs[1..], 2).await.expect("replaced"));
    assert_eq!(store.shards_recorded().await.expect("an answer"), 2);
    assert_eq!(store.epoch(2).await.expect("an answer"), None);
}

pub async fn counters_are_rebuilt_from_the_ledger_and_pending_batches(harness: &dyn Harness) {
    let store = harness.store();
    let (one, quiet, two) =
        (project(&store, "1").await, project(&store, "2").await, project(&store, "3").await);
    let now = now_ms();
    let batch = |seq, ids| request(one, new_batch_id(), entry(now, seq), &events(now, ids));
    let requests = [batch(0, 1..=10), batch(1, 8..=12), batch(2, 20..=29)];
    writer(&store).await.write(&requests[..2]).await.expect("written");
    // The second is written but not settled yet. The third is not written.
    let pending = |request: &WriteRequest| PendingBatch {
        id: request.entry,
        batch_id: request.batch_id,
        project: request.project,
        count: request.count,
        bytes: 1,
    };
    let counters = store.counters_for_rebuild(0, 1, &[pending(&requests[1]), pending(&requests[2])]).await;
    let counters = counters.expect("counters");
    assert_eq!(counters.iter().map(|counter| counter.project).collect::<Vec<_>>(), [one, quiet, two]);
    let counter = counters[0];
    assert_eq!((counter.accepted, counter.pending, counter.month), (25, 15, month_of(now * 1_000)));
    // 12 are stored, 10 will be. 3 duplicates will be refunded when the second batch is settled.
    assert_eq!(counter.used, 25);
    assert_eq!((counters[1].accepted, counters[1].pending, counters[1].used), (0, 0, 0));
    let odd = store.counters_for_rebuild(1, 2, &[]).await.expect("counters");
    assert_eq!(odd.iter().map(|counter| counter.project).collect::<Vec<_>>(), [one, two]);
    assert_eq!((odd[0].accepted, odd[0].used), (15, 12));
}

pub async fn retention_keeps_the_counts_balanced(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let mut lane = writer(&store).await;
    let mut requests = Vec::new();
    for days in 0..7 {
        let ms = now - days * DAY_MS;
        let dead = Payload::DeadLetter { reason: "damaged".to_owned(), raw: vec![1].into() };
        let letter = request(project, new_batch_id(), entry(ms, 1), &events(ms, 1..=3));
        requests.push(WriteRequest { payload: dead, ..letter });
        let mut batch = events(ms, 1..=10);
        // Too old for a partition: retention goes by its time of receipt.
        batch.push(event(at_ms(now - 400 * DAY_MS), u128::from(days) + 100));
        requests.push(request(project, new_batch_id(), entry(ms, 0), &batch));
    }
    lane.write(&requests).await.expect("written");
    let before = balanced(&store, project).await;
    assert_eq!((before.stored, before.dead), (77, 21));

    let policy = UpkeepPolicy { retention_days: Some(2), ledger_days: 3, ..keep_all() };
    let report = store.upkeep(&policy).await.expect("upkeep").expect("no other process does the upkeep");
    assert!(report.partitions_retired >= 4 + 3, "{report:?}");
    assert!(report.days_ahead >= 3, "{report:?}");
    let kept = harness.events(project).await;
    let oldest_us = (now / DAY_MS - 2).cast_signed() * DAY_MS.cast_signed() * 1_000;
    assert!(kept.iter().all(|event| event.received_us >= oldest_us), "{kept:?}");
    assert_eq!((kept.len(), harness.letters(project).await.len()), (33, 3));
    let after = balanced(&store, project).await;
    assert_eq!((after.stored, after.dead, after.event_rows, after.dead_rows), (77, 21, 77, 21));
    assert!(after.ledger.stored < before.ledger.stored, "the ledger was pruned");

    // A retired day of the ledger cannot be created again: its entries could be written twice.
    let old = requests.last().expect("one").clone();
    let refused = lane.write(&[old]).await.expect_err("refused");
    assert!(matches!(refused, WriteError::LedgerRetired), "{refused}");
    let again = store.upkeep(&policy).await.expect("upkeep").expect("no other process does the upkeep");
    assert_eq!((again.partitions_made, again.partitions_retired), (0, 0));
    assert_eq!(balanced(&store, project).await, after);
}

pub async fn the_ledger_is_kept_while_an_entry_as_old_is_pending(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let old = now_ms() - 5 * DAY_MS;
    let request = request(project, new_batch_id(), entry(old, 0), &events(old, 1..=2));
    writer(&store).await.write(std::slice::from_ref(&request)).await.expect("written");
    for oldest_pending_ms in [Some(old), Some(0)] {
        let policy = UpkeepPolicy { ledger_days: 2, oldest_pending_ms, ..keep_all() };
        store.upkeep(&policy).await.expect("upkeep").expect("no other process does the upkeep");
        let written =
            writer(&store).await.write(std::slice::from_ref(&request)).await.expect("written before");
        assert_eq!(written, [WriteOutcome { outcome: stored(2), redelivered: true }]);
    }
    let policy = UpkeepPolicy { ledger_days: 2, ..keep_all() };
    store.upkeep(&policy).await.expect("upkeep").expect("no other process does the upkeep");
    writer(&store).await.write(&[request]).await.expect_err("retired");
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.ledger), (2, LedgerSums::default()));
}

pub async fn undated_ids_are_forgotten_after_two_days(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let undated = |ms, id| request(project, new_batch_id(), entry(ms, 0), &[event(EventTime::Undated, id)]);
    let requests = [undated(now - 50 * HOUR_MS, 1), undated(now - 46 * HOUR_MS, 2)];
    writer(&store).await.write(&requests).await.expect("written");
    let behind = UpkeepPolicy { oldest_pending_ms: Some(now - 3 * HOUR_MS), ..keep_all() };
    store.upkeep(&behind).await.expect("upkeep").expect("no other process does the upkeep");
    assert_eq!(harness.undated_ids().await, 2, "a pending entry could repeat the first");
    store.upkeep(&keep_all()).await.expect("upkeep").expect("no other process does the upkeep");
    assert_eq!(harness.undated_ids().await, 1);
}

pub async fn a_migrated_store_is_not_migrated_again(harness: &dyn Harness) {
    let (store, other) = (harness.store(), harness.another());
    let project = project(&store, "p").await;
    let both = tokio::join!(store.migrate(), other.migrate());
    assert!(both.0.expect("migrated").is_empty() && both.1.expect("migrated").is_empty());
    assert_eq!(store.totals(false).await.expect("totals").len(), 1);
    assert_eq!(balanced(&store, project).await.stored, 0);
}
