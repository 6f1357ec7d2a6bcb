//! The results file.

use std::fs;
use std::path::Path;

use crate::error::BenchError;
use crate::results::Results;

/// # Errors
/// When the file cannot be read, or was written by another version of the benchmark.
pub fn read(file: &Path) -> Result<Results, BenchError> {
    let path = file.display();
    let text = fs::read(file).map_err(|error| {
        BenchError::new(format!("cannot read the results {path}: {error}; name another file with --results"))
    })?;
    serde_json::from_slice(&text).map_err(|error| {
        BenchError::new(format!("{path} is not a results file of this version of the benchmark: {error}"))
    })
}

/// Creates the file's folder if it does not exist.
///
/// # Errors
/// When the file cannot be written.
pub fn save(file: &Path, results: &Results) -> Result<(), BenchError> {
    let failed = |error| BenchError::new(format!("cannot write the results {}: {error}", file.display()));
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(file, serde_json::to_vec_pretty(results)?).map_err(failed)
}
