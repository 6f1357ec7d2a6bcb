//! Promises about entries of several batches, which are written in any parts.

use std::ops::Range;

use millrace_event::entry::BATCHES_MAX;
use millrace_event::event::batch_id_of_key;
use millrace_event::{AcknowledgedBatch, BatchGroup, BatchId, PendingBatch};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use super::*;

const ROUNDS: u64 = 12;
/// Events in a batch.
const EVENTS: u128 = 4;

/// The ids of the batches of an entry: most of them of one or two groups, in any order, and some with a key
/// of the client.
fn batch_ids(random: &mut impl Rng, project: ProjectId, round: u64) -> Vec<BatchId> {
    let mut groups = [random.random(), random.random()].map(|bits| BatchGroup::first(now_ms() * 1_000, bits));
    (0..random.random_range(1..=BATCHES_MAX))
        .map(|at| match random.random_range(0..10) {
            0 => batch_id_of_key(project, &format!("{round} {at}")),
            other => {
                let group = &mut groups[usize::from(other == 1)];
                // Not all batches of a group are in one entry.
                let skipped = random.random_range(1..4);
                *group =
                    std::iter::successors(Some(*group), |group| group.next()).nth(skipped).expect("a place");
                group.batch_id()
            }
        })
        .collect()
}

/// An entry with a batch for each id. The batches belong to the projects in turn. Each repeats some events of
/// the batch of its project before it, and every fifth is dead.
fn entry_of(projects: &[ProjectId], round: u64, ids: &[BatchId]) -> Vec<WriteRequest> {
    let now = now_ms();
    let made = |(at, &batch_id): (usize, &BatchId)| {
        let first = u128::from(round) << 64 | at as u128;
        let project = projects[at % projects.len()];
        let made = request(project, batch_id, entry(now, round), &events(now, first..first + EVENTS));
        match at % 5 {
            4 => redriving::given_up_as(&made),
            _ => made,
        }
    };
    ids.iter().enumerate().map(made).collect()
}

/// Ranges of batches that are written together, which cover the entry in its order. Some overlap, as after a
/// lane that did not end well.
fn parts(random: &mut impl Rng, batches: usize) -> Vec<Range<usize>> {
    let (mut parts, mut written) = (Vec::new(), 0);
    while written < batches {
        let end = random.random_range(written + 1..=batches);
        parts.push(written - random.random_range(0..=written.min(5))..end);
        written = end;
    }
    parts
}

pub async fn a_batch_is_written_once_in_any_parts_of_its_entry(harness: &dyn Harness) {
    let store = harness.store();
    let projects = [project(&store, "one").await, project(&store, "two").await];
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut lanes = [writer(&store).await, writer(&harness.another()).await];
    let mut accepted = 0;
    for round in 0..ROUNDS {
        let ids = batch_ids(&mut random, projects[0], round);
        let requests = entry_of(&projects, round, &ids);
        accepted += requests.iter().map(|request| u64::from(request.count)).sum::<u64>();
        let mut first: Vec<Option<Outcome>> = vec![None; requests.len()];
        // Delivered several times, each time in other parts.
        for _ in 0..3 {
            for part in parts(&mut random, requests.len()) {
                let lane = &mut lanes[random.random_range(0..2)];
                let outcomes = lane.write(&requests[part.clone()]).await.expect("written");
                for (at, written) in part.zip(outcomes) {
                    let before = first[at].replace(written.outcome);
                    assert_eq!(
                        written.redelivered,
                        before.is_some(),
                        "batch {at} of round {round}, seed {seed}"
                    );
                    assert!(before.is_none_or(|before| before == written.outcome), "seed {seed}");
                }
            }
        }
        for (request, outcome) in requests.iter().zip(&first) {
            let found = store.batch(request.project, request.batch_id).await.expect("an answer");
            assert_eq!(found, *outcome, "round {round}, seed {seed}");
        }
        assert_is_in_ledger(&store, &requests, &first).await;
    }
    let mut counted = 0;
    for project in projects {
        let totals = balanced(&store, project).await;
        counted += totals.stored + totals.duplicate + totals.dead;
    }
    assert_eq!(counted, accepted, "seed {seed}");
}

/// Nothing of these batches is lost, and a rebuild counts them once.
async fn assert_is_in_ledger(store: &SharedStore, requests: &[WriteRequest], outcomes: &[Option<Outcome>]) {
    let acknowledged = requests.iter().map(|request| {
        let WriteRequest { entry: id, batch_id, project, count, .. } = *request;
        AcknowledgedBatch { id, batch_id, project, count }
    });
    let lost = store.not_in_ledger(&acknowledged.collect::<Vec<_>>()).await.expect("an answer");
    assert_eq!(lost, []);
    let pending = requests.iter().map(|request| {
        let WriteRequest { entry: id, batch_id, project, count, .. } = *request;
        PendingBatch { id, batch_id, project, count, bytes: 1 }
    });
    let pending: Vec<_> = pending.collect();
    let none = store.counters_for_rebuild(0, 1, &[]).await.expect("counters");
    let counters = store.counters_for_rebuild(0, 1, &pending).await.expect("counters");
    for (counter, none) in counters.iter().zip(none) {
        let of_project =
            requests.iter().zip(outcomes).filter(|(request, _)| request.project == counter.project);
        let refunds = of_project.map(|(_, outcome)| outcome.expect("written"));
        let refunds: u64 = refunds.map(|outcome| u64::from(outcome.duplicate + outcome.dead)).sum();
        assert_eq!((counter.accepted, counter.used), (none.accepted, none.used + refunds));
    }
}

pub async fn racing_lanes_with_parts_of_an_entry_end_with_exact_counts(harness: &dyn Harness) {
    let store = harness.store();
    let projects = [project(&store, "one").await, project(&store, "two").await];
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut accepted = 0;
    for round in 0..ROUNDS {
        let ids = batch_ids(&mut random, projects[0], round);
        let requests = entry_of(&projects, round, &ids);
        accepted += requests.iter().map(|request| u64::from(request.count)).sum::<u64>();
        let mut lanes = tokio::task::JoinSet::new();
        for _ in 0..3 {
            let (mut lane, requests) = (writer(&harness.another()).await, requests.clone());
            let parts = parts(&mut random, requests.len());
            lanes.spawn(async move {
                for part in parts {
                    lane.write(&requests[part]).await.expect("written");
                }
            });
        }
        lanes.join_all().await;
    }
    let mut counted = 0;
    for project in projects {
        let totals = balanced(&store, project).await;
        counted += totals.stored + totals.duplicate + totals.dead;
    }
    assert_eq!(counted, accepted, "seed {seed}");
}

pub async fn dead_batches_of_an_entry_are_redriven_one_by_one(harness: &dyn Harness) {
    let store = harness.store();
    let projects = [project(&store, "one").await, project(&store, "two").await];
    let group = BatchGroup::first(now_ms() * 1_000, rand::random());
    let places = std::iter::successors(Some(group), |group| group.next());
    let ids: Vec<_> = places.take(20).map(BatchGroup::batch_id).collect();
    let requests = entry_of(&projects, 1, &ids);
    let mut lane = writer(&store).await;
    // The last four batches are not in the row of the others.
    lane.write(&requests[..16]).await.expect("written");
    lane.write(&requests[16..]).await.expect("written");
    let letters = redriving::dead(&store).await;
    assert_eq!(letters.len(), 4);
    for (done, letter) in letters.iter().enumerate() {
        store.redrive(&redriving::order(), &[letter.id]).await.expect("redriven");
        for project in projects {
            balanced(&store, project).await;
        }
        for (at, letter) in letters.iter().enumerate() {
            let outcome = store.batch(letter.project, letter.batch_id).await.expect("an answer");
            let dead = if at <= done { 0 } else { EVENTS as u32 };
            assert_eq!(outcome.map(|outcome| outcome.dead), Some(dead), "letter {at} after {done}");
        }
    }
    // A late settlement refunds the events that were dead when the entry was written.
    for (written, request) in lane.write(&requests).await.expect("written before").iter().zip(&requests) {
        let is_dead = matches!(request.payload, Payload::DeadLetter { .. });
        assert!(written.redelivered && (!is_dead || written.outcome.stored == 0), "{written:?}");
    }
}
