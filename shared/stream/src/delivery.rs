//! Deliveries from the stream to a worker's lane, and the settlements that the lane returns.

use millrace_event::entry::{Damage, PackedEntry};
use millrace_event::limit::Refund;
use millrace_event::plan::ProjectId;
use millrace_event::{BatchId, EntryId, Outcome};

/// One entry delivered to a consumer. It is pending for that consumer until it is settled.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub id: EntryId,
    /// How often the entry was delivered, this delivery included (1 = first). Exact only after a take-over.
    pub delivered: u32,
    /// The batches of the entry, or its damage with the fields that could be read.
    pub entry: Result<PackedEntry, Damage>,
}

/// The result of [`crate::Reader::take_over`].
#[derive(Clone, Debug, Default)]
pub struct TakeOver {
    /// Entries that are now pending for the calling consumer.
    pub deliveries: Vec<Delivery>,
    /// Entries that were pending but are no longer in the stream, because another program trimmed or deleted
    /// them. Their batches are lost: count them and raise an alarm.
    pub vanished: Vec<EntryId>,
}

/// An entry that is committed in the store, to be removed from the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settlement {
    pub id: EntryId,
    /// Compressed size of the entry, as it was admitted.
    pub bytes: u32,
    /// Its admitted batches.
    pub batches: Vec<SettledBatch>,
    /// What is given back to limits of customers, each with the place of its batch in `batches`.
    pub refunds: Vec<(usize, Refund)>,
}

impl Settlement {
    /// Splits settlements into calls of at most this many batches. An entry is settled in one call, even
    /// if it has more.
    pub(crate) fn calls(settlements: &[Self], batches_max: usize) -> impl Iterator<Item = &[Self]> {
        let mut left = settlements;
        std::iter::from_fn(move || {
            let mut batches = 0;
            let fits = |settlement: &&Self| {
                batches += settlement.batches.len().max(1);
                batches <= batches_max
            };
            let entries = left.iter().take_while(fits).count().max(1).min(left.len());
            let call;
            (call, left) = left.split_at(entries);
            (!call.is_empty()).then_some(call)
        })
    }
}

/// A batch of an entry that is settled.
///
/// For an entry that was too damaged to name its batch or project, the fields are those under which the store
/// keeps its dead letter. No marker has such an id. Redis then counts `count` events as accepted and charges
/// `outcome.stored` of them, because a batch without a marker was appended without admission.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SettledBatch {
    /// The batch, or [`millrace_event::entry::id_of_damaged`] when the entry names none.
    pub batch_id: BatchId,
    /// The project, or `ProjectId(0)` when the entry names none.
    pub project: ProjectId,
    /// Events in the batch, as it was admitted.
    pub count: u32,
    /// The outcome in the store. Duplicates and dead letters are refunded.
    pub outcome: Outcome,
}

/// The batches that are not stored yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backlog {
    pub entries: u64,
    /// Events in them.
    pub events: u64,
    /// Bytes of their packed rows.
    pub bytes: u64,
    /// Age of the oldest batch, in milliseconds on the stream's clock; 0 when there is none.
    pub oldest_age_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_settles_whole_entries_up_to_a_number_of_batches() {
        let batch = SettledBatch {
            batch_id: BatchId::nil(),
            project: ProjectId(1),
            count: 1,
            outcome: Outcome::default(),
        };
        let settlement = |batches: usize| Settlement {
            id: EntryId::default(),
            bytes: 1,
            batches: vec![batch; batches],
            refunds: Vec::new(),
        };
        let calls = |sizes: &[usize]| -> Vec<usize> {
            let settlements: Vec<_> = sizes.iter().map(|size| settlement(*size)).collect();
            Settlement::calls(&settlements, 10).map(<[_]>::len).collect()
        };
        assert_eq!(calls(&[4, 6, 1]), [2, 1]);
        assert_eq!(calls(&[4, 7, 1]), [1, 2]);
        assert_eq!(calls(&[11, 1, 0]), [1, 2], "an entry is settled in one call");
        assert_eq!(calls(&[]), [] as [usize; 0]);
    }
}
