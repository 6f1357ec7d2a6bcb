//! The ids of batches without an idempotency key. Batches of one shard that are received one after the other
//! have places in one group, because they are usually admitted in one entry; the ledger keeps the batches of
//! an entry and a group in one row.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use millrace_event::{BatchGroup, BatchId};
use uuid::Uuid;

/// Makes the ids, for each shard.
pub struct BatchIds {
    /// The place that was given last.
    last: Vec<Mutex<Option<BatchGroup>>>,
}

impl BatchIds {
    pub fn new(shards: u16) -> Self {
        Self { last: (0..shards).map(|_| Mutex::default()).collect() }
    }

    /// An id that no other batch has.
    pub fn next(&self, shard: u16) -> BatchId {
        let mut last = self.last[usize::from(shard)].lock().unwrap_or_else(PoisonError::into_inner);
        let group = last.and_then(BatchGroup::next).unwrap_or_else(new_group);
        *last = Some(group);
        group.batch_id()
    }
}

fn new_group() -> BatchGroup {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let now_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
    BatchGroup::first(now_us, Uuid::new_v4().as_u64_pair().1)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn consecutive_batches_of_a_shard_share_a_group_until_it_is_full() {
        let ids = BatchIds::new(2);
        let made: Vec<_> = (0..600).map(|_| (ids.next(0), ids.next(1))).collect();
        for shard in
            [made.iter().map(|ids| ids.0).collect::<Vec<_>>(), made.iter().map(|ids| ids.1).collect()]
        {
            assert_eq!(shard.iter().collect::<HashSet<_>>().len(), 600, "no id is given twice");
            let groups = shard.iter().map(|id| BatchGroup::of(*id).expect("a group").id);
            assert_eq!(groups.collect::<HashSet<_>>().len(), 3);
        }
        assert_ne!(BatchGroup::of(made[0].0).unwrap().id, BatchGroup::of(made[0].1).unwrap().id);
    }
}
