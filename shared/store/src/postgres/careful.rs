//! The careful copy, for rows that the optimistic copy could not store: small units under savepoints, and row
//! by row where a unit fails. Slow, but it always ends: every row becomes stored, duplicate or rejected.

use std::collections::HashSet;

use super::attempt::Attempt;
use super::draft::Draft;
use super::selection::Selection;
use super::setback::Setback;
use super::writer_session::{WriterSession, finish_copy, send_rows};
use crate::WriteOutcome;

/// Rows copied under one savepoint.
const UNIT_ROWS: usize = 64;

/// Writes the draft in one transaction and finds out row by row what cannot be stored.
pub(super) async fn write_carefully(
    writer: &WriterSession,
    draft: &mut Draft<'_>,
) -> Result<Vec<WriteOutcome>, Setback> {
    let rows = Selection::of(draft).lookups(draft);
    writer.mark_known(draft, &rows).await?;
    writer.client().batch_execute("BEGIN").await?;
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
    match copy_under_savepoint(writer, draft, &[row]).await {
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
    let sent = send_rows(&mut sink, draft, rows).await?;
    let result = finish_copy(sink, rows, sent).await;
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
