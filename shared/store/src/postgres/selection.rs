//! Which rows of a draft are sent, and what each of the others repeats. Pure.
//!
//! Rows are taken in stream order, as if each were written alone after the rows before it. Rows with one key
//! are the same event. Rows that claim one id are the same event, too, at any time: the first of them stands
//! for the id.

use std::collections::HashMap;

use uuid::Uuid;

use super::draft::{Draft, Identity};
use crate::payload::PayloadDigest;
use millrace_event::plan::ProjectId;

/// The rows to send, and the ids that are claimed with them.
pub(super) struct Selection {
    /// In the order of the draft.
    pub(super) rows: Vec<usize>,
    /// In the order of `undated_ids`.
    pub(super) claims: Vec<IdClaim>,
    /// Rows that repeat the id of another row, which they map to.
    repeats: HashMap<usize, usize>,
}

/// An id that rows of the draft claim.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdClaim {
    /// The first row with the id.
    pub(super) row: usize,
    /// When the first event was received whose project recognizes repetitions by id alone. The claim is then
    /// kept as long as the ledger.
    pub(super) kept_from_us: Option<i64>,
}

/// A row that is not stored because it repeats an event.
pub(super) struct Duplicate {
    pub(super) row: usize,
    /// The payload of the event that it repeats. `None` when that event is not stored any more.
    pub(super) original: Option<PayloadDigest>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Sent,
    /// The database has the event, or its id is claimed.
    Known,
    /// It repeats the id of a row before it.
    RepeatsId,
    /// It has the key of this row.
    RepeatsKey(usize),
}

impl Selection {
    pub(super) fn of(draft: &Draft<'_>) -> Self {
        let mut selection =
            Self { rows: Vec::with_capacity(draft.rows.len()), claims: Vec::new(), repeats: HashMap::new() };
        if draft.any_claims {
            selection.group_claims(draft);
        }
        let mut rows = std::mem::take(&mut selection.rows);
        selection.each_fate(draft, |row, fate| {
            if fate == Fate::Sent {
                rows.push(row);
            }
        });
        Self { rows, ..selection }
    }

    /// Groups the rows that claim one id.
    fn group_claims(&mut self, draft: &Draft<'_>) {
        let rows = &draft.rows;
        let mut claiming: Vec<usize> =
            (0..rows.len()).filter(|&row| rows[row].claims_id() && draft.is_live(&rows[row])).collect();
        claiming.sort_unstable_by_key(|&row| (rows[row].entry, rows[row].index));
        let mut groups: HashMap<(ProjectId, Uuid), usize> = HashMap::with_capacity(claiming.len());
        for row in claiming {
            let key = rows[row].key;
            let kept_from_us = (rows[row].identity == Identity::Id)
                .then(|| draft.entries[rows[row].entry as usize].ledger.received_us);
            let group = *groups.entry((key.project, key.event_id)).or_insert(self.claims.len());
            match self.claims.get_mut(group) {
                Some(claim) => {
                    claim.kept_from_us = claim.kept_from_us.or(kept_from_us);
                    self.repeats.insert(row, claim.row);
                }
                None => self.claims.push(IdClaim { row, kept_from_us }),
            }
        }
        self.claims.sort_unstable_by_key(|claim| {
            let key = rows[claim.row].key;
            (key.project, key.event_id)
        });
    }

    /// The rows to look up before they are sent: also those that only claim their ids.
    pub(super) fn lookups(&self, draft: &Draft<'_>) -> Vec<usize> {
        let mut rows = self.rows.clone();
        rows.extend(self.claims.iter().map(|claim| claim.row).filter(|&row| !draft.rows[row].is_claimed()));
        if !self.claims.is_empty() {
            rows.sort_unstable();
            rows.dedup();
        }
        rows
    }

    /// Passes each live row to `take`, in the order of the draft.
    fn each_fate(&self, draft: &Draft<'_>, mut take: impl FnMut(usize, Fate)) {
        let mut last = None;
        for (index, row) in draft.rows.iter().enumerate() {
            if !draft.is_live(row) {
                continue;
            }
            if !self.repeats.is_empty() && self.repeats.contains_key(&index) {
                take(index, Fate::RepeatsId);
                continue;
            }
            // Its own key may be new, so it does not stand for it.
            if row.is_claimed() && !row.is_stored() {
                take(index, Fate::Known);
                continue;
            }
            if let Some((key, first)) = last
                && key == row.key
            {
                // What is stored is not compared with a row of the draft.
                take(index, if row.is_stored() { Fate::Known } else { Fate::RepeatsKey(first) });
                continue;
            }
            last = Some((row.key, index));
            take(index, if row.is_stored() { Fate::Known } else { Fate::Sent });
        }
    }

    /// The live rows that are not sent, except those that only their batch identifies.
    pub(super) fn duplicates(&self, draft: &Draft<'_>) -> Vec<Duplicate> {
        let mut duplicates = Vec::new();
        let mut key_repeats = HashMap::new();
        self.each_fate(draft, |row, fate| {
            if let Fate::RepeatsKey(first) = fate {
                key_repeats.insert(row, first);
            }
            if fate != Fate::Sent && draft.rows[row].identity != Identity::Batch {
                duplicates.push(row);
            }
        });
        // The payload of the event with the key of this row, which is the first with the key.
        let with_key = |row: usize| match draft.rows[row].is_stored() {
            true => draft.stored_payloads.get(&row).copied(),
            false => Some(PayloadDigest::of_row(draft.rows[row].bytes)),
        };
        let original = |row: usize| {
            let mut at = row;
            loop {
                // A claimed id decides before the key does.
                if draft.rows[at].is_claimed() {
                    return draft.claim_payloads.get(&at).copied();
                }
                match self.repeats.get(&at) {
                    Some(&earlier) => at = earlier,
                    None => return with_key(key_repeats.get(&at).copied().unwrap_or(at)),
                }
            }
        };
        duplicates.into_iter().map(|row| Duplicate { row, original: original(row) }).collect()
    }
}
