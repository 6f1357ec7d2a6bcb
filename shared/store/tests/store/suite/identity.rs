//! Promises about events that their id alone identifies, in projects that chose so.

use millrace_event::Outcome;
use millrace_event::row::EventTime;

use super::redriving::{given_up, ids, order};
use super::*;

const HOUR_MS: u64 = 3_600_000;

/// A request of a new batch.
fn of(project: ProjectId, entry: EntryId, events: &[Event]) -> WriteRequest {
    request(project, new_batch_id(), entry, events)
}

async fn outcomes(store: &SharedStore, requests: &[WriteRequest]) -> Vec<Outcome> {
    writer(store).await.write(requests).await.expect("written").map_outcomes()
}

pub async fn an_event_that_its_id_identifies_is_stored_once_at_any_time(harness: &dyn Harness) {
    let store = harness.store();
    let (project, other) = (project(&store, "p").await, project(&store, "other").await);
    let now = now_ms();
    let at = |days: u64, id| event_by_id(at_ms(now - days * DAY_MS), id);
    let undated = |id| event_by_id(EventTime::Undated, id);
    let first = [
        of(project, entry(now, 0), &[at(0, 1), at(3, 1), at(400, 2), undated(1)]),
        of(project, entry(now, 1), &[undated(2), undated(3), at(1, 3)]),
    ];
    let mixed = |stored, duplicate| Outcome { stored, duplicate, ..Outcome::default() };
    assert_eq!(outcomes(&store, &first).await, [mixed(2, 2), mixed(1, 2)]);
    for (seq, store) in [(2, harness.store()), (3, harness.another())] {
        let again = of(project, entry(now, seq), &[at(seq, 1), at(seq, 2), undated(3), at(2, 3)]);
        assert_eq!(outcomes(&store, &[again]).await, [duplicate(4)]);
    }
    let elsewhere = of(other, entry(now, 4), &[at(0, 1), at(1, 2)]);
    assert_eq!(outcomes(&store, &[elsewhere]).await, [stored(2)]);
    let redelivered = writer(&harness.another()).await.write(&first).await.expect("written");
    assert!(redelivered.iter().all(|written| written.redelivered));
    let kept = harness.events(project).await;
    let expected = [now - 400 * DAY_MS, now, now].map(|ms| ms.cast_signed() * 1_000);
    assert_eq!(kept.iter().map(|event| event.timestamp_us).collect::<Vec<_>>(), expected);
    assert_eq!(balanced(&store, project).await.stored, 3);
}

pub async fn a_change_of_the_policy_stores_no_known_event_twice(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let (then, undated) = (at_ms(now - DAY_MS), EventTime::Undated);
    let mut seq = 0;
    let mut write = async |events: &[Event]| {
        seq += 1;
        let store = if seq % 2 == 0 { harness.store() } else { harness.another() };
        outcomes(&store, &[of(project, entry(now + seq, seq), events)]).await.remove(0)
    };
    // Before: by id and timestamp.
    assert_eq!(write(&[event(then, 1), event(undated, 2)]).await, stored(2));
    // Then by id: the same event again claims its id, so that it is known at any time from then on.
    assert_eq!(write(&[event_by_id(then, 1)]).await, duplicate(1));
    assert_eq!(write(&[event_by_id(at_ms(now), 1), event_by_id(undated, 1)]).await, duplicate(2));
    assert_eq!(write(&[event_by_id(then, 2), event_by_id(undated, 2)]).await, duplicate(2));
    assert_eq!(write(&[event_by_id(then, 3)]).await, stored(1));
    // And back: the key of the event is known, and its id without a time.
    assert_eq!(write(&[event(then, 3), event(undated, 3)]).await, duplicate(2));
    assert_eq!(write(&[event(at_ms(now), 3)]).await, stored(1));
    // The claim of the undated event was for two days. It is kept as long as the ledger now.
    let policy = UpkeepPolicy { ledger_days: 7, ..keep_all() };
    store.upkeep(&policy).await.expect("upkeep").expect("no other process does the upkeep");
    assert_eq!(harness.undated_ids().await, 3);
    assert_eq!(balanced(&store, project).await.stored, 4);
}

pub async fn a_claimed_id_leaves_room_for_an_event_with_the_same_time(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let claim = of(project, entry(now, 0), &[event_by_id(at_ms(now), 1)]);
    assert_eq!(outcomes(&store, &[claim]).await, [stored(1)]);
    // The first repeats the id, so it is not stored. The second, of before the change, is another event.
    let then = at_ms(now - DAY_MS);
    let requests = [
        of(project, entry(now, 1), &[event_by_id(then, 1)]),
        of(project, entry(now, 2), &[event(then, 1)]),
        of(project, entry(now, 3), &[event(at_ms(now - 2), 1), event_by_id(at_ms(now - 2), 1)]),
    ];
    let one_of_each = Outcome { stored: 1, duplicate: 1, ..Outcome::default() };
    assert_eq!(outcomes(&harness.another(), &requests).await, [duplicate(1), stored(1), one_of_each]);
    balanced(&store, project).await;
}

pub async fn ids_that_identify_events_are_kept_as_long_as_the_ledger(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    // The time of the event does not matter, only that of its receipt.
    let times = [now - 6 * DAY_MS, now - 50 * HOUR_MS, now];
    let mut requests: Vec<_> = (0..3)
        .map(|at| of(project, entry(times[at], 0), &[event_by_id(at_ms(now - 30 * DAY_MS), at as u128)]))
        .collect();
    requests.push(of(project, entry(times[1], 1), &[event(EventTime::Undated, 9)]));
    assert_eq!(outcomes(&store, &requests).await, [stored(1); 4]);
    for (ledger_days, oldest_pending_ms, kept) in
        [(7, Some(now - 3 * HOUR_MS), 4), (7, None, 3), (4, Some(times[0]), 3), (4, None, 2), (3, None, 2)]
    {
        let policy = UpkeepPolicy { ledger_days, oldest_pending_ms, ..keep_all() };
        store.upkeep(&policy).await.expect("upkeep").expect("no other process does the upkeep");
        assert_eq!(harness.undated_ids().await, kept, "{ledger_days} days, pending {oldest_pending_ms:?}");
    }
    let again = of(project, entry(now, 2), &[event_by_id(at_ms(now), 1), event_by_id(at_ms(now), 2)]);
    assert_eq!(outcomes(&store, &[again]).await, [duplicate(2)]);
}

pub async fn an_event_that_its_id_identifies_is_redriven_once(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let at = |days: u64, id| event_by_id(at_ms(now - days * DAY_MS), id);
    let requests = [
        given_up(project, 0, &[at(0, 1), at(1, 2)]),
        given_up(project, 1, &[at(2, 2), at(3, 3)]),
        of(project, entry(now, 2), &[at(4, 3)]),
    ];
    writer(&store).await.write(&requests).await.expect("written");
    let redriven = store.redrive(&order(), &ids(&store).await).await.expect("redriven");
    assert_eq!((redriven.stored, redriven.duplicate, redriven.refused), (2, 2, 0));
    let late = of(project, entry(now + 1, 3), &[at(5, 1), at(5, 2), at(5, 3)]);
    assert_eq!(outcomes(&harness.another(), &[late]).await, [duplicate(3)]);
    assert_eq!(balanced(&store, project).await.stored, 3);
}
