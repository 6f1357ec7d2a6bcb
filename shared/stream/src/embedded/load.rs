//! What a process must know of a file that it opens: the markers of the batches that are pending. Those of
//! batches without a key are in no table.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::memory_markers::{MemoryMarker, MemoryMarkers};
use super::{markers, queries};

/// Makes the missing markers of pending batches. Those that find no room in memory are written to the file.
pub(super) fn markers_of_entries(file: &Connection, in_memory: &MemoryMarkers) -> rusqlite::Result<()> {
    let in_file = markers::pending(file)?;
    let batches = queries::pending_batches(file)?;
    let missing =
        batches.iter().filter(|batch| !batch.batch_id.is_nil() && !in_file.contains(&batch.batch_id));
    let mut left = Vec::new();
    for batch in missing {
        // No client waits for the outcome any more.
        let keep_ms = markers::keep_ms(false, false);
        let (project, count, received_ms) = (batch.project, batch.count, batch.id.ms);
        let marker = MemoryMarker { project, count, received_ms, keep_ms };
        if !in_memory.load(batch.batch_id, marker) {
            left.push((batch.batch_id, marker));
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    let transaction = Transaction::new_unchecked(file, TransactionBehavior::Immediate)?;
    for (batch_id, marker) in left {
        markers::insert(&transaction, batch_id, &marker, None)?;
    }
    transaction.commit()
}
