//! Folders that the benchmark reads from, or keeps between runs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::BenchError;

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the bench crate is a folder of the repository")
}

/// Creates the folder `target/bench/<name>` if it does not exist. Its content is kept between runs.
///
/// # Errors
/// When this program is not in a build folder, or the folder cannot be created.
pub fn kept_folder(name: &str) -> Result<PathBuf, BenchError> {
    let executable = std::env::current_exe()?;
    let target = executable.ancestors().nth(2).ok_or_else(|| {
        BenchError::new(format!(
            "{} is not in a cargo build folder; start it with `cargo run --release -p bench`",
            executable.display()
        ))
    })?;
    let folder = target.join("bench").join(name);
    fs::create_dir_all(&folder)
        .map_err(|error| BenchError::new(format!("cannot create {}: {error}", folder.display())))?;
    Ok(folder)
}

/// The profile this program was built with, as `cargo --profile` takes it.
///
/// # Errors
/// When the path of this program cannot be read.
pub fn build_profile() -> Result<String, BenchError> {
    let executable = std::env::current_exe()?;
    let folder = executable.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let folder =
        folder.ok_or_else(|| BenchError::new(format!("{} has no parent folder", executable.display())))?;
    Ok(if folder == "debug" { "dev" } else { folder }.to_owned())
}
