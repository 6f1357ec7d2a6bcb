//! The batches of an entry, and their compressed rows.

use bytes::Bytes;

use super::frame;
use super::new_batch::{Content, NewBatch};
use super::rows::check_rows;
use crate::event::BatchId;
use crate::limit::{self, Charge};
use crate::plan::ProjectId;

/// A batch in an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryBatch {
    pub batch_id: BatchId,
    pub project: ProjectId,
    /// Events in the batch.
    pub count: u32,
    /// Size of its rows before compression, in bytes.
    pub rows_bytes: u32,
    /// Whether the stream admitted it. The rows of other batches are to be skipped.
    pub is_admitted: bool,
}

/// The batches of an entry, as the stream holds them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackedEntry {
    /// In the order of their rows, at least one; at most [`super::BATCHES_MAX`].
    pub batches: Vec<EntryBatch>,
    /// The compressed rows of all batches.
    pub data: Bytes,
    /// What the events of each batch took of limits. Empty when no batch was charged to a limit.
    pub charges: Vec<Vec<Charge>>,
}

impl PackedEntry {
    /// Makes one entry of these batches, all of them admitted.
    pub fn pack<'a>(batches: impl IntoIterator<Item = &'a NewBatch>) -> Self {
        let (mut entry, mut frames, mut together) = (Vec::new(), Vec::new(), Vec::new());
        let mut charges = Vec::new();
        for batch in batches {
            let NewBatch { batch_id, project, count, rows_bytes, ref content, .. } = *batch;
            entry.push(EntryBatch { batch_id, project, count, rows_bytes, is_admitted: true });
            charges.push(batch.charges.iter().map(|limited| limited.charge.clone()).collect::<Vec<_>>());
            match content {
                Content::Rows(rows) => together.extend_from_slice(rows),
                Content::Frame(frame) => {
                    if !together.is_empty() {
                        append_frame(&mut frames, &mut together);
                    }
                    frames.extend_from_slice(frame);
                }
            }
        }
        if frames.is_empty() || !together.is_empty() {
            append_frame(&mut frames, &mut together);
        }
        if charges.iter().all(Vec::is_empty) {
            charges.clear();
        }
        Self { batches: entry, data: frames.into(), charges }
    }

    /// The field `l`, which only an entry with charges has.
    pub fn charges_field(&self) -> Option<Vec<u8>> {
        limit::encode_charges(self.charges.iter().map(Vec::as_slice))
    }

    /// What the events of an admitted batch took of limits.
    pub fn charges_of(&self, batch_id: BatchId) -> &[Charge] {
        let charged = self.batches.iter().zip(&self.charges);
        let mut of_batch = charged.filter(|(batch, _)| batch.is_admitted && batch.batch_id == batch_id);
        of_batch.next().map_or(&[], |(_, charges)| charges.as_slice())
    }

    /// The batches that were admitted, in order.
    pub fn admitted(&self) -> impl Iterator<Item = &EntryBatch> {
        self.batches.iter().filter(|batch| batch.is_admitted)
    }

    /// Events in the batches that were admitted.
    pub fn events(&self) -> u64 {
        self.admitted().map(|batch| u64::from(batch.count)).sum()
    }

    /// Compressed size, in bytes.
    pub fn packed_bytes(&self) -> u32 {
        u32::try_from(self.data.len()).unwrap_or(u32::MAX)
    }

    /// Decompresses the rows, and returns those of each admitted batch, in order. They are as many bytes
    /// as the entry says, and not checked otherwise: see [`EntryBatch::check`].
    ///
    /// # Errors
    /// What is wrong with the data, for operators.
    pub fn unpack(&self) -> Result<Vec<(EntryBatch, Bytes)>, String> {
        let sizes = || self.batches.iter().map(|batch| batch.rows_bytes as usize);
        let rows = frame::decompress(&self.data, sizes().sum())?;
        let mut begin = 0;
        let each = self.batches.iter().zip(sizes()).map(|(batch, bytes)| {
            let end = begin + bytes;
            let rows = rows.slice(begin..end);
            begin = end;
            (*batch, rows)
        });
        Ok(each.filter(|(batch, _)| batch.is_admitted).collect())
    }
}

impl EntryBatch {
    /// Checks the number, structure and project of the rows of this batch.
    ///
    /// # Errors
    /// What is wrong with them, for operators.
    pub fn check(&self, rows: &[u8]) -> Result<(), String> {
        check_rows(self.project, self.count, rows)
    }
}

/// The parts of the compressed size of an entry that its admitted batches take, in order. They add up to all
/// of it.
pub fn size_shares(batches: &[EntryBatch], packed_bytes: u32) -> Vec<u32> {
    let sizes =
        || batches.iter().filter(|batch| batch.is_admitted).map(|batch| u64::from(batch.rows_bytes).max(1));
    let whole = sizes().sum::<u64>().max(1);
    let (mut rows, mut given) = (0, 0);
    let share = |size: u64| {
        rows += size;
        // At most `packed_bytes`, because no part is larger than the whole.
        let until = u32::try_from(u64::from(packed_bytes) * rows / whole).unwrap_or(packed_bytes);
        let share = until - given;
        given = until;
        share
    };
    sizes().map(share).collect()
}

/// Compresses rows into a frame after the other frames.
fn append_frame(frames: &mut Vec<u8>, rows: &mut Vec<u8>) {
    frames.extend_from_slice(&frame::pack_shared(rows));
    rows.clear();
}
