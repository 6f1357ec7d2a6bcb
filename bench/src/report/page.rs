//! The page about a run.

use std::path::Path;

use crate::failure::Failure;
use crate::figures::Results;

/// Writes it.
pub fn write(_page: &Path, _results: &Results) -> Result<(), Failure> {
    Ok(())
}
