//! What is left of an entry that cannot be read.

use bytes::Bytes;

use crate::event::BatchId;
use crate::plan::ProjectId;

/// An entry that names no batches: what is wrong, and what can be read of it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Damage {
    /// What is wrong, for operators.
    pub reason: String,
    /// Only of version 1, as are the project and the count.
    pub batch_id: Option<BatchId>,
    pub project: Option<ProjectId>,
    pub count: Option<u32>,
    /// The rows of version 1, or all fields if there are none.
    pub raw: Bytes,
}
