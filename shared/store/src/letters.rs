//! Dead letters as operators see them, and filters for them. Pure, and the same for every store.

use std::borrow::Cow;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;
use millrace_event::BatchId;
use millrace_event::plan::ProjectId;

/// A row of `dead_letters` without its payload, which may be large: see [`LetterPayload`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetter {
    pub id: i64,
    /// `ProjectId(0)` when the entry was too damaged to tell.
    pub project: ProjectId,
    /// `None` when there is no such project.
    pub project_name: Option<String>,
    pub batch_id: BatchId,
    /// When the batch was received.
    pub received_at: OffsetDateTime,
    /// Index of the event in its batch. `None` when the whole entry is dead.
    pub event_index: Option<u32>,
    /// Events in this letter.
    pub event_count: u64,
    /// `None` when the database did not reject it.
    pub sqlstate: Option<String>,
    /// A [`millrace_event::event::RejectionCode`] in snake case, when the API could not make an event of the
    /// call. The payload is then the call as it was sent, up to a limit.
    pub code: Option<String>,
    pub reason: String,
    /// Size of the payload.
    pub payload_bytes: u64,
    /// Version of the worker that wrote the letter.
    pub worker_version: String,
    pub created_at: OffsetDateTime,
    /// When a redrive was last rejected.
    pub attempted_at: Option<OffsetDateTime>,
    /// When a redrive stored its events. A redriven letter counts no events.
    pub redriven_at: Option<OffsetDateTime>,
    /// The redrive that stored its events.
    pub redrive_id: Option<Uuid>,
}

/// A dead letter to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct NewLetter<'a> {
    pub(super) project: ProjectId,
    /// As in the ledger, so that the letter leads to its ledger row.
    pub(super) batch_id: BatchId,
    pub(super) received_us: i64,
    /// Index of the event in its batch; `None` for the whole entry.
    pub(super) event_index: Option<u32>,
    /// Events in it.
    pub(super) event_count: u32,
    pub(super) sqlstate: Option<&'a str>,
    pub(super) code: Option<&'a str>,
    pub(super) reason: Cow<'a, str>,
    pub(super) payload: &'a [u8],
}

impl<'a> NewLetter<'a> {
    /// The code under which its events are counted as refused.
    pub(super) fn label(&self) -> &'a str {
        self.code.or(self.sqlstate).unwrap_or("damaged_entry")
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LetterPayload {
    /// The id of the letter.
    pub id: i64,
    /// Decode it with [`crate::rows_of_letter`].
    pub payload: Vec<u8>,
}

/// Selects dead letters that meet every condition. The default selects all that are not redriven.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LetterFilter {
    /// Name of the project.
    pub project: Option<String>,
    /// Created at this time or later.
    pub since: Option<OffsetDateTime>,
    /// Created before this time.
    pub until: Option<OffsetDateTime>,
    /// Exactly this SQLSTATE.
    pub sqlstate: Option<String>,
    /// Exactly this code.
    pub code: Option<String>,
    /// Text in the reason, ignoring case.
    pub reason: Option<String>,
    /// One of these ids. Empty is any.
    pub ids: Vec<i64>,
    /// Include redriven letters.
    pub also_redriven: bool,
}

/// An unknown name is an error, so that a typo is not taken for an empty result.
pub(super) fn no_such_project(name: &str) -> StoreError {
    StoreError::Invalid(format!("there is no project named {name:?}"))
}
