//! One transaction for a draft: the rows it sends, the outcome of each entry once exactly these rows are
//! stored, and the parameters of its statements that follow. Pure: nothing is sent from here.

use std::collections::BTreeMap;
use std::time::Instant as Clock;

use super::copy::Instant;
use super::draft::{Draft, DraftCall, DraftEntry, EntryState};
use super::parameters::{DeadLetters, LedgerKeys, LedgerRows, RowKeys, UsageRows, number};
use crate::WriteOutcome;
use crate::ledger::LedgerKey;
use millrace_event::Outcome;

const HOUR_US: i64 = 3_600_000_000;

pub(super) struct Attempt<'a> {
    draft: &'a Draft<'a>,
    /// Indices of the rows that are sent, in the order of the draft.
    rows: Vec<usize>,
    outcomes: Vec<WriteOutcome>,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(draft: &'a Draft<'a>) -> Self {
        Self::sending(draft, draft.select_rows())
    }

    /// An attempt that sends these rows, which must be [`Draft::select_rows`].
    pub(super) fn sending(draft: &'a Draft<'a>, rows: Vec<usize>) -> Self {
        let outcomes = outcomes(draft, &rows);
        Self { draft, rows, outcomes }
    }

    /// When the first attempt for this draft began.
    pub(super) fn began(&self) -> Clock {
        self.draft.began
    }

    pub(super) fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// Hashes of the rows for [`super::recent`].
    pub(super) fn hashes(&self) -> impl Iterator<Item = u64> {
        self.rows.iter().filter_map(|&row| self.draft.rows[row].hash())
    }

    pub(super) fn into_outcomes(self) -> Vec<WriteOutcome> {
        self.outcomes
    }

    /// Entries taken for new whose batches could have been written from another entry.
    pub(super) fn keys_used_first(&self) -> LedgerKeys {
        let is_first = |entry: &DraftEntry| entry.state == EntryState::New && entry.has_client_key();
        let live = self.draft.live_entries().filter(|(_, entry)| is_first(entry));
        LedgerKeys::new(&live.map(|(index, entry)| (index, entry.ledger)).collect::<Vec<_>>())
    }

    pub(super) fn ledger_rows(&self) -> LedgerRows {
        let mut live: Vec<_> = self.draft.live_entries().collect();
        live.sort_unstable_by_key(|(_, entry)| entry.ledger);
        let keys: Vec<(usize, LedgerKey)> =
            live.iter().map(|(index, entry)| (*index, entry.ledger)).collect();
        let each = |part: fn(&Outcome) -> u32| -> Vec<i64> {
            live.iter().map(|(index, _)| i64::from(part(&self.outcomes[*index].outcome))).collect()
        };
        LedgerRows {
            keys: LedgerKeys::new(&keys),
            projects: live.iter().map(|(_, entry)| entry.project.0).collect(),
            accepted: live.iter().map(|(_, entry)| i64::from(entry.count)).collect(),
            stored: each(|outcome| outcome.stored),
            duplicate: each(|outcome| outcome.duplicate),
            dead: each(|outcome| outcome.dead),
            conflict: each(|outcome| outcome.conflict),
        }
    }

    /// Keys of the undated rows, in the order of `undated_ids`.
    pub(super) fn undated_claims(&self) -> RowKeys {
        let rows = &self.draft.rows;
        let mut undated: Vec<_> = self.rows.iter().copied().filter(|&row| rows[row].is_undated()).collect();
        undated.sort_unstable_by_key(|&row| (rows[row].key.project, rows[row].key.event_id));
        row_keys(self.draft, &undated)
    }

    /// A letter for every dead row, every dead call and every dead entry.
    pub(super) fn dead_letters(&self) -> DeadLetters<'a> {
        let draft = self.draft;
        let mut letters = DeadLetters::default();
        for (_, entry) in draft.live_entries() {
            // The dead letter of a batch that was written before already exists.
            if let (Some(dead), EntryState::New) = (&entry.dead_letter, entry.state) {
                add_letter(&mut letters, entry, None, i64::from(entry.count));
                letters.sqlstates.push(None);
                letters.codes.push(None);
                letters.reasons.push(&dead.reason);
                letters.payloads.push(&dead.payload);
            }
        }
        for (&index, rejection) in &draft.rejections {
            let row = &draft.rows[index as usize];
            if draft.can_be_new(row) {
                add_letter(&mut letters, &draft.entries[row.entry as usize], Some(row.index), 1);
                letters.sqlstates.push(rejection.sqlstate());
                letters.codes.push(rejection.code());
                letters.reasons.push(&rejection.reason);
                letters.payloads.push(row.bytes);
            }
        }
        for DraftCall { entry, index, call } in draft.dead_calls() {
            add_letter(&mut letters, &draft.entries[*entry as usize], Some(*index), 1);
            letters.sqlstates.push(None);
            letters.codes.push(Some(call.code));
            letters.reasons.push(call.message);
            letters.payloads.push(call.call);
        }
        letters
    }

    /// By project and hour of receipt.
    pub(super) fn usage(&self) -> UsageRows {
        #[derive(Clone, Copy, Default)]
        struct Sum {
            events: i64,
            bytes: i64,
            duplicates: i64,
            dead: i64,
            conflicts: i64,
        }
        let mut bytes = vec![0_i64; self.draft.entries.len()];
        for row in self.rows.iter().map(|&row| &self.draft.rows[row]) {
            bytes[row.entry as usize] += row.bytes.len() as i64;
        }
        let mut sums = BTreeMap::<_, Sum>::new();
        for (index, entry) in self.draft.live_entries() {
            let hour_us = entry.ledger.received_us.div_euclid(HOUR_US) * HOUR_US;
            let sum = sums.entry((entry.project.0, hour_us)).or_default();
            let outcome = self.outcomes[index].outcome;
            sum.events += i64::from(outcome.stored);
            sum.bytes += bytes[index];
            sum.duplicates += i64::from(outcome.duplicate);
            sum.dead += i64::from(outcome.dead);
            sum.conflicts += i64::from(outcome.conflict);
        }
        let mut rows = UsageRows::default();
        for ((project, hour_us), sum) in sums {
            rows.projects.push(project);
            rows.hours.push(Instant(hour_us));
            rows.events.push(sum.events);
            rows.bytes.push(sum.bytes);
            rows.duplicates.push(sum.duplicates);
            rows.dead.push(sum.dead);
            rows.conflicts.push(sum.conflicts);
        }
        rows
    }
}

/// The keys of these rows of a draft.
pub(super) fn row_keys(draft: &Draft<'_>, rows: &[usize]) -> RowKeys {
    let keys = || rows.iter().map(|&row| draft.rows[row].key);
    RowKeys {
        indices: rows.iter().map(|&row| number(row)).collect(),
        projects: keys().map(|key| key.project.0).collect(),
        times: keys().map(|key| Instant(key.timestamp_us)).collect(),
        ids: keys().map(|key| key.event_id).collect(),
    }
}

/// The columns of a letter that follow from its entry.
fn add_letter(letters: &mut DeadLetters<'_>, entry: &DraftEntry, event_index: Option<u32>, count: i64) {
    letters.projects.push(entry.project.0);
    letters.batches.push(entry.ledger.batch_id);
    letters.times.push(Instant(entry.ledger.received_us));
    letters.event_indices.push(event_index.map(u32::cast_signed));
    letters.counts.push(count);
}

/// The outcome of each entry when exactly these rows are stored.
fn outcomes(draft: &Draft<'_>, rows: &[usize]) -> Vec<WriteOutcome> {
    let mut stored = vec![0_u32; draft.entries.len()];
    for &row in rows {
        stored[draft.rows[row].entry as usize] += 1;
    }
    let mut dead = vec![0_u32; draft.entries.len()];
    for row in draft.rejections.keys().map(|&row| &draft.rows[row as usize]) {
        dead[row.entry as usize] += u32::from(draft.can_be_new(row));
    }
    draft.dead_calls().for_each(|call| dead[call.entry as usize] += 1);
    let mut all: Vec<WriteOutcome> = Vec::with_capacity(draft.entries.len());
    for (index, entry) in draft.entries.iter().enumerate() {
        let written = |outcome| WriteOutcome { outcome, redelivered: false };
        all.push(match entry.state {
            EntryState::InLedger(outcome) => WriteOutcome { outcome, redelivered: true },
            EntryState::DuplicateOf(first) => WriteOutcome { redelivered: true, ..all[first] },
            EntryState::ReusedKey if entry.dead_letter.is_some() => {
                written(Outcome { duplicate: entry.count, ..Outcome::default() })
            }
            EntryState::New if entry.dead_letter.is_some() => {
                written(Outcome { dead: entry.count, ..Outcome::default() })
            }
            EntryState::New | EntryState::ReusedKey => {
                let (stored, dead) = (stored[index], dead[index]);
                written(Outcome { stored, duplicate: entry.count - stored - dead, dead, conflict: 0 })
            }
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use millrace_event::EntryId;
    use millrace_event::plan::ProjectId;
    use millrace_event::row::{EventTime, Row};
    use uuid::Uuid;

    use super::*;
    use crate::rejection::Rejection;
    use crate::{Payload, WriteRequest};

    const NOW_US: i64 = 1_795_219_200_000_000;
    const AT: EventTime = EventTime::At(NOW_US);

    fn request(batch_id: Uuid, seq: u64, events: &[(u128, EventTime)]) -> WriteRequest {
        let mut rows = Vec::new();
        for &(id, time) in events {
            let event_id = Uuid::from_u128(id);
            let (name, project) = ("done", ProjectId(1));
            let (subject, client_id, properties, context) = (None, None, None, None);
            Row { project, time, event_id, by_id: false, name, subject, client_id, properties, context }
                .write(&mut rows);
        }
        let entry = EntryId { ms: NOW_US.unsigned_abs() / 1_000, seq };
        let (count, body) = (events.len() as u32, Payload::Rows(rows.into()));
        WriteRequest { entry, shard: 0, batch_id, project: ProjectId(1), count, body }
    }

    fn outcomes(draft: &Draft<'_>) -> Vec<(u32, u32, u32, bool)> {
        let outcomes = Attempt::new(draft).into_outcomes();
        let numbers = |written: WriteOutcome| {
            let Outcome { stored, duplicate, dead, .. } = written.outcome;
            (stored, duplicate, dead, written.redelivered)
        };
        outcomes.into_iter().map(numbers).collect()
    }

    #[test]
    fn of_equal_rows_the_first_is_sent_and_the_others_are_duplicates() {
        let requests = [
            request(Uuid::now_v7(), 0, &[(1, AT), (2, AT), (1, AT)]),
            request(Uuid::now_v7(), 1, &[(2, AT)]),
        ];
        let draft = Draft::new(&requests).unwrap();
        assert_eq!(outcomes(&draft), [(2, 1, 0, false), (0, 1, 0, false)]);
    }

    #[test]
    fn an_undated_id_of_two_entries_is_claimed_once() {
        let undated = EventTime::Undated;
        let requests =
            [request(Uuid::now_v7(), 0, &[(7, undated)]), request(Uuid::now_v7(), 1, &[(7, undated)])];
        let draft = Draft::new(&requests).unwrap();
        assert_eq!(Attempt::new(&draft).undated_claims().ids, [Uuid::from_u128(7)]);
        assert_eq!(outcomes(&draft), [(1, 0, 0, false), (0, 1, 0, false)]);
    }

    #[test]
    fn a_rejected_row_is_dead_and_an_equal_row_after_it_is_sent() {
        let requests = [request(Uuid::now_v7(), 0, &[(1, AT)]), request(Uuid::now_v7(), 1, &[(1, AT)])];
        let mut draft = Draft::new(&requests).unwrap();
        let first = Attempt::new(&draft).rows()[0];
        draft.mark_rejected(first, Rejection::by_database("22P05", "a NUL"));
        assert_eq!(outcomes(&draft), [(0, 0, 1, false), (1, 0, 0, false)]);
        let attempt = Attempt::new(&draft);
        assert_eq!(attempt.dead_letters().reasons, ["a NUL"]);
        let ledger = attempt.ledger_rows();
        assert_eq!((ledger.accepted, ledger.stored, ledger.dead), (vec![1, 1], vec![0, 1], vec![1, 0]));
    }

    #[test]
    fn an_entry_in_the_ledger_sends_nothing_and_keeps_its_outcome() {
        let requests = [request(Uuid::now_v7(), 0, &[(1, AT), (2, AT)])];
        let mut draft = Draft::new(&requests).unwrap();
        let outcome = Outcome { stored: 1, duplicate: 1, dead: 0, conflict: 0 };
        draft.entries[0].state = EntryState::InLedger(outcome);
        let attempt = Attempt::new(&draft);
        assert!(attempt.rows().is_empty() && attempt.usage().events.is_empty());
        assert_eq!(attempt.into_outcomes(), [WriteOutcome { outcome, redelivered: true }]);
    }

    #[test]
    fn a_reused_key_sends_only_rows_with_their_own_id_or_time() {
        let rows = [(1, AT), (2, EventTime::Undated), (3, EventTime::Anonymous)];
        let batch_id = millrace_event::event::batch_id_of_key(ProjectId(1), "again");
        let requests = [request(batch_id, 0, &rows)];
        let mut draft = Draft::new(&requests).unwrap();
        assert_eq!(Attempt::new(&draft).keys_used_first().ids, [batch_id]);
        draft.entries[0].mark_reused_key();
        assert!(Attempt::new(&draft).keys_used_first().ids.is_empty());
        assert_eq!(outcomes(&draft), [(2, 1, 0, false)]);
        assert_ne!(Attempt::new(&draft).ledger_rows().keys.ids, [batch_id], "its ledger row has its own key");
    }
}
