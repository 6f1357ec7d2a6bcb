//! Promises about redriving dead letters.

use millrace_event::PendingBatch;
use millrace_event::entry::pack_rows;
use millrace_store::{DeadLetter, LetterFilter, RedriveOrder, RedriveResult, UsageWindow};
use uuid::Uuid;

use super::letters::dead_entry;
use super::*;

/// Never part of UTF-8.
const NOT_TEXT: u8 = 0xff;

pub fn order() -> RedriveOrder {
    RedriveOrder {
        id: Uuid::now_v7(),
        os_user: "operator".to_owned(),
        host: "workstation".to_owned(),
        filter: "all".to_owned(),
    }
}

/// A dead entry with valid rows, as when a worker gives up on an entry.
pub fn given_up(project: ProjectId, seq: u64, events: &[Event]) -> WriteRequest {
    let rows: Vec<u8> = events.iter().flat_map(|event| row(project, event)).collect();
    packed(project, seq, u32::try_from(events.len()).expect("few"), &rows)
}

/// The same batch as a dead entry.
pub fn given_up_as(request: &WriteRequest) -> WriteRequest {
    let Payload::Rows(rows) = &request.payload else { return request.clone() };
    let payload = Payload::DeadLetter { reason: "given up".to_owned(), raw: pack_rows(rows) };
    WriteRequest { payload, ..request.clone() }
}

fn packed(project: ProjectId, seq: u64, count: u32, rows: &[u8]) -> WriteRequest {
    let raw = pack_rows(rows);
    dead_entry(project, seq, count, "given up", &raw)
}

/// Makes the name of the event in a row invalid.
fn with_invalid_name(mut row: Vec<u8>) -> Vec<u8> {
    let name = row.windows(10).position(|part| part == b"thing_done").expect("every event has this name");
    row[name] = NOT_TEXT;
    row
}

/// The letters that are not redriven, oldest first.
pub async fn dead(store: &SharedStore) -> Vec<DeadLetter> {
    let mut letters = store.dead_letters(&LetterFilter::default(), None, 1_000).await.expect("letters");
    letters.reverse();
    letters
}

pub async fn ids(store: &SharedStore) -> Vec<i64> {
    dead(store).await.iter().map(|letter| letter.id).collect()
}

/// Redrives all dead letters.
pub async fn redrive(store: &SharedStore) -> RedriveResult {
    store.redrive(&order(), &ids(store).await).await.expect("redriven")
}

fn redriven(letters: u64, stored: u64, duplicate: u64, refused: u64) -> RedriveResult {
    RedriveResult { letters, stored, duplicate, refused }
}

pub async fn a_redriven_entry_is_stored_and_counted_once(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let request = given_up(project, 0, &events(now - 5, 1..=3));
    writer(&store).await.write(std::slice::from_ref(&request)).await.expect("written");
    let letter = dead(&store).await.remove(0);
    let order = order();
    assert_eq!(store.redrive(&order, &[letter.id, 999]).await.expect("redriven"), redriven(1, 3, 0, 0));

    let stored_events = harness.events(project).await;
    assert_eq!(stored_events.len(), 3);
    let received_us = request.entry.ms.cast_signed() * 1_000;
    assert!(stored_events.iter().all(|event| event.received_us == received_us), "{stored_events:?}");
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.dead, totals.dead_rows), (3, 0, 0));
    assert_eq!(
        totals.stored_this_month, 0,
        "the quota of dead events was refunded, and is not charged again"
    );
    assert_eq!(store.batch(project, request.batch_id).await.expect("an answer"), Some(stored(3)));
    let hour = Duration::from_secs(3_600);
    let (from, to) = (letter.received_at - hour, letter.received_at + hour);
    let usage = store.usage(project, from, to, UsageWindow::Month).await.expect("usage");
    let bytes: usize = events(now - 5, 1..=3).iter().map(|event| row(project, event).len()).sum();
    assert_eq!((usage[0].events, usage[0].bytes, usage[0].dead), (3, bytes as u64, 0));

    // A repetition finds nothing to do and adds no record.
    for again in [order.clone(), self::order()] {
        assert_eq!(
            harness.another().redrive(&again, &[letter.id]).await.expect("nothing"),
            RedriveResult::default()
        );
    }
    assert_eq!(balanced(&store, project).await, totals);
    let history = store.redrives(10).await.expect("history");
    assert_eq!(history.len(), 1);
    assert_eq!((&history[0].order, history[0].redriven), (&order, redriven(1, 3, 0, 0)));
    let any = LetterFilter { also_redriven: true, ..LetterFilter::default() };
    let kept = store.dead_letters(&any, None, 10).await.expect("letters").remove(0);
    assert_eq!((kept.id, kept.redrive_id), (letter.id, Some(order.id)));
    assert!(kept.redriven_at.is_some() && dead(&store).await.is_empty());
}

pub async fn a_rejected_row_stays_dead_until_it_can_be_stored(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let healthy = row(project, &event(at_ms(now), 2));
    let rows = [row(project, &event(at_ms(now), 1)), with_invalid_name(healthy.clone())].concat();
    let request = WriteRequest {
        count: 2,
        payload: Payload::Rows(rows.into()),
        ..request(project, new_batch_id(), entry(now, 0), &[])
    };
    let written = writer(&store).await.write(&[request]).await.expect("written");
    assert_eq!(written.map_outcomes(), [Outcome { stored: 1, duplicate: 0, dead: 1, conflict: 0 }]);

    assert_eq!(redrive(&store).await, redriven(1, 0, 0, 1));
    let letter = dead(&store).await.remove(0);
    assert_eq!((letter.event_index, letter.sqlstate.as_deref()), (Some(1), Some("22021")));
    assert!(letter.attempted_at.is_some() && letter.redriven_at.is_none(), "{letter:?}");
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.dead, totals.stored_this_month), (1, 1, 1));

    harness.replace_payload(letter.id, &healthy).await;
    assert_eq!(redrive(&store).await, redriven(1, 1, 0, 0));
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.dead, totals.stored_this_month), (2, 0, 1));
    let history = store.redrives(10).await.expect("history");
    let outcomes: Vec<_> = history.iter().map(|record| record.redriven).collect();
    assert_eq!(outcomes, [redriven(1, 1, 0, 0), redriven(1, 0, 0, 1)], "newest first");
}

pub async fn an_event_that_was_stored_meanwhile_is_a_duplicate(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let requests = [
        given_up(project, 0, &events(now, 1..=4)),
        request(project, new_batch_id(), entry(now, 1), &events(now, 3..=6)),
    ];
    writer(&store).await.write(&requests).await.expect("written");
    assert_eq!(redrive(&store).await, redriven(1, 2, 2, 0));
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.duplicate, totals.dead, totals.stored_this_month), (6, 2, 0, 4));
    let outcome = Outcome { stored: 2, duplicate: 2, dead: 0, conflict: 0 };
    assert_eq!(store.batch(project, requests[0].batch_id).await.expect("an answer"), Some(outcome));
    // The other way round: an event that a redrive has stored is a duplicate for a writer.
    let late = request(project, new_batch_id(), entry(now, 2), &events(now, 1..=2));
    assert_eq!(writer(&store).await.write(&[late]).await.expect("written").map_outcomes(), [duplicate(2)]);
    balanced(&store, project).await;
}

pub async fn an_undated_event_is_redriven_once(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let undated = |ids: &[u128]| ids.iter().map(|&id| event(EventTime::Undated, id)).collect::<Vec<_>>();
    let requests = [
        given_up(project, 0, &undated(&[1, 2])),
        given_up(project, 1, &undated(&[2, 3])),
        request(project, new_batch_id(), entry(now, 2), &undated(&[3, 4])),
    ];
    writer(&store).await.write(&requests).await.expect("written");
    assert_eq!(redrive(&store).await, redriven(2, 2, 2, 0));
    let late = request(project, new_batch_id(), entry(now + 1, 3), &undated(&[1, 2, 3, 4]));
    assert_eq!(writer(&store).await.write(&[late]).await.expect("written").map_outcomes(), [duplicate(4)]);
    assert_eq!(harness.events(project).await.len(), 4);
    balanced(&store, project).await;
}

pub async fn an_unreadable_letter_stays_dead(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let two = [row(project, &event(at_ms(now_ms()), 1)), row(project, &event(at_ms(now_ms()), 2))].concat();
    let foreign = row(ProjectId(project.0 + 1), &event(at_ms(now_ms()), 3));
    let requests = [
        dead_entry(project, 0, 1, "damaged", b"these are not rows"),
        packed(project, 1, 3, &two),
        packed(project, 2, 1, &foreign),
        dead_entry(ProjectId(0), 3, 1, "from the future", b"v=99\n"),
        dead_entry(project, 4, u32::MAX, "absurd", b""),
    ];
    writer(&store).await.write(&requests).await.expect("written");
    let before = dead(&store).await;
    let refused = 1 + 3 + 1 + 1 + u64::from(u32::MAX);
    assert_eq!(redrive(&store).await, redriven(5, 0, 0, refused));
    for (was, is) in before.iter().zip(dead(&store).await) {
        assert!(is.attempted_at.is_some(), "{is:?}");
        assert_eq!(is.reason, was.reason, "the original reason is more useful");
    }
    balanced(&store, project).await;
    assert!(harness.events(project).await.is_empty());
}

pub async fn a_call_that_is_no_event_stays_dead_and_the_others_are_stored(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    // One letter of a call alone, and an entry that was given up with a call among its events.
    let alone =
        request_of_rows(project, entry(now, 0), &[call_row(project, "invalid_type", b"{\"type\":5}")]);
    let rows = [
        row(project, &event(at_ms(now), 1)),
        call_row(project, "too_deep", b"[[[\xff"),
        row(project, &event(at_ms(now), 2)),
    ];
    let given_up = packed(project, 1, 3, &rows.concat());
    writer(&store).await.write(&[alone.clone(), given_up.clone()]).await.expect("written");
    assert_eq!(redrive(&store).await, redriven(2, 2, 0, 2));
    let left = dead(&store).await;
    let facts: Vec<_> = left
        .iter()
        .map(|letter| (letter.batch_id, letter.event_index, letter.code.as_deref(), letter.reason.as_str()))
        .collect();
    let expected = [
        (alone.batch_id, Some(0), Some("invalid_type"), "the type is unknown"),
        (given_up.batch_id, Some(1), Some("too_deep"), "the type is unknown"),
    ];
    assert_eq!(facts, expected);
    assert!(left.iter().all(|letter| letter.attempted_at.is_some() && letter.sqlstate.is_none()));
    let payloads = harness.letters(project).await;
    assert_eq!(payloads.last().expect("a letter").payload, b"[[[\xff");
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.dead), (2, 2));
    // Nothing is left that could be stored.
    assert_eq!(redrive(&store).await, redriven(2, 0, 0, 2));
    assert_eq!(balanced(&store, project).await, totals);
}

pub async fn only_the_rejected_rows_of_an_entry_stay_dead(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let batch: Vec<_> = events(now_ms(), 1..=3).iter().map(|event| row(project, event)).collect();
    let bad = with_invalid_name(batch[1].clone());
    let request = packed(project, 0, 3, &[&batch[0][..], &bad, &batch[2]].concat());
    writer(&store).await.write(std::slice::from_ref(&request)).await.expect("written");
    assert_eq!(redrive(&store).await, redriven(1, 2, 0, 1));
    let left = dead(&store).await;
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].batch_id, left[0].event_index, left[0].event_count), (request.batch_id, Some(1), 1));
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.dead), (2, 1));

    harness.replace_payload(left[0].id, &batch[1]).await;
    assert_eq!(redrive(&store).await, redriven(1, 1, 0, 0));
    assert_eq!(store.batch(project, request.batch_id).await.expect("an answer"), Some(stored(3)));
    balanced(&store, project).await;
}

pub async fn concurrent_redrives_and_a_writer_end_with_exact_counts(harness: &dyn Harness) {
    let (store, other) = (harness.store(), harness.another());
    let project = project(&store, "p").await;
    let now = now_ms();
    let dead: Vec<_> = (0..30_u128)
        .map(|seq| given_up(project, seq as u64, &events(now, seq * 10..seq * 10 + 12)))
        .collect();
    writer(&store).await.write(&dead).await.expect("written");
    let ids = ids(&store).await;
    let mut lane = writer(&other).await;
    let writing = async {
        for seq in 0..10_u128 {
            let again = events(now, seq * 30..seq * 30 + 10);
            lane.write(&[request(project, new_batch_id(), entry(now, 100 + seq as u64), &again)])
                .await
                .expect("written");
        }
    };
    let redriving = async |store: &SharedStore| {
        let (order, mut sum) = (order(), RedriveResult::default());
        for some in ids.chunks(7) {
            sum += store.redrive(&order, some).await.expect("redriven");
        }
        sum
    };
    let (mine, theirs, ()) = tokio::join!(redriving(&store), redriving(&other), writing);
    assert_eq!((mine.letters + theirs.letters, mine.refused + theirs.refused), (30, 0));
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.dead), (302, 0));
    assert_eq!(totals.stored + totals.duplicate, 30 * 12 + 10 * 10);
}

pub async fn settling_after_a_redrive_refunds_the_events_that_were_dead(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let requests = [
        request(project, new_batch_id(), entry(now, 0), &events(now, [1])),
        given_up(project, 1, &events(now, 1..=5)),
    ];
    let mut lane = writer(&store).await;
    lane.write(&requests).await.expect("written");
    assert_eq!(redrive(&store).await, redriven(1, 4, 1, 0));
    let again = lane.write(&requests[1..]).await.expect("written before");
    assert!(again[0].redelivered);
    let Outcome { stored, duplicate, dead, .. } = again[0].outcome;
    assert_eq!((stored, duplicate + dead), (0, 5), "all five events were charged and must be refunded");
}

pub async fn a_redrive_uses_up_no_quota_when_counters_are_rebuilt(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let requests = [
        request(project, new_batch_id(), entry(now, 0), &events(now, 1..=3)),
        given_up(project, 1, &events(now, 4..=8)),
    ];
    writer(&store).await.write(&requests).await.expect("written");
    redrive(&store).await;
    let counters = async |pending: &[PendingBatch]| {
        store.counters_for_rebuild(0, 1, pending).await.expect("counters").remove(0)
    };
    let settled = counters(&[]).await;
    assert_eq!((settled.accepted, settled.pending, settled.used), (8, 0, 3));
    let WriteRequest { entry: id, batch_id, project, count, .. } = requests[1];
    let pending = counters(&[PendingBatch { id, batch_id, project, count, bytes: 1 }]).await;
    assert_eq!(
        (pending.accepted, pending.pending, pending.used),
        (8, 5, 8),
        "five events are still to be refunded"
    );
}

pub async fn retention_counts_a_redriven_event_once(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let old = now_ms() - 5 * DAY_MS;
    let requests: Vec<_> = (0..2)
        .map(|seq| WriteRequest {
            entry: entry(old, seq),
            ..given_up(project, seq, &events(old, [seq.into()]))
        })
        .collect();
    writer(&store).await.write(&requests).await.expect("written");
    let ids = ids(&store).await;
    store.redrive(&order(), &ids[..1]).await.expect("redriven");
    // The ledger of that day is removed first. A letter can still be redriven.
    store
        .upkeep(&UpkeepPolicy { ledger_days: 2, ..keep_all() })
        .await
        .expect("upkeep")
        .expect("no other process does the upkeep");
    assert_eq!(store.redrive(&order(), &ids).await.expect("redriven"), redriven(1, 1, 0, 0));
    assert_eq!(balanced(&store, project).await.stored, 2);
    let policy = UpkeepPolicy { retention_days: Some(2), ledger_days: 2, ..keep_all() };
    store.upkeep(&policy).await.expect("upkeep").expect("no other process does the upkeep");
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.dead), (2, 0));
    assert!(harness.events(project).await.is_empty() && harness.letters(project).await.is_empty());
}
