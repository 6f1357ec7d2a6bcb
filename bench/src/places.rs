//! Where this program finds what it needs, and where it leaves what shall be there the next time.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// The project's folder.
pub fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("bench lies in the project")
}

/// A folder of this name that is kept between runs, in the build's own.
///
/// # Errors
/// When it cannot be made.
pub fn kept(name: &str) -> Result<PathBuf, Failure> {
    let executable = std::env::current_exe()?;
    let target = executable.ancestors().nth(2).ok_or_else(|| Failure::new("the program lies in no build"))?;
    let folder = target.join("bench").join(name);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The profile this program was built with, as cargo names it on the command line.
///
/// # Errors
/// When the program lies in no folder.
pub fn profile() -> Result<String, Failure> {
    let executable = std::env::current_exe()?;
    let folder = executable.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let folder = folder.ok_or_else(|| Failure::new("the program lies in no folder"))?;
    Ok(if folder == "debug" { "dev" } else { folder }.to_owned())
}
