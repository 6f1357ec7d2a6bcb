//! Rows that PostgreSQL rejects, as if the validator had accepted them by mistake.

use millrace_event::Outcome;

use super::harness;
use crate::suite::*;

const NUL: &str = r#"{"a":"\u0000"}"#;
const HUGE: &str = r#"{"a":1e132000}"#;
const BROKEN: &str = r#"{"a":"#;

fn invalid(ms: u64, id: u128, properties: &str) -> Event {
    Event { properties: Some(properties.to_owned()), ..event(at_ms(ms), id) }
}

#[tokio::test]
async fn a_rejected_row_becomes_a_dead_letter_and_the_others_are_stored() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let mut batch = events(now, 1..=20);
    batch[4] = invalid(now, 5, NUL);
    batch[11] = invalid(now, 12, HUGE);
    let healthy = request(project, new_batch_id(), entry(now, 0), &events(now, 101..=110));
    let mixed = request(project, new_batch_id(), entry(now, 1), &batch);
    let requests = [healthy, mixed.clone()];
    let mut lane = writer(&store).await;
    for redelivered in [false, true] {
        let written = lane.write(&requests).await.expect("written");
        assert_eq!(
            written.map_outcomes(),
            [stored(10), Outcome { stored: 18, duplicate: 0, dead: 2, conflict: 0 }]
        );
        assert!(written.iter().all(|written| written.redelivered == redelivered));
    }
    let letters = harness.letters(project).await;
    let facts: Vec<_> =
        letters.iter().map(|letter| (letter.event_index, letter.sqlstate.as_deref())).collect();
    assert_eq!(facts, [(Some(4), Some("22P05")), (Some(11), Some("22003"))]);
    for (letter, index) in letters.iter().zip([4, 11]) {
        assert_eq!((letter.batch_id, letter.event_count), (mixed.batch_id, 1));
        assert_eq!(letter.payload, row(project, &batch[index]));
        assert!(letter.reason.contains("column properties"), "{}", letter.reason);
    }
    assert_eq!(harness.events(project).await.len(), 28);
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.dead), (28, 2));
}

#[tokio::test]
async fn many_rejected_rows_among_duplicates_end_with_exact_counts() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let mut lane = writer(&store).await;
    let known = request(project, new_batch_id(), entry(now, 0), &events(now, (0..400).step_by(5)));
    lane.write(&[known]).await.expect("written");
    // Every fifth row is stored, every seventh is invalid. Those that are both must count as duplicates.
    let kinds = [NUL, HUGE, BROKEN];
    let batch: Vec<_> = (0..400_u128)
        .map(|id| match id {
            id if id % 7 == 0 => invalid(now, id, kinds[(id % 3) as usize]),
            id => event(at_ms(now), id),
        })
        .collect();
    let requests: Vec<_> = (0..4)
        .map(|at| {
            let part = &batch[at * 100..][..100];
            request(project, new_batch_id(), entry(now, 1 + at as u64), part)
        })
        .collect();
    // A process without the keys of the first write.
    let mut lane = writer(&harness.another()).await;
    let written = lane.write(&requests).await.expect("written");
    let totals = balanced(&store, project).await;
    let sum = |part: fn(&Outcome) -> u32| written.map_outcomes().iter().map(part).sum::<u32>();
    assert_eq!(sum(|o| o.stored) + sum(|o| o.duplicate) + sum(|o| o.dead), 400);
    // Of 58 invalid rows, 12 have a stored key: those are duplicates.
    assert_eq!((sum(|o| o.stored), sum(|o| o.duplicate), sum(|o| o.dead)), (274, 80, 46));
    assert_eq!((totals.stored, totals.duplicate, totals.dead), (80 + 274, 80, 46));
    assert_eq!(harness.letters(project).await.len(), 46);
    let again = lane.write(&requests).await.expect("written");
    assert_eq!(again.map_outcomes(), written.map_outcomes());
    assert_eq!(balanced(&store, project).await, totals);
}

#[tokio::test]
async fn an_error_never_repeats_the_contents_of_an_event() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let secret = invalid(now, 1, r#"{"password":"hunter2","a":"\u0000"}"#);
    let request = request(project, new_batch_id(), entry(now, 0), &[secret]);
    writer(&store).await.write(&[request]).await.expect("written");
    let letter = harness.letters(project).await.remove(0);
    assert!(!letter.reason.contains("hunter2"), "{}", letter.reason);
}
