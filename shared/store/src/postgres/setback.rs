//! Reasons why a writer's transaction was rolled back, given as rows and entries of its [`super::draft`].

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::error::{CONNECTION, Cause, EventsCause, Failure, cause, cause_in_events};
use crate::StoreError;
use crate::dead_reason::DeadReason;

#[derive(Debug)]
pub(super) enum Setback {
    /// The COPY met a row that is stored.
    DuplicateRow,
    /// An id of `undated_ids` was claimed before.
    DuplicateId,
    /// The database rejects a row: the one with this index in the draft, when the database names it.
    RejectedRow { index: Option<usize>, rejection: DeadReason },
    /// At least one entry is in the ledger.
    Redelivered,
    /// The batches of these entries were written before, from other entries.
    ReusedKeys(Vec<usize>),
    /// The shard has another epoch than the one under which the entries were read.
    EpochReplaced { shard: u16 },
    /// Another transaction won. The same transaction can succeed immediately.
    Race(Failure),
    /// A day of the ledger has no partition.
    NoPartition(Failure),
    /// Repeating the transaction does not help.
    Environment(Failure),
}

impl Setback {
    /// Classifies a failure of the COPY that sent these rows.
    pub(super) fn in_copy(error: &Error, sent: &[usize]) -> Self {
        match cause_in_events(error) {
            EventsCause::Duplicate => Self::DuplicateRow,
            EventsCause::Rejected { line, rejection } => {
                let index = line.and_then(|line| {
                    let last = sent.len().checked_sub(1)?;
                    let offset = usize::try_from(line).unwrap_or(0).saturating_sub(1);
                    Some(sent[offset.min(last)])
                });
                Self::RejectedRow { index, rejection }
            }
            EventsCause::Other(cause) => cause.into(),
        }
    }

    /// As [`Setback::in_copy`], for a COPY that Citus passes on to its nodes: it reports their errors as
    /// internal ones. The most frequent is a duplicate. The next attempt looks up every row, and after
    /// several attempts the careful copy finds out the cause row by row.
    pub(super) fn in_distributed_copy(error: &Error, sent: &[usize]) -> Self {
        if error.code() == Some(&SqlState::INTERNAL_ERROR) {
            return Self::DuplicateRow;
        }
        Self::in_copy(error, sent)
    }
}

impl From<Cause> for Setback {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Race(failure) => Self::Race(failure),
            Cause::NoPartition(failure) => Self::NoPartition(failure),
            Cause::Environment(failure) => Self::Environment(failure),
        }
    }
}

impl From<StoreError> for Setback {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Refused { sqlstate, message } => Self::Environment(Failure::new(&sqlstate, message)),
            other => Self::Environment(Failure::new(CONNECTION, other.to_string())),
        }
    }
}

impl From<Error> for Setback {
    fn from(error: Error) -> Self {
        cause(&error).into()
    }
}
