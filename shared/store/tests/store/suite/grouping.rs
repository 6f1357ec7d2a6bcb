//! A model of the store: what becomes of entries when each is written alone, after the entries before it. The
//! outcome must be the same however entries are grouped into transactions.

use std::collections::{HashMap, HashSet};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};
use uuid::Uuid;

use super::*;

const ROUNDS: usize = 12;
const ENTRIES: u64 = 40;

/// A row of an entry, for the store and for the model.
#[derive(Clone, Debug)]
enum ModelRow {
    Event(Event),
    /// It cannot be stored, because its name is not text.
    NotText(u128),
    Call,
}

#[derive(Clone, Debug)]
struct ModelEntry {
    batch_id: Uuid,
    received_ms: u64,
    rows: Vec<ModelRow>,
}

/// What the store has after some entries.
#[derive(Default)]
struct Model {
    /// Payloads by id and time in milliseconds.
    events: HashMap<(Uuid, i64), Option<String>>,
    /// The times of the events that claimed their ids.
    claims: HashMap<Uuid, i64>,
    batches: HashSet<Uuid>,
}

impl Model {
    fn write(&mut self, entry: &ModelEntry) -> Outcome {
        let is_reused = !self.batches.insert(entry.batch_id);
        let mut outcome = Outcome::default();
        for row in &entry.rows {
            match row {
                ModelRow::Call if is_reused => outcome.duplicate += 1,
                ModelRow::Call | ModelRow::NotText(_) => outcome.dead += 1,
                ModelRow::Event(event) if is_reused && event.time == EventTime::Anonymous => {
                    outcome.duplicate += 1;
                }
                ModelRow::Event(event) => match self.original(event, entry.received_ms) {
                    None => outcome.stored += 1,
                    Some(original) => {
                        outcome.duplicate += 1;
                        outcome.conflict += u32::from(original != event.properties);
                    }
                },
            }
        }
        outcome
    }

    /// The payload of the event that this one repeats; stores it when there is none.
    fn original(&mut self, event: &Event, received_ms: u64) -> Option<Option<String>> {
        let received_us = received_ms.cast_signed() * 1_000;
        let time = match event.time {
            EventTime::At(us) => us,
            _ => received_us,
        };
        if event.by_id || event.time == EventTime::Undated {
            if let Some(claimed) = self.claims.get(&event.id) {
                return Some(self.events[&(event.id, *claimed)].clone());
            }
            self.claims.insert(event.id, time);
        }
        if let Some(stored) = self.events.get(&(event.id, time)) {
            return Some(stored.clone());
        }
        self.events.insert((event.id, time), event.properties.clone());
        None
    }
}

fn any_row(random: &mut impl Rng, now: u64, number: u128) -> ModelRow {
    // Few ids, times and payloads, so that most rows repeat another. Undated events are received at these
    // times, too.
    let id = random.random_range(0..14);
    let time = at_ms(now + random.random_range(0..3));
    let payloads = [None, Some("{}"), Some(r#"{"a": 1}"#)];
    let properties = payloads.choose(random).expect("payloads").map(str::to_owned);
    let (time, id, by_id) = match random.random_range(0..12) {
        0 => return ModelRow::Call,
        1 => return ModelRow::NotText(1 << 32 | number),
        2 => (EventTime::Anonymous, 1 << 64 | number, false),
        3..5 => (EventTime::Undated, id, false),
        5..8 => (time, id, false),
        8..11 => (time, id, true),
        _ => (EventTime::Undated, id, true),
    };
    ModelRow::Event(Event { by_id, properties, ..event(time, id) })
}

fn any_entries(random: &mut impl Rng, project: ProjectId) -> Vec<ModelEntry> {
    let now = now_ms();
    let mut number = 0;
    let mut entries: Vec<ModelEntry> = Vec::new();
    for _ in 0..ENTRIES {
        let key = format!("key {}", random.random_range(0..30));
        let rows = (0..random.random_range(1..8)).map(|_| {
            number += 1;
            any_row(random, now, number)
        });
        let rows = rows.collect();
        let batch_id = millrace_event::event::batch_id_of_key(project, &key);
        entries.push(ModelEntry { batch_id, received_ms: now + random.random_range(0..3), rows });
    }
    entries
}

fn request_of(project: ProjectId, seq: u64, modeled: &ModelEntry) -> WriteRequest {
    let bytes = |modeled: &ModelRow| match modeled {
        ModelRow::Event(event) => row(project, event),
        ModelRow::Call => call_row(project, "invalid_type", b"{}"),
        ModelRow::NotText(id) => {
            let mut bytes = row(project, &event(at_ms(now_ms()), *id));
            let name = bytes.windows(10).position(|part| part == b"thing_done").expect("its name");
            bytes[name] = 0xff;
            bytes
        }
    };
    let rows: Vec<_> = modeled.rows.iter().map(bytes).collect();
    let request = request_of_rows(project, entry(modeled.received_ms, seq), &rows);
    WriteRequest { batch_id: modeled.batch_id, ..request }
}

pub async fn outcomes_do_not_depend_on_how_entries_are_grouped(harness: &dyn Harness) {
    let store = harness.store();
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..ROUNDS {
        let project = project(&store, &format!("p{round}")).await;
        let entries = any_entries(&mut random, project);
        let mut model = Model::default();
        let expected: Vec<_> = entries.iter().map(|entry| model.write(entry)).collect();
        let requests: Vec<_> =
            (0..).zip(&entries).map(|(seq, entry)| request_of(project, seq, entry)).collect();
        let mut lanes = [writer(&store).await, writer(&harness.another()).await];
        let mut written = 0;
        while written < requests.len() {
            let end = (written + random.random_range(1..9)).min(requests.len());
            // Entries that were written before may be delivered again with others.
            let start = written - random.random_range(0..3).min(written);
            let lane = &mut lanes[random.random_range(0..2)];
            let outcomes = lane.write(&requests[start..end]).await.expect("written");
            for (at, outcome) in (start..).zip(outcomes) {
                let wanted = WriteOutcome { outcome: expected[at], redelivered: at < written };
                assert_eq!(outcome, wanted, "entry {at} of round {round}, seed {seed}: {:?}", entries[at]);
            }
            written = end;
        }
        let sum =
            |part: fn(&Outcome) -> u32| expected.iter().map(|outcome| u64::from(part(outcome))).sum::<u64>();
        let totals = balanced(&store, project).await;
        assert_eq!(
            (totals.stored, totals.duplicate),
            (sum(|o| o.stored), sum(|o| o.duplicate)),
            "seed {seed}"
        );
        assert_eq!(totals.dead, sum(|o| o.dead), "seed {seed}");
        let conflicts = i64::try_from(sum(|o| o.conflict)).expect("few");
        assert_eq!(harness.conflicts(project).await, (conflicts, conflicts), "seed {seed}");
        let refused = harness.refusals(project).await;
        let of =
            |kind: &str| refused.iter().filter(|count| count.0 == kind).map(|count| count.2).sum::<i64>();
        assert_eq!((of("dead").unsigned_abs(), of("conflict")), (totals.dead, conflicts), "seed {seed}");
        assert_eq!(harness.letters(project).await.len() as u64, totals.dead, "seed {seed}");
    }
}
