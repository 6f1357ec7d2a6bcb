//! One transaction for a draft: the rows it sends, the outcome of each entry once exactly these rows are
//! stored, and the parameters of its statements that follow. Pure: nothing is sent from here.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Instant as Clock;

use super::copy::Instant;
use super::draft::{Draft, DraftCall, DraftEntry, EntryState};
use super::ledger_rows::{LedgerBatch, LedgerKeys, LedgerRows};
use super::parameters::{ClaimRows, PositionRows, RowKeys, UsageRows, number};
use super::selection::{Duplicate, IdClaim, Selection};
use crate::WriteOutcome;
use crate::ledger::LedgerKey;
use crate::letters::NewLetter;
use crate::payload::PayloadDigest;
use crate::rejection_tally::RejectionTally;
use millrace_event::Outcome;
use millrace_event::meter::{MeterSet, MeterTally};
use millrace_event::row::Row;

const HOUR_US: i64 = 3_600_000_000;

pub(super) struct Attempt<'a> {
    pub(super) draft: &'a Draft<'a>,
    selection: Selection,
    conflicts: Vec<Conflict>,
    outcomes: Vec<WriteOutcome>,
}

/// A duplicate whose payload differs from that of the event it repeats.
struct Conflict {
    row: usize,
    /// The fields that differ.
    difference: &'static str,
}

impl<'a> Attempt<'a> {
    pub(super) fn new(draft: &'a Draft<'a>) -> Self {
        Self::sending(draft, Selection::of(draft))
    }

    /// An attempt that sends this selection, which must be that of the draft.
    pub(super) fn sending(draft: &'a Draft<'a>, selection: Selection) -> Self {
        let mut outcomes = outcomes(draft, &selection.rows);
        let mut conflicts = Vec::new();
        // Only duplicates cost a comparison.
        if outcomes.iter().any(|written| !written.redelivered && written.outcome.duplicate > 0) {
            conflicts = self::conflicts(draft, &selection);
            for conflict in &conflicts {
                outcomes[draft.rows[conflict.row].entry as usize].outcome.conflict += 1;
            }
        }
        copy_outcomes(draft, &mut outcomes);
        Self { draft, selection, conflicts, outcomes }
    }

    /// When the first attempt for this draft began.
    pub(super) fn began(&self) -> Clock {
        self.draft.began
    }

    pub(super) fn rows(&self) -> &[usize] {
        &self.selection.rows
    }

    /// Hashes of the rows for [`super::recent`].
    pub(super) fn hashes(&self) -> impl Iterator<Item = u64> {
        self.rows().iter().filter_map(|&row| self.draft.rows[row].hash())
    }

    /// Adds the rows to meters. A row that is not text was not stored.
    pub(super) fn add_to_meters(&self, meters: &MeterSet, tally: &mut MeterTally) {
        let stored = self.rows().iter().map(|&row| &self.draft.rows[row]);
        for row in stored.filter(|row| meters.has(row.key.project)) {
            let received_us = self.draft.entries[row.entry as usize].ledger.received_us;
            if let Ok(event) = Row::read(row.bytes) {
                tally.add(meters, &event, row.key.timestamp_us, received_us);
            }
        }
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
        LedgerRows::new(self.draft.live_entries().map(|(index, entry)| LedgerBatch {
            key: entry.ledger,
            project: entry.project,
            count: entry.count,
            outcome: self.outcomes[index].outcome,
        }))
    }

    /// The ids to claim, in the order of `undated_ids`.
    pub(super) fn claims(&self) -> ClaimRows {
        let draft = self.draft;
        self.claim_rows(|claim| !draft.rows[claim.row].is_claimed())
    }

    /// The claims to keep longer: they were made for some days, and are now kept as long as the ledger.
    pub(super) fn claims_to_keep(&self) -> ClaimRows {
        let short_claims = &self.draft.short_claims;
        self.claim_rows(|claim| claim.kept_from_us.is_some() && short_claims.contains(&claim.row))
    }

    fn claim_rows(&self, is_wanted: impl Fn(&IdClaim) -> bool) -> ClaimRows {
        let mut rows = ClaimRows::default();
        for claim in self.selection.claims.iter().filter(|claim| is_wanted(claim)) {
            let key = self.draft.rows[claim.row].key;
            rows.projects.push(key.project.0);
            rows.ids.push(key.event_id);
            rows.times.push(Instant(key.timestamp_us));
            rows.kept_from.push(claim.kept_from_us.map(Instant));
        }
        rows
    }

    /// A letter for every dead row, every dead call and every dead entry.
    pub(super) fn letters(&self) -> Vec<NewLetter<'a>> {
        let draft = self.draft;
        let mut letters = Vec::new();
        for (_, entry) in draft.live_entries() {
            // The dead letter of a batch that was written before already exists.
            if let (Some(dead), EntryState::New) = (&entry.dead_letter, entry.state) {
                let letter = letter(entry, None, &dead.reason, &dead.payload);
                letters.push(NewLetter { event_count: entry.count, ..letter });
            }
        }
        for (&index, rejection) in &draft.rejections {
            let row = &draft.rows[index as usize];
            if draft.can_be_new(row) {
                let entry = &draft.entries[row.entry as usize];
                let letter = letter(entry, Some(row.index), &rejection.reason, row.bytes);
                letters.push(NewLetter { sqlstate: rejection.sqlstate(), code: rejection.code(), ..letter });
            }
        }
        for DraftCall { entry, index, call } in draft.dead_calls() {
            let letter = letter(&draft.entries[*entry as usize], Some(*index), call.message, call.call);
            letters.push(NewLetter { code: Some(call.code), ..letter });
        }
        letters
    }

    /// The letters and conflicts, for the owners of projects.
    pub(super) fn refusals(&self) -> RejectionTally<'a> {
        let mut refusals = RejectionTally::default();
        self.letters().iter().for_each(|letter| refusals.add_letter(letter));
        for Conflict { row, difference } in &self.conflicts {
            let row = &self.draft.rows[*row];
            let received_us = self.draft.entries[row.entry as usize].ledger.received_us;
            refusals.add_conflict(row.bytes, received_us, difference);
        }
        refusals
    }

    /// The highest entry of each shard. A lane reads one shard, so usually there is one row.
    pub(super) fn positions(&self) -> PositionRows {
        let mut highest = BTreeMap::<i32, (i64, i64)>::new();
        for (_, entry) in self.draft.live_entries() {
            let LedgerKey { received_us, seq, shard, .. } = entry.ledger;
            let position = highest.entry(shard).or_default();
            *position = (*position).max((received_us / 1_000, seq));
        }
        let mut rows = PositionRows::default();
        for (shard, (entry_ms, entry_seq)) in highest {
            rows.shards.push(shard);
            rows.entry_ms.push(entry_ms);
            rows.entry_seqs.push(entry_seq);
        }
        rows
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
        for row in self.rows().iter().map(|&row| &self.draft.rows[row]) {
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

/// A letter of one event, with the columns that follow from its entry.
fn letter<'a>(
    entry: &DraftEntry,
    event_index: Option<u32>,
    reason: &'a str,
    payload: &'a [u8],
) -> NewLetter<'a> {
    NewLetter {
        project: entry.project,
        batch_id: entry.ledger.batch_id,
        received_us: entry.ledger.received_us,
        event_index,
        event_count: 1,
        sqlstate: None,
        code: None,
        reason: Cow::Borrowed(reason),
        payload,
    }
}

fn conflicts(draft: &Draft<'_>, selection: &Selection) -> Vec<Conflict> {
    let conflict = |duplicate: Duplicate| {
        let payload = PayloadDigest::of_row(draft.rows[duplicate.row].bytes);
        let difference = payload.difference(duplicate.original?)?;
        Some(Conflict { row: duplicate.row, difference })
    };
    selection.duplicates(draft).into_iter().filter_map(conflict).collect()
}

/// Gives an entry that is twice in the draft the outcome of the first.
fn copy_outcomes(draft: &Draft<'_>, outcomes: &mut [WriteOutcome]) {
    for (index, entry) in draft.entries.iter().enumerate() {
        if let EntryState::DuplicateOf(first) = entry.state {
            outcomes[index] = WriteOutcome { redelivered: true, ..outcomes[first] };
        }
    }
}

/// The outcome of each entry when exactly these rows are stored, without conflicts. That of an entry that is
/// twice in the draft is left out.
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
            EntryState::DuplicateOf(_) => WriteOutcome { redelivered: true, ..WriteOutcome::default() },
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
    use crate::dead_reason::DeadReason;
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
        let (count, payload) = (events.len() as u32, Payload::Rows(rows.into()));
        WriteRequest { entry, shard: 0, batch_id, project: ProjectId(1), count, payload }
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
        assert_eq!(Attempt::new(&draft).claims().ids, [Uuid::from_u128(7)]);
        assert_eq!(outcomes(&draft), [(1, 0, 0, false), (0, 1, 0, false)]);
    }

    #[test]
    fn a_rejected_row_is_dead_and_an_equal_row_after_it_is_sent() {
        let requests = [request(Uuid::now_v7(), 0, &[(1, AT)]), request(Uuid::now_v7(), 1, &[(1, AT)])];
        let mut draft = Draft::new(&requests).unwrap();
        let first = Attempt::new(&draft).rows()[0];
        draft.mark_rejected(first, DeadReason::by_database("22P05", "a NUL"));
        assert_eq!(outcomes(&draft), [(0, 0, 1, false), (1, 0, 0, false)]);
        let attempt = Attempt::new(&draft);
        assert_eq!(attempt.letters()[0].reason, "a NUL");
        let ledger = attempt.ledger_rows().single.counts;
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
        assert_eq!(Attempt::new(&draft).keys_used_first().rows, [batch_id]);
        draft.entries[0].mark_reused_key();
        assert!(Attempt::new(&draft).keys_used_first().rows.is_empty());
        assert_eq!(outcomes(&draft), [(2, 1, 0, false)]);
        assert_ne!(
            Attempt::new(&draft).ledger_rows().single.ids,
            [batch_id],
            "its ledger row has its own key"
        );
    }
}
