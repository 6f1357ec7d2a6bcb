//! The protocol between client, API, stream, two lanes and database, small enough to search every order of
//! its steps.
//!
//! A step of the model is one atomic action: a script of the stream, a transaction of the database, the
//! arrival of an answer. Time is not modeled: anything that may happen later may also happen immediately. For
//! example, a slow lane may count as silent and still continue later. Rates, the end of a month, dead letters
//! and epochs are not modeled.
//!
//! There are two batches. The first has two events: one with an id and a time, and one with neither, which is
//! identified by its batch and entry. The second batch repeats the event with the id: a duplicate, which must
//! be refunded once.

use crate::mutant::Mutant;
use crate::search::Model;
use crate::state::{Client, Doing, EVENTS, Entry, EntryState, LANES, Marker, Outcome, Request, State, TRIES};

/// The protocol, correct or with one bug.
pub struct Protocol {
    pub mutant: Option<Mutant>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Post { batch: usize },
    ClientTimesOut { batch: usize },
    Admit { batch: usize, attempt: usize },
    Answer { batch: usize, attempt: usize },
    AnswerOfAdmitLost { batch: usize, attempt: usize },
    ApiCrashes,
    MarkerExpires { batch_id: usize },
    MakeGroup,
    ReadNew { lane: usize },
    ReadNewAnswerLost { lane: usize },
    ReadOwn { lane: usize, entry: usize },
    TakeOver { lane: usize, entry: usize },
    Commit { lane: usize },
    CommitAnswerLost { lane: usize },
    Settle { lane: usize },
    SettleAnswerLost { lane: usize },
    LaneCrashes { lane: usize },
    LaneReturns { lane: usize },
    LaneReturnsUnderNewName { lane: usize },
}

impl Model for Protocol {
    type State = State;
    type Step = Step;

    fn start(&self) -> State {
        State::start()
    }

    fn steps(&self, state: &State) -> Vec<(Step, State)> {
        candidates(state)
            .into_iter()
            .filter(|step| state.faults_left > 0 || !self.is_fault(*step))
            .filter_map(|step| {
                let mut next = state.clone();
                next.faults_left -= u8::from(self.is_fault(step));
                self.apply(&mut next, step).map(|()| (step, next))
            })
            .collect()
    }

    fn is_fault(&self, step: Step) -> bool {
        use Step::{AnswerOfAdmitLost, ApiCrashes, ClientTimesOut, CommitAnswerLost, LaneCrashes};
        use Step::{ReadNewAnswerLost, SettleAnswerLost};
        matches!(
            step,
            AnswerOfAdmitLost { .. }
                | ApiCrashes
                | ClientTimesOut { .. }
                | CommitAnswerLost { .. }
                | LaneCrashes { .. }
                | ReadNewAnswerLost { .. }
                | SettleAnswerLost { .. }
        )
    }

    fn breach(&self, state: &State) -> Option<&'static str> {
        let of_batch = |batch| state.entries.iter().filter(move |entry: &&Entry| entry.batch == batch);
        let undated_rows = of_batch(0).filter(|entry| entry.ledger.is_some()).count();
        let written = |entry: &Entry| entry.ledger.is_some();
        let safe = |entry: &Entry| written(entry) || entry.state != EntryState::Gone;
        let lost = |batch| state.clients[batch] == Client::Acknowledged && !of_batch(batch).any(safe);
        let ledger: i8 = state.entries.iter().filter_map(|entry| entry.ledger).map(Outcome::events).sum();
        let expected: i8 = state.entries.iter().map(Entry::charge).sum();
        if lost(0) || lost(1) {
            return Some("lost: an acknowledged batch is neither in the stream nor in the store");
        }
        if undated_rows > 1 {
            return Some("twice: an event has two rows");
        }
        if state.usage != ledger {
            return Some("miscounted: usage is not the sum of the ledger");
        }
        if state.entries.iter().any(|entry| entry.refunds > 1) {
            return Some("refunded twice");
        }
        (state.used != expected)
            .then_some("mischarged: the used quota is not the sum of stored and waiting events")
    }

    fn is_done(&self, state: &State) -> bool {
        let all_written =
            state.entries.iter().all(|entry| entry.ledger.is_some() && entry.state == EntryState::Gone);
        let stored: i8 = state.entries.iter().filter_map(|entry| entry.ledger).map(|it| it.stored).sum();
        let answered = state.clients.iter().all(|client| !matches!(client, Client::Trying(_)));
        all_written && answered && state.used == stored && state.markers.iter().all(|it| *it == Marker::None)
    }
}

fn candidates(state: &State) -> Vec<Step> {
    let mut steps = vec![Step::ApiCrashes, Step::MakeGroup];
    for (batch, tries) in TRIES.into_iter().enumerate() {
        steps.extend([Step::Post { batch }, Step::ClientTimesOut { batch }]);
        for attempt in 0..tries {
            steps.extend([Step::Admit { batch, attempt }, Step::Answer { batch, attempt }]);
            steps.push(Step::AnswerOfAdmitLost { batch, attempt });
        }
    }
    steps.extend((0..state.markers.len()).map(|batch_id| Step::MarkerExpires { batch_id }));
    for lane in 0..LANES {
        steps.extend([Step::ReadNew { lane }, Step::ReadNewAnswerLost { lane }, Step::Commit { lane }]);
        steps.extend([
            Step::CommitAnswerLost { lane },
            Step::Settle { lane },
            Step::SettleAnswerLost { lane },
        ]);
        steps.extend([Step::LaneCrashes { lane }, Step::LaneReturns { lane }]);
        steps.push(Step::LaneReturnsUnderNewName { lane });
        for entry in 0..state.entries.len() {
            steps.extend([Step::ReadOwn { lane, entry }, Step::TakeOver { lane, entry }]);
        }
    }
    steps
}

impl Protocol {
    fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Takes a step. `None` when it is not possible.
    fn apply(&self, state: &mut State, step: Step) -> Option<()> {
        match step {
            Step::Post { batch } => state.post(batch),
            Step::ClientTimesOut { batch } => state.time_out(batch),
            Step::Admit { batch, attempt } => self.admit(state, batch, attempt),
            Step::Answer { batch, attempt } => state.answer(batch, attempt),
            Step::AnswerOfAdmitLost { batch, attempt } => {
                // The API retries with the same batch id (ingest-api/src/ingest.rs, `admit`).
                self.admit(state, batch, attempt)?;
                state.requests[batch][attempt] = Request::Received;
                Some(())
            }
            Step::ApiCrashes => state.crash_api(),
            Step::MarkerExpires { batch_id } => state.expire(batch_id),
            Step::MakeGroup => self.make_group(state),
            Step::ReadNew { lane } => {
                let entry = state.read_new(lane)?;
                state.lanes[lane].doing = Doing::Holding(entry);
                Some(())
            }
            Step::ReadNewAnswerLost { lane } => state.read_new(lane).map(|_| ()),
            Step::ReadOwn { lane, entry } => state.take(lane, entry, |owner, me| owner == me),
            Step::TakeOver { lane, entry } => state.take(lane, entry, |owner, me| owner != me),
            Step::Commit { lane } => self.commit(state, lane),
            Step::CommitAnswerLost { lane } => {
                let doing = state.lanes[lane].doing;
                self.commit(state, lane)?;
                state.lanes[lane].doing = doing;
                Some(())
            }
            Step::Settle { lane } => self.settle(state, lane),
            Step::SettleAnswerLost { lane } => {
                let doing = state.lanes[lane].doing;
                self.settle(state, lane)?;
                state.lanes[lane].doing = doing;
                Some(())
            }
            Step::LaneCrashes { lane } => {
                let was = std::mem::replace(&mut state.lanes[lane].doing, Doing::Down);
                (was != Doing::Down).then_some(())
            }
            Step::LaneReturns { lane } => state.restart(lane),
            Step::LaneReturnsUnderNewName { lane } => self.restart_under_new_name(state, lane),
        }
    }

    /// admit.lua.
    fn admit(&self, state: &mut State, batch: usize, attempt: usize) -> Option<()> {
        let request = &mut state.requests[batch][attempt];
        if *request != Request::Received {
            return None;
        }
        *request = Request::Admitted;
        let batch_id = if self.has(Mutant::NewBatchIdOnRetry) { batch + 2 * attempt } else { batch };
        if state.markers[batch_id] != Marker::None {
            return Some(());
        }
        if self.has(Mutant::Trimmed) {
            state.entries.iter_mut().for_each(|entry| entry.state = EntryState::Gone);
        }
        state.entries.push(Entry { batch, batch_id, state: EntryState::Unread, ledger: None, refunds: 0 });
        state.used += EVENTS[batch];
        state.markers[batch_id] = Marker::Pending;
        Some(())
    }

    /// A reader that finds no group creates it at the beginning of the stream
    /// (shared/stream/src/redis/reader.rs).
    fn make_group(&self, state: &mut State) -> Option<()> {
        let from = if self.has(Mutant::GroupAtTheEnd) { state.entries.len() } else { 0 };
        state.group_at.is_none().then(|| state.group_at = Some(from))
    }

    /// The transaction of shared/store/src/postgres/write.rs.
    fn commit(&self, state: &mut State, lane: usize) -> Option<()> {
        let (entry, first) = match state.lanes[lane].doing {
            Doing::Holding(entry) if self.has(Mutant::SettledBeforeCommit) => {
                // The outcome is not known yet, so nothing is refunded.
                self.remove_from_stream(state, entry, Outcome { stored: 0, duplicate: 0 });
                state.lanes[lane].doing = Doing::SettledFirst(entry);
                return Some(());
            }
            Doing::Holding(entry) => (entry, false),
            Doing::SettledFirst(entry) => (entry, true),
            _ => return None,
        };
        let outcome = self.write(state, entry);
        state.lanes[lane].doing = if first { Doing::Idle } else { Doing::Written(entry, outcome) };
        Some(())
    }

    fn write(&self, state: &mut State, entry: usize) -> Outcome {
        let row = &mut state.entries[entry];
        let known = row.ledger;
        if let Some(outcome) = known.filter(|_| !self.has(Mutant::NoLedger)) {
            if self.has(Mutant::CountedOutside) {
                state.usage += outcome.events();
            }
            return outcome;
        }
        // When an entry is written again, its rows are duplicates of themselves: their keys are the same at
        // each delivery.
        let duplicate = i8::from(state.has_dated) + i8::from(known.is_some() && row.batch == 0);
        let outcome = Outcome { stored: EVENTS[row.batch] - duplicate, duplicate };
        row.ledger = known.or(Some(outcome));
        state.has_dated = true;
        state.usage += outcome.events();
        outcome
    }

    fn settle(&self, state: &mut State, lane: usize) -> Option<()> {
        let Doing::Written(entry, outcome) = state.lanes[lane].doing else { return None };
        self.remove_from_stream(state, entry, outcome);
        state.lanes[lane].doing = Doing::Idle;
        Some(())
    }

    /// settle.lua: only the caller that removes the entry from the pending list refunds it.
    fn remove_from_stream(&self, state: &mut State, entry: usize, outcome: Outcome) {
        let row = &mut state.entries[entry];
        let acknowledged = matches!(row.state, EntryState::Pending { .. });
        if !acknowledged && !self.has(Mutant::RefundNotGated) {
            return;
        }
        row.state = EntryState::Gone;
        row.refunds += u8::from(outcome.duplicate > 0);
        state.used -= outcome.duplicate;
        let after = if self.has(Mutant::MarkerForgotten) { Marker::None } else { Marker::Settled };
        state.markers[row.batch_id] = after;
    }

    /// Pending entries of the old name stay pending, because retire.lua keeps consumers with pending entries.
    fn restart_under_new_name(&self, state: &mut State, lane: usize) -> Option<()> {
        state.restart(lane)?;
        let old = state.lanes[lane].consumer;
        state.lanes[lane].consumer = old ^ 2;
        if self.has(Mutant::ConsumerDeleted) {
            for entry in &mut state.entries {
                if entry.state == (EntryState::Pending { consumer: old }) {
                    entry.state = EntryState::Orphaned;
                }
            }
        }
        Some(())
    }
}
