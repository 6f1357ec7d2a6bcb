//! Checks of rows after they were decompressed.

use super::frame;
use crate::plan::ProjectId;
use crate::row;

/// Unpacks rows from [`super::pack_rows`], as they are in a dead letter. Does the same checks as
/// [`super::EntryBatch::check`].
///
/// # Errors
/// What is wrong with the data, for operators.
pub fn unpack_dead(project: ProjectId, count: u32, data: &[u8]) -> Result<Vec<u8>, String> {
    let rows = frame::decompress_unknown_size(data)?;
    check_rows(project, count, &rows)?;
    Ok(rows)
}

/// Unpacks what a dead letter of a batch has, without a check.
///
/// # Errors
/// What is wrong with the data, for operators.
pub fn unpack_any(data: &[u8]) -> Result<Vec<u8>, String> {
    frame::decompress_unknown_size(data)
}

/// Checks the number, structure and project of rows.
pub(super) fn check_rows(project: ProjectId, count: u32, rows: &[u8]) -> Result<(), String> {
    let mut found = 0_u32;
    for row in row::split(rows) {
        let owner = row::project(row.map_err(|error| error.to_string())?);
        if owner != project {
            return Err(format!("row {found} belongs to project {owner}"));
        }
        found += 1;
    }
    if found != count {
        return Err(format!("found {found} rows, expected {count}"));
    }
    Ok(())
}
