//! Dead letters as operators see them, and which of them they ask for. Pure, and the same for every store.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;
use millrace_event::BatchId;
use millrace_event::plan::ProjectId;

/// A row of `dead_letters`, without the payload, which may be large: [`super::Store::letter_payloads`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// Whose it is; `ProjectId(0)` when that could not be told.
    pub project: ProjectId,
    /// The project's name, when there is such a project.
    pub project_name: Option<String>,
    /// The batch it came in.
    pub batch_id: BatchId,
    /// When the batch was received.
    pub received_at: OffsetDateTime,
    /// The event's place in its batch; `None` when the whole entry is dead.
    pub event_index: Option<u32>,
    /// Events it counts.
    pub event_count: u64,
    /// What the database answered, when it was the database.
    pub sqlstate: Option<String>,
    /// Why it is dead.
    pub reason: String,
    /// How long the payload is.
    pub payload_bytes: u64,
    /// The version of the worker that wrote it.
    pub worker_version: String,
    /// When it was written.
    pub created_at: OffsetDateTime,
    /// When it was last tried again and refused again.
    pub attempted_at: Option<OffsetDateTime>,
    /// When its events were stored after all. From then on it counts nothing.
    pub redriven_at: Option<OffsetDateTime>,
    /// The redrive that did it.
    pub redrive_id: Option<Uuid>,
}

/// Which dead letters. Every condition that is there must be met.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LetterFilter {
    /// Of the project with this name.
    pub project: Option<String>,
    /// WriteOutcome then or later.
    pub since: Option<OffsetDateTime>,
    /// WriteOutcome before.
    pub until: Option<OffsetDateTime>,
    /// With exactly this SQLSTATE.
    pub sqlstate: Option<String>,
    /// With this text in the reason, in whatever case.
    pub reason: Option<String>,
    /// With one of these numbers; empty is any.
    pub ids: Vec<i64>,
    /// Also those that were redriven, which are no longer dead.
    pub also_redriven: bool,
}

/// A name that is nobody's finds nothing; told as an error, so that a slip of the pen is not taken for good news.
pub(super) fn no_such_project(name: &str) -> StoreError {
    StoreError::Invalid(format!("there is no project named {name:?}"))
}
