//! Promises about conflicts, and about what owners learn of dead events and conflicts.

use millrace_event::row::EventTime;
use millrace_store::UsageWindow;
use uuid::Uuid;

use super::letters::dead_entry;
use super::*;

const SAMPLES_MAX: usize = millrace_store::SAMPLES_KEPT as usize;

fn with(properties: &str, event: Event) -> Event {
    Event { properties: Some(properties.to_owned()), ..event }
}

pub async fn a_duplicate_with_another_payload_is_a_conflict(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let (dated, undated) = (event(at_ms(now), 1), event(EventTime::Undated, 2));
    let by_id = |days: u64| event_by_id(at_ms(now - days * DAY_MS), 3);
    let first = [
        with(r#"{"a":1,"b":["x"]}"#, dated.clone()),
        with(r#"{"a":1}"#, undated.clone()),
        with(r#"{"a":1}"#, by_id(0)),
        event(EventTime::Anonymous, 4),
    ];
    let batch_id = millrace_event::event::batch_id_of_key(project, "once");
    let mut lane = writer(&store).await;
    let first = request(project, batch_id, entry(now, 0), &first);
    assert_eq!(lane.write(&[first]).await.expect("written").map_outcomes(), [stored(4)]);
    // Another spelling is the same payload. Another batch id: an anonymous event never conflicts.
    let same = [
        with(r#"{ "b": ["\u0078"], "a": 1.0 }"#, dated.clone()),
        with(r#"{"a":10e-1}"#, undated.clone()),
        with(r#"{"a":1}"#, by_id(1)),
        Event { name: "other".to_owned(), ..event(EventTime::Anonymous, 4) },
    ];
    let same = request(project, batch_id, entry(now + 1, 0), &same);
    assert_eq!(lane.write(&[same]).await.expect("written").map_outcomes(), [duplicate(4)]);
    assert_eq!(harness.refusals(project).await, []);

    let other = [
        with(r#"{"a":2,"b":["x"]}"#, dated.clone()),
        Event { name: "other".to_owned(), ..undated.clone() },
        by_id(2),
        with(r#"{"a":1,"b":["x"]}"#, dated),
    ];
    let request = request(project, new_batch_id(), entry(now + 2, 0), &other);
    let outcome = Outcome { duplicate: 4, conflict: 3, ..Outcome::default() };
    for (redelivered, store) in [(false, harness.another()), (true, harness.store())] {
        let written = writer(&store).await.write(std::slice::from_ref(&request)).await.expect("written");
        assert_eq!(written, [WriteOutcome { outcome, redelivered }]);
    }
    assert_eq!(store.batch(project, request.batch_id).await.expect("an answer"), Some(outcome));
    assert_eq!(harness.conflicts(project).await, (3, 3));
    assert_eq!(harness.refusals(project).await, [("conflict".to_owned(), "conflict".to_owned(), 3)]);
    let samples = harness.samples(project).await;
    let mut messages: Vec<_> = samples.iter().map(|sample| sample.message.clone()).collect();
    messages.sort_unstable();
    let message =
        |id, fields| format!("event {} was stored before, and differs in {fields}", Uuid::from_u128(id));
    assert_eq!(
        messages,
        [message(1, "properties"), message(2, "name and properties"), message(3, "properties")]
    );
    let payloads: Vec<_> = samples
        .iter()
        .map(|sample| String::from_utf8(sample.payload.clone().expect("a payload")).expect("text"))
        .collect();
    assert!(payloads.iter().any(|json| json.contains(r#""properties":{"a":2,"b":["x"]}"#)), "{payloads:?}");
    let hour = Duration::from_secs(3_600);
    let day = time::OffsetDateTime::now_utc();
    let usage = store.usage(project, day - 25 * hour, day + hour, UsageWindow::Month).await.expect("usage");
    assert_eq!(
        usage.iter().map(|row| (row.duplicates, row.conflicts)).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1)),
        (8, 3)
    );
    balanced(&store, project).await;
}

pub async fn a_conflict_is_found_by_a_redrive(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let by_id = |days: u64, id| event_by_id(at_ms(now - days * DAY_MS), id);
    let stored = [event(at_ms(now), 1), event(at_ms(now), 2), by_id(0, 3), by_id(0, 4)];
    let dead = [
        event(at_ms(now), 1),
        with("{}", event(at_ms(now), 2)),
        with("{}", by_id(1, 3)),
        by_id(1, 4),
        event(at_ms(now), 5),
    ];
    let requests = [
        request(project, new_batch_id(), entry(now, 0), &stored),
        super::redriving::given_up(project, 1, &dead),
    ];
    writer(&store).await.write(&requests).await.expect("written");
    let redriven = super::redriving::redrive(&store).await;
    assert_eq!((redriven.stored, redriven.duplicate, redriven.refused), (1, 4, 0));
    let outcome = Outcome { stored: 1, duplicate: 4, conflict: 2, ..Outcome::default() };
    assert_eq!(store.batch(project, requests[1].batch_id).await.expect("an answer"), Some(outcome));
    assert_eq!(harness.conflicts(project).await, (2, 2));
    let conflict = ("conflict".to_owned(), "conflict".to_owned(), 2);
    assert!(harness.refusals(project).await.contains(&conflict));
    balanced(&store, project).await;
}

pub async fn a_conflict_is_found_within_one_write(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let at = |days: u64, id, properties: &str| with(properties, event_by_id(at_ms(now - days * DAY_MS), id));
    let requests = [
        request(
            project,
            new_batch_id(),
            entry(now, 0),
            &[at(0, 1, "{}"), at(1, 1, "{}"), at(2, 1, r#"{"a":1}"#)],
        ),
        request(project, new_batch_id(), entry(now, 1), &[at(3, 1, r#"{"a":2}"#), at(0, 1, "{ }")]),
        request(
            project,
            new_batch_id(),
            entry(now, 2),
            &[event(at_ms(now), 7), with("{}", event(at_ms(now), 7)), event(at_ms(now), 7)],
        ),
    ];
    let written = writer(&store).await.write(&requests).await.expect("written").map_outcomes();
    let expected = [
        Outcome { stored: 1, duplicate: 2, conflict: 1, ..Outcome::default() },
        Outcome { duplicate: 2, conflict: 1, ..Outcome::default() },
        Outcome { stored: 1, duplicate: 2, conflict: 1, ..Outcome::default() },
    ];
    assert_eq!(written, expected);
    assert_eq!(harness.conflicts(project).await, (3, 3));
    balanced(&store, project).await;
}

pub async fn dead_events_are_counted_by_reason_and_sampled(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let mut not_text = row(project, &event(at_ms(now), 1));
    let name = not_text.windows(10).position(|part| part == b"thing_done").expect("its name");
    not_text[name] = 0xff;
    let long = vec![b'x'; 10_000];
    let rows = [
        call_row(project, "invalid_type", b"{\"type\":\"trakc\"}"),
        not_text,
        row(project, &event(at_ms(now), 2)),
        call_row(project, "too_deep", &long),
        call_row(project, "invalid_type", b"{}"),
    ];
    let requests = [
        request_of_rows(project, entry(now, 0), &rows),
        dead_entry(project, 1, 7, "it does not decompress", b"\0\xff"),
        dead_entry(ProjectId(0), 2, 1, "nothing can be read", b"\0\xff"),
    ];
    let mut lane = writer(&store).await;
    for redelivered in [false, true] {
        let written = lane.write(&requests).await.expect("written");
        assert!(written.iter().all(|written| written.redelivered == redelivered));
        assert_eq!((written[0].outcome.stored, written[0].outcome.dead), (1, 4));
    }
    let count = |code: &str, count| ("dead".to_owned(), code.to_owned(), count);
    let expected =
        [count("22021", 1), count("damaged_entry", 7), count("invalid_type", 2), count("too_deep", 1)];
    assert_eq!(harness.refusals(project).await, expected);
    assert_eq!(harness.refusals(ProjectId(0)).await, [count("damaged_entry", 1)]);
    let samples = harness.samples(project).await;
    let of = |code: &str| samples.iter().filter(|sample| sample.code == code).collect::<Vec<_>>();
    assert_eq!((samples.len(), of("invalid_type").len()), (5, 2));
    assert!(samples.iter().all(|sample| sample.kind == "dead"));
    assert_eq!(of("invalid_type")[0].message, "the type is unknown");
    assert_eq!(of("invalid_type")[0].payload.as_deref(), Some(&b"{\"type\":\"trakc\"}"[..]));
    assert_eq!(of("too_deep")[0].payload.as_deref(), Some(&long[..4_096]));
    assert_eq!(of("damaged_entry")[0].payload, None);
    assert!(of("22021")[0].payload.is_some());
    let totals = balanced(&store, project).await;
    assert_eq!(totals.dead, 11, "as many as were counted");

    // A redrive does not refuse an event that was refused before.
    super::redriving::redrive(&store).await;
    assert_eq!(harness.refusals(project).await, expected);
}

pub async fn samples_of_a_project_are_bounded(harness: &dyn Harness) {
    let store = harness.store();
    let (project, other) = (project(&store, "p").await, project(&store, "other").await);
    let now = now_ms();
    let calls = |project, count: usize, first: usize| -> Vec<_> {
        (first..first + count)
            .map(|at| call_row(project, "too_deep", format!("call {at}").as_bytes()))
            .collect()
    };
    let mut lane = writer(&store).await;
    lane.write(&[request_of_rows(other, entry(now, 0), &calls(other, 3, 0))]).await.expect("written");
    for (seq, calls) in [calls(project, 10_000, 0), calls(project, 30, 10_000)].iter().enumerate() {
        let request = request_of_rows(project, entry(now, 1 + seq as u64), calls);
        lane.write(&[request]).await.expect("written");
        let samples = harness.samples(project).await;
        let last = samples.last().and_then(|sample| sample.payload.clone());
        assert_eq!(
            (samples.len(), last),
            (SAMPLES_MAX, Some(format!("call {}", 9_999 + seq * 30).into_bytes()))
        );
    }
    store.upkeep(&keep_all()).await.expect("upkeep").expect("no other process does the upkeep");
    assert_eq!((harness.samples(project).await.len(), harness.samples(other).await.len()), (SAMPLES_MAX, 3));
    assert_eq!(harness.refusals(project).await, [("dead".to_owned(), "too_deep".to_owned(), 10_030)]);
    assert_eq!(balanced(&store, project).await.dead, 10_030);
}
