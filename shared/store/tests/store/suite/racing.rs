//! Promises about concurrent writers, as lanes of several processes.

use millrace_event::row::EventTime;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use tokio::task::JoinSet;

use super::*;

const LANES: usize = 3;
const ROUNDS: u64 = 25;

/// The entries of one round. Each goes to one lane or, as after a takeover, to two.
struct Deal {
    lanes: Vec<Vec<WriteRequest>>,
    accepted: u64,
}

fn deal(random: &mut impl Rng, project: ProjectId, round: u64, make: &impl Fn(u128) -> Event) -> Deal {
    let mut deal = Deal { lanes: vec![Vec::new(); LANES], accepted: 0 };
    let pool: Vec<u128> = (0..60).map(|id| u128::from(round / 2) << 32 | id).collect();
    for seq in 0..random.random_range(2..9) {
        let ids: Vec<_> = pool.sample(random, 20).copied().collect();
        let batch: Vec<_> = ids.iter().map(|&id| make(id)).collect();
        // Undated events are received on both sides of a midnight.
        let midnight = now_ms() / DAY_MS * DAY_MS;
        let request = request(project, new_batch_id(), entry(midnight - 4 + seq, round), &batch);
        deal.accepted += u64::from(request.count);
        let lane = random.random_range(0..LANES);
        deal.lanes[lane].push(request.clone());
        if random.random_bool(0.3) {
            deal.lanes[(lane + 1) % LANES].push(request);
        }
    }
    deal
}

async fn race(harness: &dyn Harness, make: impl Fn(u128) -> Event) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut writers = Vec::new();
    for lane in 0..LANES {
        let store = if lane == 0 { harness.store() } else { harness.another() };
        writers.push(writer(&store).await);
    }
    let (mut accepted, mut distinct) = (0, std::collections::HashSet::new());
    for round in 0..ROUNDS {
        let deal = deal(&mut random, project, round, &make);
        accepted += deal.accepted;
        let rows = |request: &WriteRequest| match &request.payload {
            Payload::Rows(rows) => rows.clone(),
            Payload::DeadLetter { .. } => unreachable!("every request has rows"),
        };
        for request in deal.lanes.iter().flatten() {
            distinct.extend(
                millrace_event::row::split(&rows(request))
                    .map(|row| millrace_event::row::event_id(row.expect("a row"))),
            );
        }
        let mut lanes = JoinSet::new();
        for (mut writer, requests) in writers.drain(..).zip(deal.lanes) {
            lanes.spawn(async move {
                writer.write(&requests).await.expect("written");
                writer
            });
        }
        writers = lanes.join_all().await;
    }
    let totals = balanced(&store, project).await;
    assert_eq!(totals.stored, distinct.len() as u64, "seed {seed}");
    assert_eq!(totals.stored + totals.duplicate, accepted, "seed {seed}");
    assert!(totals.duplicate > totals.stored, "the lanes had too few events in common: seed {seed}");
}

pub async fn racing_writers_with_overlapping_batches_end_with_exact_counts(harness: &dyn Harness) {
    let now = now_ms();
    race(harness, |id| event(at_ms(now), id)).await;
}

pub async fn racing_writers_of_undated_events_end_with_exact_counts(harness: &dyn Harness) {
    race(harness, |id| event(EventTime::Undated, id)).await;
}

pub async fn racing_writers_of_events_with_one_id_and_many_times_end_with_exact_counts(
    harness: &dyn Harness,
) {
    let now = now_ms();
    race(harness, |id| {
        let time = match rand::random_range(0..4) {
            0 => EventTime::Undated,
            days => at_ms(now - days * DAY_MS),
        };
        event_by_id(time, id)
    })
    .await;
}
