//! What is made of figures: a file for programs, a table for whoever waits, a page with charts for everybody else.
//!
//! What this room must never do: round a figure into a goal, or leave out one that was not reached.

mod chart;
mod goals;
mod page;
mod table;

use std::fs;
use std::path::Path;

pub use self::page::write;
pub use self::table::{ceiling_line, line, text};
use crate::failure::Failure;
use crate::figures::Results;

/// Reads the figures of an earlier run.
///
/// # Errors
/// When they are not there, or of another version.
pub fn read(file: &Path) -> Result<Results, Failure> {
    let text = fs::read(file).map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    Ok(serde_json::from_slice(&text)?)
}

/// Keeps figures for later.
///
/// # Errors
/// When they cannot be written.
pub fn keep(file: &Path, results: &Results) -> Result<(), Failure> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(fs::write(file, serde_json::to_vec_pretty(results)?)?)
}
