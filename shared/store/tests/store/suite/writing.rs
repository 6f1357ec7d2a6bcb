//! Promises about one writer at a time.

use millrace_event::Outcome;
use millrace_event::plan::ProjectId;
use millrace_event::row::{EventTime, Row};
use millrace_store::{LedgerSums, Payload, WriteRequest};
use serde_json::json;
use uuid::Uuid;

use super::*;

pub async fn accepted_rows_come_back_equal(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let (now, v4) = (now_ms(), Uuid::from_u128(0x1111));
    let properties = r#"{"ü": [1, 2.50, -3e10, "a\"b"], "nested": {"deep": [[null, true]]}}"#;
    let mut rows = Vec::new();
    let full = Row {
        project,
        time: at_ms(now - 5),
        event_id: v4,
        by_id: false,
        name: "naïve 名前",
        subject: Some("user-1"),
        client_id: Some("order:7"),
        properties: Some(properties.as_bytes()),
        context: Some(b"{}"),
    };
    full.write(&mut rows);
    let bare = Row {
        time: EventTime::Anonymous,
        event_id: Uuid::from_u128(0x2222),
        subject: None,
        client_id: None,
        properties: None,
        context: None,
        ..full
    };
    bare.write(&mut rows);
    let (batch_id, payload) = (new_batch_id(), Payload::Rows(rows.into()));
    let request = WriteRequest { entry: entry(now, 3), shard: 0, batch_id, project, count: 2, payload };
    let written = writer(&store).await.write(&[request]).await.expect("written");
    assert_eq!(written, [WriteOutcome { outcome: stored(2), redelivered: false }]);

    let received_us = now.cast_signed() * 1_000;
    let expected = StoredEvent {
        timestamp_us: received_us - 5_000,
        event_id: v4,
        received_us,
        name: "naïve 名前".to_owned(),
        subject: Some("user-1".to_owned()),
        client_id: Some("order:7".to_owned()),
        properties: Some(
            json!({"ü": [1, 2.50, -30_000_000_000_i64, "a\"b"], "nested": {"deep": [[null, true]]}}),
        ),
        context: Some(json!({})),
    };
    let bare = StoredEvent {
        timestamp_us: received_us,
        event_id: Uuid::from_u128(0x2222),
        subject: None,
        client_id: None,
        properties: None,
        context: None,
        ..expected.clone()
    };
    assert_eq!(harness.events(project).await, [expected, bare]);
    assert_eq!(balanced(&store, project).await.stored_this_month, 2);
}

pub async fn the_last_of_equal_member_names_is_stored(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let row = Row {
        project,
        time: EventTime::Anonymous,
        event_id: Uuid::from_u128(1),
        by_id: false,
        name: "n",
        subject: None,
        client_id: None,
        properties: Some(br#"{"a":1,"a":2,"b":{"c":[{"x":1,"x":2}]},"\u0061":3}"#),
        context: Some(br#"{"ip":"batch","os":"x","ip":"call"}"#),
    };
    let mut rows = Vec::new();
    row.write(&mut rows);
    let (batch_id, payload) = (new_batch_id(), Payload::Rows(rows.into()));
    let request = WriteRequest { entry: entry(now, 0), shard: 0, batch_id, project, count: 1, payload };
    writer(&store).await.write(&[request]).await.expect("written");
    let stored = harness.events(project).await;
    assert_eq!(stored[0].properties, Some(json!({"a": 3, "b": {"c": [{"x": 2}]}})));
    assert_eq!(stored[0].context, Some(json!({"ip": "call", "os": "x"})));
}

pub async fn an_entry_written_twice_changes_nothing(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let first = request(project, new_batch_id(), entry(now, 0), &events(now, 1..=3));
    let second = request(project, new_batch_id(), entry(now, 1), &events(now, 3..=5));
    let mut lane = writer(&store).await;
    lane.write(std::slice::from_ref(&first)).await.expect("written");

    let written = lane.write(&[first.clone(), second.clone()]).await.expect("written");
    let mixed = Outcome { stored: 2, duplicate: 1, dead: 0, conflict: 0 };
    let expected = [
        WriteOutcome { outcome: stored(3), redelivered: true },
        WriteOutcome { outcome: mixed, redelivered: false },
    ];
    assert_eq!(written, expected);

    let written = writer(&harness.another()).await.write(&[second, first]).await.expect("written");
    let expected = [
        WriteOutcome { outcome: mixed, redelivered: true },
        WriteOutcome { outcome: stored(3), redelivered: true },
    ];
    assert_eq!(written, expected);
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.duplicate, totals.dead), (5, 1, 0));
    assert_eq!(totals.ledger, LedgerSums { stored: 5, duplicate: 1, dead: 0 });
}

pub async fn an_entry_that_is_twice_in_one_write_is_written_once(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let request = request(project, new_batch_id(), entry(now, 0), &events(now, 1..=3));
    let written = writer(&store).await.write(&[request.clone(), request]).await.expect("written");
    assert_eq!(written.map_outcomes(), [stored(3), stored(3)]);
    assert_eq!([written[0].redelivered, written[1].redelivered], [false, true]);
    assert_eq!(balanced(&store, project).await.stored, 3);
}

pub async fn an_event_of_two_batches_is_stored_once(harness: &dyn Harness) {
    let store = harness.store();
    let (one, other) = (project(&store, "one").await, project(&store, "other").await);
    let now = now_ms();
    let batch = |project, seq, ids| request(project, new_batch_id(), entry(now, seq), &events(now, ids));
    let mut lane = writer(&store).await;
    let first = lane.write(&[batch(one, 0, 1..=10), batch(one, 1, 6..=15)]).await.expect("written");
    assert_eq!(first.map_outcomes(), [stored(10), Outcome { stored: 5, duplicate: 5, dead: 0, conflict: 0 }]);
    // Two writers of other processes, and another project with the same ids.
    for seq in [2, 3] {
        let mut fresh = writer(&harness.another()).await;
        let again = fresh.write(&[batch(one, seq, 1..=15)]).await.expect("written");
        assert_eq!(again.map_outcomes(), [duplicate(15)]);
    }
    let elsewhere = lane.write(&[batch(other, 4, 1..=15)]).await.expect("written");
    assert_eq!(elsewhere.map_outcomes(), [stored(15)]);
    assert_eq!(harness.events(one).await.len(), 15);
    assert_eq!(balanced(&store, one).await.duplicate, 35);
}

pub async fn an_event_that_repeats_within_a_batch_is_stored_once(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let mut batch = events(now, [1, 2, 1, 1]);
    batch[0].name = "the first wins".to_owned();
    let request = request(project, new_batch_id(), entry(now, 0), &batch);
    let written = writer(&store).await.write(&[request]).await.expect("written");
    assert_eq!(written.map_outcomes(), [Outcome { stored: 2, duplicate: 2, dead: 0, conflict: 2 }]);
    assert_eq!(harness.events(project).await[0].name, "the first wins");
    balanced(&store, project).await;
}

pub async fn a_damaged_entry_becomes_one_dead_letter(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let payload =
        Payload::DeadLetter { reason: "it does not decompress".to_owned(), raw: vec![0, 159, 255].into() };
    let damaged =
        WriteRequest { payload, ..request(project, new_batch_id(), entry(now, 0), &events(now, 1..=7)) };
    let unknown = WriteRequest {
        project: ProjectId(0),
        batch_id: new_batch_id(),
        entry: entry(now, 1),
        ..damaged.clone()
    };
    let good = request(project, new_batch_id(), entry(now, 2), &events(now, 1..=2));
    let all = [damaged, unknown, good];
    let mut lane = writer(&store).await;
    let dead = Outcome { dead: 7, ..Outcome::default() };
    for redelivered in [false, true] {
        let written = lane.write(&all).await.expect("written");
        assert_eq!(written.map_outcomes(), [dead, dead, stored(2)]);
        assert!(written.iter().all(|written| written.redelivered == redelivered));
    }
    let expected = StoredLetter {
        batch_id: all[0].batch_id,
        event_index: None,
        event_count: 7,
        sqlstate: None,
        code: None,
        reason: "it does not decompress".to_owned(),
        payload: vec![0, 159, 255],
    };
    assert_eq!(harness.letters(project).await, [expected]);
    assert_eq!(harness.letters(ProjectId(0)).await.len(), 1);
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.dead), (2, 7));
}

pub async fn a_call_that_is_no_event_becomes_a_dead_letter(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let (now, batch_id) = (now_ms(), millrace_event::event::batch_id_of_key(project, "once"));
    let rows = [
        call_row(project, "invalid_type", b"{\"type\":\"trakc\xff\0\"}"),
        row(project, &event(at_ms(now), 1)),
        call_row(project, "too_deep", b"[[["),
        row(project, &event(EventTime::Anonymous, 2)),
    ];
    let first = WriteRequest { batch_id, ..request_of_rows(project, entry(now, 0), &rows) };
    let outcome = Outcome { stored: 2, dead: 2, ..Outcome::default() };
    for (redelivered, store) in [(false, harness.store()), (true, harness.another())] {
        let written = writer(&store).await.write(std::slice::from_ref(&first)).await.expect("written");
        assert_eq!(written, [WriteOutcome { outcome, redelivered }]);
    }
    let letter = |index, code: &str, payload: &[u8]| StoredLetter {
        batch_id,
        event_index: Some(index),
        event_count: 1,
        sqlstate: None,
        code: Some(code.to_owned()),
        reason: "the type is unknown".to_owned(),
        payload: payload.to_vec(),
    };
    let expected = [letter(0, "invalid_type", b"{\"type\":\"trakc\xff\0\"}"), letter(2, "too_deep", b"[[[")];
    assert_eq!(harness.letters(project).await, expected);
    // The client used its key again, after the stream had forgotten it.
    let again = WriteRequest { entry: entry(now + 1, 0), ..first };
    let written = writer(&store).await.write(&[again]).await.expect("written");
    assert_eq!(written.map_outcomes(), [duplicate(4)]);
    assert_eq!(harness.letters(project).await, expected);
    assert_eq!(store.batch(project, batch_id).await.expect("an answer"), Some(outcome));
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.duplicate, totals.dead), (2, 4, 2));
}

pub async fn only_its_own_project_sees_the_outcome_of_a_batch(harness: &dyn Harness) {
    let store = harness.store();
    let (mine, other) = (project(&store, "mine").await, project(&store, "other").await);
    let (now, batch_id) = (now_ms(), new_batch_id());
    assert_eq!(store.batch(mine, batch_id).await.expect("an answer"), None);
    let request = request(mine, batch_id, entry(now, 0), &events(now, [1, 2, 2]));
    writer(&store).await.write(&[request]).await.expect("written");
    let outcome = Outcome { stored: 2, duplicate: 1, dead: 0, conflict: 0 };
    assert_eq!(store.batch(mine, batch_id).await.expect("an answer"), Some(outcome));
    assert_eq!(store.batch(other, batch_id).await.expect("an answer"), None);
}

pub async fn a_batch_that_is_accepted_again_changes_nothing(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let (now, batch_id) = (now_ms(), millrace_event::event::batch_id_of_key(project, "once"));
    // Only their batch identifies events without id and time.
    let batch = [event(EventTime::Anonymous, 1), event(EventTime::Anonymous, 2)];
    let first = request(project, batch_id, entry(now - DAY_MS, 0), &batch);
    let second = request(project, batch_id, entry(now - 5, 0), &batch);
    let third = request(project, batch_id, entry(now, 0), &batch);
    let mut lane = writer(&store).await;
    let written = lane.write(std::slice::from_ref(&first)).await.expect("written");
    assert_eq!(written.map_outcomes(), [stored(2)]);
    for redelivered in [false, true] {
        let written = lane.write(&[second.clone(), third.clone()]).await.expect("written");
        assert_eq!(written, [WriteOutcome { outcome: duplicate(2), redelivered }; 2]);
    }
    let written = lane.write(&[first]).await.expect("written");
    assert_eq!(written, [WriteOutcome { outcome: stored(2), redelivered: true }]);
    assert_eq!(harness.events(project).await.len(), 2);
    assert_eq!(store.batch(project, batch_id).await.expect("an answer"), Some(stored(2)));
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.duplicate), (2, 4));
}

pub async fn a_reused_key_loses_no_event_with_its_own_id_or_time(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let (now, batch_id) = (now_ms(), millrace_event::event::batch_id_of_key(project, "used twice"));
    let first = request(project, batch_id, entry(now - DAY_MS, 0), &events(now, [1, 2]));
    let undated = [event(EventTime::Undated, 7), event(EventTime::Anonymous, 8)];
    let other = [events(now, [2, 3]), undated.to_vec()].concat();
    let second = request(project, batch_id, entry(now, 0), &other);
    let mut lane = writer(&store).await;
    assert_eq!(lane.write(&[first]).await.expect("written").map_outcomes(), [stored(2)]);
    let expected = Outcome { stored: 2, duplicate: 2, dead: 0, conflict: 0 };
    for redelivered in [false, true] {
        let written = lane.write(std::slice::from_ref(&second)).await.expect("written");
        assert_eq!(written, [WriteOutcome { outcome: expected, redelivered }]);
    }
    assert_eq!(harness.events(project).await.len(), 4);
    balanced(&store, project).await;
}

pub async fn a_dead_entry_may_have_any_count(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let payload = Payload::DeadLetter { reason: "absurd".to_owned(), raw: Vec::new().into() };
    let absurd = WriteRequest {
        count: u32::MAX,
        payload,
        ..request(project, new_batch_id(), entry(now_ms(), 0), &[])
    };
    let written = writer(&store).await.write(&[absurd]).await.expect("written");
    assert_eq!(written[0].outcome.dead, u32::MAX);
    balanced(&store, project).await;
}

pub async fn an_undated_event_is_recognized_across_midnight(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let midnight = now_ms() / DAY_MS * DAY_MS;
    let batch = |ms, ids: [u128; 2]| {
        let undated = ids.map(|id| event(EventTime::Undated, id));
        request(project, new_batch_id(), entry(ms, 0), &undated)
    };
    let mut lane = writer(&store).await;
    let before = lane.write(&[batch(midnight - 1, [1, 2])]).await.expect("written");
    assert_eq!(before.map_outcomes(), [stored(2)]);
    for (ms, store) in [(midnight, harness.store()), (midnight + 1, harness.another())] {
        let after = writer(&store).await.write(&[batch(ms, [2, 1])]).await.expect("written");
        assert_eq!(after.map_outcomes(), [duplicate(2)]);
    }
    let after = lane.write(&[batch(midnight + 2, [2, 3])]).await.expect("written");
    assert_eq!(after.map_outcomes(), [Outcome { stored: 1, duplicate: 1, dead: 0, conflict: 0 }]);
    assert_eq!(harness.events(project).await.len(), 3);
    balanced(&store, project).await;
}

pub async fn an_undated_event_that_repeats_within_one_write_is_stored_once(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let batch = |seq, ids: &[u128]| {
        let undated: Vec<_> = ids.iter().map(|&id| event(EventTime::Undated, id)).collect();
        request(project, new_batch_id(), entry(now + seq, seq), &undated)
    };
    let requests = [batch(0, &[7, 7, 8]), batch(1, &[8, 9])];
    let written = writer(&store).await.write(&requests).await.expect("written");
    let one_of_each = |stored| Outcome { stored, duplicate: 1, ..Outcome::default() };
    assert_eq!(written.map_outcomes(), [one_of_each(2), one_of_each(1)]);
    balanced(&store, project).await;
}

pub async fn events_of_any_time_are_stored(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let times = [0, now - 400 * DAY_MS, now - 3 * DAY_MS, now, now + DAY_MS, now + 90 * DAY_MS];
    let batch: Vec<_> = times.iter().map(|&ms| event(at_ms(ms), 1)).collect();
    let mut lane = writer(&store).await;
    for (seq, outcome) in [(0, stored(6)), (1, duplicate(6))] {
        let request = request(project, new_batch_id(), entry(now, seq), &batch);
        let written = lane.write(&[request]).await.expect("written");
        assert_eq!(written.map_outcomes(), [outcome]);
    }
    let kept: Vec<_> = harness.events(project).await.iter().map(|event| event.timestamp_us).collect();
    assert_eq!(kept, times.map(|ms| ms.cast_signed() * 1_000));
    balanced(&store, project).await;
}
