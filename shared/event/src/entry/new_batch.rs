//! A batch on its way into an entry.

use bytes::Bytes;

use super::bounds::ROWS_BYTES_MAX;
use super::frame;
use crate::event::BatchId;
use crate::limit::LimitedCharge;
use crate::plan::ProjectId;

/// Rows of at least this size are compressed in a frame of their own. Those who make entries compress one
/// after the other, while those who make batches do so at the same time; and in a frame that is shared with
/// other batches, so many rows would take only a few percent less.
const OWN_FRAME_BYTES_MIN: usize = 32 << 10;

/// A batch that is to be admitted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewBatch {
    pub batch_id: BatchId,
    pub project: ProjectId,
    /// Events in the batch.
    pub count: u32,
    /// Size of the rows before compression, in bytes.
    pub(super) rows_bytes: u32,
    pub(super) content: Content,
    /// What its events take of limits, by counter. Usually empty.
    pub charges: Vec<LimitedCharge>,
}

/// The rows of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// To be compressed together with those of other batches.
    Rows(Bytes),
    /// A frame of their own.
    Frame(Bytes),
}

impl NewBatch {
    /// A batch of `count` rows. Compresses them if they are many.
    ///
    /// # Panics
    /// When the rows are larger than [`ROWS_BYTES_MAX`]. The API's limit on bodies prevents that.
    pub fn new(batch_id: BatchId, project: ProjectId, count: u32, rows: Vec<u8>) -> Self {
        assert!(rows.len() <= ROWS_BYTES_MAX, "the limit on bodies bounds the rows");
        let rows_bytes = u32::try_from(rows.len()).expect("bounded above");
        let content = if rows.len() < OWN_FRAME_BYTES_MIN {
            Content::Rows(rows.into())
        } else {
            Content::Frame(frame::pack_rows(&rows))
        };
        Self { batch_id, project, count, rows_bytes, content, charges: Vec::new() }
    }

    /// The same batch with these charges, each of another counter.
    #[must_use]
    pub fn with_charges(self, charges: Vec<LimitedCharge>) -> Self {
        Self { charges, ..self }
    }

    /// Size of the rows before compression, in bytes.
    pub fn rows_bytes(&self) -> usize {
        self.rows_bytes as usize
    }

    /// Bytes of memory that the batch takes.
    pub fn held_bytes(&self) -> usize {
        match &self.content {
            Content::Rows(bytes) | Content::Frame(bytes) => bytes.len(),
        }
    }

    /// The same rows as another batch.
    #[must_use]
    pub fn with_id(&self, batch_id: BatchId) -> Self {
        Self { batch_id, ..self.clone() }
    }
}
