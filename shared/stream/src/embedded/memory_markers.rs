//! Markers of batches without a key, in memory: no client knows such a batch id before it is acknowledged, so
//! only this process can repeat it.
//!
//! A marker is kept while its batch is pending and for some time after it was settled. When there are too
//! many, those of settled batches are forgotten early: the store has these batches. The caller must put
//! markers that find no room into the file.
//!
//! This module must never show a change of a transaction that is not on disk to others, or keep more markers
//! than its limit.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard};

use crate::{BatchId, BatchState, Outcome};
use millrace_event::plan::ProjectId;

/// Markers in memory, at most: about 12 MiB.
const MARKERS_MAX: usize = 100_000;

#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryMarker {
    pub(super) project: ProjectId,
    /// Events in the batch.
    pub(super) count: u32,
    pub(super) received_ms: u64,
    /// How long the marker is kept after the batch was settled.
    pub(super) keep_ms: u64,
}

/// The markers of batches that are on disk.
pub(super) struct MemoryMarkers {
    known: Mutex<Known>,
    capacity: usize,
}

#[derive(Default)]
struct Known {
    markers: HashMap<BatchId, (MemoryMarker, Option<SettledState>)>,
    /// The settled ones.
    expiring: BTreeSet<(u64, BatchId)>,
}

#[derive(Clone, Copy)]
struct SettledState {
    outcome: Outcome,
    expires_ms: u64,
}

/// The markers as one transaction sees and changes them.
pub(super) struct MarkerChanges<'a> {
    known: &'a MemoryMarkers,
    changed: ChangedMarkers,
}

/// What a transaction changes in the markers.
#[derive(Default)]
pub(super) struct ChangedMarkers {
    added: HashMap<BatchId, MemoryMarker>,
    settled: Vec<(BatchId, Outcome)>,
}

impl Default for MemoryMarkers {
    fn default() -> Self {
        Self::with_capacity(MARKERS_MAX)
    }
}

impl MemoryMarkers {
    fn with_capacity(capacity: usize) -> Self {
        Self { known: Mutex::default(), capacity }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no thread panics while it holds the markers")
    }

    /// Begins the changes of a transaction.
    pub(super) fn begin(&self) -> MarkerChanges<'_> {
        MarkerChanges { known: self, changed: ChangedMarkers::default() }
    }

    /// Adds the marker of a pending batch that is on disk. False when there is no room.
    pub(super) fn load(&self, batch_id: BatchId, marker: MemoryMarker) -> bool {
        let mut known = self.known();
        let has_room = known.markers.len() < self.capacity;
        if has_room {
            known.markers.insert(batch_id, (marker, None));
        }
        has_room
    }

    /// `None` for a batch that has no marker here, or had one that has expired.
    pub(super) fn state(&self, batch_id: BatchId, now_ms: u64) -> Option<BatchState> {
        match self.known().markers.get(&batch_id)? {
            (MemoryMarker { project, count, .. }, None) => {
                Some(BatchState::Pending { project: *project, count: *count })
            }
            (marker, Some(SettledState { outcome, expires_ms })) => (now_ms < *expires_ms)
                .then_some(BatchState::Settled { project: marker.project, outcome: *outcome }),
        }
    }

    /// Makes the changes of a transaction that is on disk.
    pub(super) fn commit(&self, changed: ChangedMarkers, now_ms: u64) {
        let ChangedMarkers { added, settled } = changed;
        let mut known = self.known();
        let Known { markers, expiring } = &mut *known;
        for (batch_id, outcome) in settled {
            if let Some((marker, state)) = markers.get_mut(&batch_id) {
                let expires_ms = now_ms + marker.keep_ms;
                *state = Some(SettledState { outcome, expires_ms });
                expiring.insert((expires_ms, batch_id));
            }
        }
        for (batch_id, marker) in added {
            // The outcome of an earlier batch of this id has expired.
            if let Some((_, Some(state))) = known.markers.insert(batch_id, (marker, None)) {
                known.expiring.remove(&(state.expires_ms, batch_id));
            }
        }
        while let Some(&(expires_ms, batch_id)) = known.expiring.first() {
            if expires_ms > now_ms && known.markers.len() <= self.capacity {
                break;
            }
            known.expiring.pop_first();
            known.markers.remove(&batch_id);
        }
    }
}

impl MarkerChanges<'_> {
    /// When the batch was received, if it has a marker here.
    pub(super) fn received_ms(&self, batch_id: BatchId, now_ms: u64) -> Option<u64> {
        if let Some(marker) = self.changed.added.get(&batch_id) {
            return Some(marker.received_ms);
        }
        let known = self.known.known();
        let (marker, state) = known.markers.get(&batch_id)?;
        state.is_none_or(|state| now_ms < state.expires_ms).then_some(marker.received_ms)
    }

    /// Adds the marker of a batch that is admitted. False when there is no room.
    pub(super) fn add(&mut self, batch_id: BatchId, marker: MemoryMarker) -> bool {
        let known = self.known.known();
        // Markers of settled batches make room.
        let taken = known.markers.len() - known.expiring.len() + self.changed.added.len();
        let has_room = taken < self.known.capacity;
        if has_room {
            self.changed.added.insert(batch_id, marker);
        }
        has_room
    }

    /// Adds the outcome of a batch to its marker. False when it has no marker here.
    pub(super) fn settle(&mut self, batch_id: BatchId, outcome: Outcome) -> bool {
        let is_known = self.known.known().markers.contains_key(&batch_id);
        if is_known {
            self.changed.settled.push((batch_id, outcome));
        }
        is_known
    }

    /// The changes, for [`MemoryMarkers::commit`].
    pub(super) fn into_changed(self) -> ChangedMarkers {
        self.changed
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const MARKER: MemoryMarker =
        MemoryMarker { project: ProjectId(1), count: 2, received_ms: 3, keep_ms: 10 };
    const STORED: Outcome = Outcome { stored: 2, duplicate: 0, dead: 0, conflict: 0 };

    fn id(number: u128) -> BatchId {
        Uuid::from_u128(number)
    }

    fn commit(markers: &MemoryMarkers, now_ms: u64, add: &[u128], settle: &[u128]) -> Vec<bool> {
        let mut changes = markers.begin();
        let results = add.iter().map(|number| changes.add(id(*number), MARKER)).collect();
        settle.iter().for_each(|number| assert!(changes.settle(id(*number), STORED)));
        let changed = changes.into_changed();
        markers.commit(changed, now_ms);
        results
    }

    #[test]
    fn a_marker_is_seen_by_its_transaction_at_once_and_by_others_after_the_commit() {
        let markers = MemoryMarkers::with_capacity(10);
        let mut changes = markers.begin();
        assert!(changes.add(id(1), MARKER));
        assert_eq!((changes.received_ms(id(1), 0), markers.state(id(1), 0)), (Some(3), None));
        drop(changes);
        assert_eq!(markers.begin().received_ms(id(1), 0), None, "the transaction failed");
        commit(&markers, 0, &[1], &[]);
        let pending = BatchState::Pending { project: ProjectId(1), count: 2 };
        assert_eq!(markers.state(id(1), u64::MAX), Some(pending));
    }

    #[test]
    fn an_outcome_is_kept_for_its_time_and_then_forgotten() {
        let markers = MemoryMarkers::with_capacity(10);
        commit(&markers, 0, &[1], &[]);
        commit(&markers, 100, &[], &[1]);
        let settled = BatchState::Settled { project: ProjectId(1), outcome: STORED };
        assert_eq!((markers.state(id(1), 109), markers.state(id(1), 110)), (Some(settled), None));
        assert_eq!(markers.begin().received_ms(id(1), 109), Some(3));
        commit(&markers, 110, &[2], &[]);
        assert_eq!(markers.known().markers.len(), 1);
    }

    #[test]
    fn outcomes_make_room_and_pending_batches_do_not() {
        let markers = MemoryMarkers::with_capacity(3);
        assert_eq!(commit(&markers, 0, &[1, 2, 3, 4], &[]), [true, true, true, false]);
        commit(&markers, 0, &[], &[1]);
        assert_eq!(commit(&markers, 1, &[5, 6], &[]), [true, false]);
        assert_eq!(markers.state(id(1), 1), None, "its outcome was forgotten early");
        assert!([2, 3, 5].iter().all(|number| markers.state(id(*number), 1).is_some()));
        assert!(!markers.load(id(7), MARKER));
    }
}
