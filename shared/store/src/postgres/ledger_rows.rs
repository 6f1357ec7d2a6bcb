//! The parameters of the statements about the ledger: arrays, one element for each row or batch. Pure.
//!
//! A row of `batches` has one batch, or those batches of an entry whose ids name one group. A row for a group
//! is inserted once and gets no further batches: a batch that it lacks gets a row of its own, so each batch
//! is in the ledger at one place, in any parts that an entry is written in.

use uuid::Uuid;

use super::copy::Instant;
use super::parameters::{number, span};
use crate::ledger::LedgerKey;
use millrace_event::Outcome;
use millrace_event::plan::ProjectId;

/// Where the ledger would have batches, each with the index of the entry it was made from.
pub(super) struct LedgerKeys {
    pub(super) indices: Vec<i32>,
    /// `batch_id` of the rows.
    pub(super) rows: Vec<Uuid>,
    /// The places in rows for groups; `None` for a row of one batch.
    pub(super) places: Vec<Option<i16>>,
    pub(super) times: Vec<Instant>,
    pub(super) seqs: Vec<i64>,
    pub(super) shards: Vec<i32>,
}

impl LedgerKeys {
    pub(super) fn new(keys: &[(usize, LedgerKey)]) -> Self {
        let groups = || keys.iter().map(|(_, key)| (key, key.group()));
        Self {
            indices: keys.iter().map(|(index, _)| number(*index)).collect(),
            rows: groups().map(|(key, group)| group.map_or(key.batch_id, |group| group.id)).collect(),
            places: groups().map(|(_, group)| Some(group?.place.into())).collect(),
            times: keys.iter().map(|(_, key)| Instant(key.received_us)).collect(),
            seqs: keys.iter().map(|(_, key)| key.seq).collect(),
            shards: keys.iter().map(|(_, key)| key.shard).collect(),
        }
    }

    /// The first and the last receive time, unless there are no keys.
    pub(super) fn span(&self) -> Option<(Instant, Instant)> {
        span(&self.times)
    }
}

/// A batch that is added to the ledger.
#[derive(Clone, Copy, Debug)]
pub(super) struct LedgerBatch {
    pub(super) key: LedgerKey,
    pub(super) project: ProjectId,
    /// Events that were accepted.
    pub(super) count: u32,
    pub(super) outcome: Outcome,
}

/// The batches of a transaction, in rows of both kinds. Rows of one kind are in key order.
#[derive(Default)]
pub(super) struct LedgerRows {
    pub(super) single: SingleRows,
    pub(super) group: GroupRows,
}

/// Rows of one batch.
#[derive(Default)]
pub(super) struct SingleRows {
    pub(super) ids: Vec<Uuid>,
    pub(super) times: Vec<Instant>,
    pub(super) seqs: Vec<i64>,
    pub(super) shards: Vec<i32>,
    pub(super) projects: Vec<i64>,
    pub(super) counts: Counts,
}

/// Rows for groups.
#[derive(Default)]
pub(super) struct GroupRows {
    pub(super) ids: Vec<Uuid>,
    pub(super) times: Vec<Instant>,
    pub(super) seqs: Vec<i64>,
    pub(super) shards: Vec<i32>,
    /// Over all batches of a row.
    pub(super) sums: Counts,
    /// Where the batches of each row are in `batches`: the first and the last, from 1.
    pub(super) firsts: Vec<i32>,
    pub(super) lasts: Vec<i32>,
    pub(super) batches: GroupBatches,
}

/// The batches of all rows for groups.
#[derive(Default)]
pub(super) struct GroupBatches {
    pub(super) places: Vec<i16>,
    pub(super) projects: Vec<i64>,
    pub(super) counts: Counts,
}

/// Events by outcome, of rows or batches.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) accepted: Vec<i64>,
    pub(super) stored: Vec<i64>,
    pub(super) duplicate: Vec<i64>,
    pub(super) dead: Vec<i64>,
    pub(super) conflict: Vec<i64>,
}

impl Counts {
    fn push(&mut self, batch: &LedgerBatch) {
        let Outcome { stored, duplicate, dead, conflict } = batch.outcome;
        self.accepted.push(batch.count.into());
        self.stored.push(stored.into());
        self.duplicate.push(duplicate.into());
        self.dead.push(dead.into());
        self.conflict.push(conflict.into());
    }

    /// Appends the sums over the last of these rows.
    fn push_sums(&mut self, of: &Self, first: usize) {
        let sum = |column: &[i64]| column[first..].iter().sum();
        self.accepted.push(sum(&of.accepted));
        self.stored.push(sum(&of.stored));
        self.duplicate.push(sum(&of.duplicate));
        self.dead.push(sum(&of.dead));
        self.conflict.push(sum(&of.conflict));
    }
}

impl LedgerRows {
    pub(super) fn new(batches: impl IntoIterator<Item = LedgerBatch>) -> Self {
        let (mut single, mut grouped) = (Vec::new(), Vec::new());
        for batch in batches {
            match batch.key.group() {
                None => single.push(batch),
                Some(group) => {
                    let LedgerKey { received_us, seq, shard, .. } = batch.key;
                    grouped.push(((group.id, received_us, seq, shard), group.place, batch));
                }
            }
        }
        let mut rows = Self::default();
        single.sort_unstable_by_key(|batch| batch.key);
        single.iter().for_each(|batch| rows.single.push(batch));
        grouped.sort_unstable_by_key(|(row, place, _)| (*row, *place));
        for of_row in grouped.chunk_by(|one, next| one.0 == next.0) {
            rows.group.push(of_row[0].0, of_row.iter().map(|(_, place, batch)| (*place, batch)));
        }
        rows
    }
}

impl SingleRows {
    fn push(&mut self, batch: &LedgerBatch) {
        let LedgerKey { batch_id, received_us, seq, shard, .. } = batch.key;
        self.ids.push(batch_id);
        self.times.push(Instant(received_us));
        self.seqs.push(seq);
        self.shards.push(shard);
        self.projects.push(batch.project.0);
        self.counts.push(batch);
    }
}

impl GroupRows {
    fn push<'a>(
        &mut self,
        (id, received_us, seq, shard): (Uuid, i64, i64, i32),
        batches: impl Iterator<Item = (u8, &'a LedgerBatch)>,
    ) {
        self.ids.push(id);
        self.times.push(Instant(received_us));
        self.seqs.push(seq);
        self.shards.push(shard);
        let first = self.batches.places.len();
        for (place, batch) in batches {
            self.batches.places.push(place.into());
            self.batches.projects.push(batch.project.0);
            self.batches.counts.push(batch);
        }
        self.firsts.push(number(first) + 1);
        self.lasts.push(number(self.batches.places.len()));
        self.sums.push_sums(&self.batches.counts, first);
    }
}

#[cfg(test)]
mod tests {
    use millrace_event::{BatchGroup, EntryId};

    use super::*;

    fn batch(group: Option<BatchGroup>, ms: u64, stored: u32) -> LedgerBatch {
        let batch_id = group.map_or_else(Uuid::now_v7, BatchGroup::batch_id);
        let key = LedgerKey::new(batch_id, EntryId { ms, seq: 7 }, 3).expect("a valid time");
        let outcome = Outcome { stored, duplicate: 5 - stored, ..Outcome::default() };
        LedgerBatch { key, project: ProjectId(1), count: 5, outcome }
    }

    #[test]
    fn the_batches_of_an_entry_and_a_group_share_a_row_in_the_order_of_their_places() {
        let first = BatchGroup::first(1, 0);
        let places: Vec<_> = std::iter::successors(Some(first), |group| group.next()).take(5).collect();
        let other = BatchGroup::first(0, 0);
        let at = |place: usize, ms| batch(Some(places[place]), ms, 5);
        let alone = LedgerBatch { key: at(3, 9).key.alone(), ..at(3, 9) };
        let rows = LedgerRows::new([
            at(2, 9),
            batch(None, 9, 1),
            at(0, 9),
            at(1, 8),
            alone,
            batch(Some(places[4]), 9, 4),
            batch(Some(other), 9, 5),
        ]);
        let group = &rows.group;
        assert_eq!(group.ids, [other.id, first.id, first.id]);
        assert_eq!(group.times, [Instant(9_000), Instant(8_000), Instant(9_000)]);
        assert_eq!(group.batches.places, [1, 2, 1, 3, 5]);
        assert_eq!((&group.firsts[..], &group.lasts[..]), (&[1, 2, 3][..], &[1, 2, 5][..]));
        assert_eq!(group.batches.counts.duplicate, [0, 0, 0, 0, 1]);
        assert_eq!((&group.sums.accepted[..], &group.sums.stored[..]), (&[5, 5, 15][..], &[5, 5, 14][..]));
        assert!(rows.single.ids.contains(&alone.key.batch_id) && rows.single.ids.len() == 2);
        assert!(rows.single.ids.is_sorted());
    }

    #[test]
    fn the_key_of_a_batch_is_its_place_in_the_row_of_its_group_unless_it_is_alone() {
        let (group, key) = (BatchGroup::first(1, 0), batch(Some(BatchGroup::first(1, 0)), 9, 5).key);
        let keys = LedgerKeys::new(&[(0, key), (1, key.alone()), (2, key.of_reused_key())]);
        assert_eq!(keys.rows, [group.id, group.batch_id(), key.of_reused_key().batch_id]);
        assert_eq!(keys.places, [Some(1), None, None]);
    }
}
