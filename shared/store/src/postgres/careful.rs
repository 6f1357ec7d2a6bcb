//! The careful copy, for rows that the optimistic copy could not store: small units under savepoints, and row
//! by row where a unit fails. Slow, but it always ends: every row becomes stored, duplicate or rejected.

use std::collections::HashSet;

use super::attempt::Attempt;
use super::copy::Instant;
use super::distribution;
use super::draft::Draft;
use super::selection::Selection;
use super::setback::Setback;
use super::writer_session::WriterSession;
use crate::WriteOutcome;
use crate::dead_reason::DeadReason;
use millrace_event::row::Row;

/// Rows copied under one savepoint.
const UNIT_ROWS: usize = 64;
/// SQLSTATE of a text that is not UTF-8.
const NOT_TEXT: &str = "22021";

/// Writes the draft in one transaction and finds out row by row what cannot be stored.
pub(super) async fn write_carefully(
    writer: &WriterSession,
    draft: &mut Draft<'_>,
) -> Result<Vec<WriteOutcome>, Setback> {
    let rows = Selection::of(draft).lookups(draft);
    writer.mark_known(draft, &rows).await?;
    writer.client().batch_execute("BEGIN").await?;
    if writer.statements.is_distributed() {
        distribution::use_two_phases(writer.client()).await?;
    }
    let mut copied = HashSet::new();
    loop {
        // A rejected row makes room for an equal one after it.
        let selected = Selection::of(draft);
        let rest: Vec<_> = selected.rows.iter().copied().filter(|row| !copied.contains(row)).collect();
        if rest.is_empty() {
            let attempt = Attempt::sending(draft, selected);
            writer.commit(&attempt, async { Ok(()) }).await?;
            return Ok(attempt.into_outcomes());
        }
        for unit in rest.chunks(UNIT_ROWS) {
            copy_unit(writer, draft, unit, &mut copied).await?;
        }
    }
}

async fn copy_unit(
    writer: &WriterSession,
    draft: &mut Draft<'_>,
    unit: &[usize],
    copied: &mut HashSet<usize>,
) -> Result<(), Setback> {
    match copy_under_savepoint(writer, draft, unit).await {
        Ok(()) => copied.extend(unit),
        Err(Setback::DuplicateRow | Setback::RejectedRow { .. }) => {
            for &row in unit {
                copy_row(writer, draft, row, copied).await?;
            }
        }
        Err(setback) => return Err(setback),
    }
    Ok(())
}

async fn copy_row(
    writer: &WriterSession,
    draft: &mut Draft<'_>,
    row: usize,
    copied: &mut HashSet<usize>,
) -> Result<(), Setback> {
    let stored = match writer.statements.is_distributed() {
        true => insert_under_savepoint(writer, draft, row).await,
        false => copy_under_savepoint(writer, draft, &[row]).await,
    };
    match stored {
        Ok(()) => {
            copied.insert(row);
        }
        Err(Setback::DuplicateRow) => writer.mark_stored(draft, row).await?,
        Err(Setback::RejectedRow { rejection, .. }) => draft.mark_rejected(row, rejection),
        Err(setback) => return Err(setback),
    }
    Ok(())
}

/// Copies all of these rows, or none of them and leaves the transaction usable.
async fn copy_under_savepoint(
    writer: &WriterSession,
    draft: &Draft<'_>,
    rows: &[usize],
) -> Result<(), Setback> {
    writer.client().batch_execute("SAVEPOINT unit").await?;
    let mut sink = writer.start_copy().await?;
    let sent = writer.send_rows(&mut sink, draft, rows).await?;
    let result = writer.finish_copy(sink, rows, sent).await;
    end_savepoint(writer, result).await
}

/// Keeps what was done since the savepoint, or undoes it when rows are the cause of the failure.
async fn end_savepoint(writer: &WriterSession, result: Result<(), Setback>) -> Result<(), Setback> {
    let ending = match result {
        Ok(()) => "RELEASE SAVEPOINT unit",
        Err(Setback::DuplicateRow | Setback::RejectedRow { .. }) => {
            "ROLLBACK TO SAVEPOINT unit; RELEASE SAVEPOINT unit"
        }
        Err(setback) => return Err(setback),
    };
    writer.client().batch_execute(ending).await?;
    result
}

/// As [`copy_under_savepoint`] for one row where `events` is distributed: an INSERT reports the cause of its
/// failure, and a COPY does not.
async fn insert_under_savepoint(
    writer: &WriterSession,
    draft: &Draft<'_>,
    row: usize,
) -> Result<(), Setback> {
    let mut result = insert(writer, draft, row).await;
    // On a node, a row that meets a partition that is attached at this moment looks like one that violates a
    // CHECK. Its second attempt finds the partition.
    if matches!(result, Err(Setback::RejectedRow { .. })) {
        result = insert(writer, draft, row).await;
    }
    result
}

async fn insert(writer: &WriterSession, draft: &Draft<'_>, row: usize) -> Result<(), Setback> {
    let sent = &draft.rows[row];
    let received_at = Instant(draft.entries[sent.entry as usize].ledger.received_us);
    let rejected = |rejection| Setback::RejectedRow { index: Some(row), rejection };
    let event = Row::read(sent.bytes)
        .map_err(|error| rejected(DeadReason::by_database(NOT_TEXT, error.to_string())))?;
    writer.client().batch_execute("SAVEPOINT unit").await?;
    let result = match writer.statements.add_event(writer.client(), &event, received_at).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Setback::DuplicateRow),
        Err(error) => Err(Setback::in_copy(&error, &[row])),
    };
    end_savepoint(writer, result).await
}
