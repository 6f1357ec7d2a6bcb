//! The record of replicas: whether the Redis of a shard ever had any.
//!
//! A failover leaves the old primary behind. When its init system starts it again, it is a primary without
//! replicas until it is demoted, and what it accepts until then is lost. No setting of it shows that. So the
//! store keeps on record that the shard had replicas, and from then on [`Durability::Strict`] demands
//! `min-replicas-to-write`, with which such a server refuses every write.
//!
//! This module must never take a record back: only an operator knows that no replica is left.

use std::sync::atomic::{AtomicU8, Ordering};

use millrace_store::{Ledger, StoreError};
use millrace_stream::{Durability, DurabilityReport};

/// Nothing is known of replicas.
const NONE: u8 = 0;
/// Replicas were seen, and the store does not have it on record yet.
const SEEN: u8 = 1;
/// The store has it on record.
const RECORDED: u8 = 2;

/// What one process knows of the replicas of every shard.
#[derive(Debug)]
pub(crate) struct ReplicaRecord {
    shards: Vec<AtomicU8>,
}

impl ReplicaRecord {
    pub(crate) fn new(shards: u16) -> Self {
        Self { shards: (0..shards).map(|_| AtomicU8::new(NONE)).collect() }
    }

    /// Takes note of what a check found. Returns what is wrong when the shard had replicas, and its server
    /// would accept writes although it may have been replaced by one of them.
    pub(crate) fn observe(
        &self,
        shard: u16,
        report: &DurabilityReport,
        demanded: Durability,
    ) -> Option<String> {
        let state = self.shards.get(usize::from(shard))?;
        if report.replicas > 0 {
            // A record stays a record.
            state.compare_exchange(NONE, SEEN, Ordering::Relaxed, Ordering::Relaxed).ok();
        }
        let is_alone = report.replicas == 0 && !report.refuses_alone;
        // With replicas, the report itself has the fault.
        let is_fault = demanded == Durability::Strict && is_alone && state.load(Ordering::Relaxed) != NONE;
        is_fault.then(|| {
            format!(
                "the Redis of shard {shard} had replicas, this one has none and accepts writes alone: it may have been \
                 replaced by one of them; set min-replicas-to-write to 1 or more in the configuration of every \
                 server, or see \"A Redis without its replicas\" in docs/runbook.md if it is to have none any more"
            )
        })
    }

    /// Reads the record of a shard. Returns whether it is new to this process.
    pub(crate) async fn read(&self, store: &(impl Ledger + ?Sized), shard: u16) -> Result<bool, StoreError> {
        let Some(state) = self.shards.get(usize::from(shard)) else { return Ok(false) };
        if store.shards_with_replicas().await?.contains(&shard) {
            return Ok(state.swap(RECORDED, Ordering::Relaxed) == NONE);
        }
        // An operator took the record back.
        state.compare_exchange(RECORDED, NONE, Ordering::Relaxed, Ordering::Relaxed).ok();
        Ok(false)
    }

    /// Records what was seen and is not on record. A shard has no record before its first epoch; the next
    /// call finds it.
    pub(crate) async fn write(&self, store: &(impl Ledger + ?Sized), shard: u16) -> Result<(), StoreError> {
        let Some(state) = self.shards.get(usize::from(shard)) else { return Ok(()) };
        if state.load(Ordering::Relaxed) == SEEN && store.record_replicas(shard).await? {
            state.store(RECORDED, Ordering::Relaxed);
            tracing::info!(shard, "recorded that the Redis of the shard has replicas");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(replicas: u32, refuses_alone: bool) -> DurabilityReport {
        DurabilityReport { replicas, refuses_alone, ..DurabilityReport::default() }
    }

    #[test]
    fn a_server_without_the_replicas_that_it_had_is_a_fault_unless_it_refuses_writes_alone() {
        let record = ReplicaRecord::new(2);
        let strict = |shard, report: &DurabilityReport| record.observe(shard, report, Durability::Strict);
        assert_eq!(strict(0, &report(0, false)), None, "it never had any");
        assert_eq!(strict(0, &report(1, true)), None);
        let fault = strict(0, &report(0, false)).expect("a fault");
        assert!(fault.contains("shard 0") && fault.contains("min-replicas-to-write"), "{fault}");
        assert_eq!(strict(0, &report(0, true)), None);
        assert_eq!(strict(1, &report(0, false)), None, "another shard");
        for demanded in [Durability::Relaxed, Durability::Replicated { replicas: 1 }] {
            assert_eq!(record.observe(0, &report(0, false), demanded), None, "{demanded:?}");
        }
    }
}
