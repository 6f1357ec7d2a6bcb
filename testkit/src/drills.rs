//! The programs as drills need them: with points at which they can be made to die, and able to be wrong on purpose.
//!
//! They lie in a folder of their own, so that no test takes them for the product.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::server::profile_folder;

/// The profile's name, and its folder's.
const PROFILE: &str = "faults";
const PROGRAMS: [&str; 3] = ["ingest-api", "stream-worker", "millrace"];

/// Builds the programs for drills, once in a test process, and returns the profile to start them in: see
/// [`crate::Launch`]. The first time takes minutes; when nothing has changed, less than a second.
///
/// # Panics
/// When they cannot be built, with what the compiler says.
pub fn drill_build() -> &'static str {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(build);
    PROFILE
}

fn build() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let target = profile_folder();
    let target = target.parent().expect("a profile's folder lies in the build's");
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testkit lies in the project");
    let mut command = Command::new(cargo);
    command.args(["build", "--locked", "--quiet", "--profile", PROFILE, "--features", "failpoints"]);
    command.args(PROGRAMS.iter().flat_map(|program| ["--package", program]));
    command.arg("--target-dir").arg(target).current_dir(project).stdin(Stdio::null());
    let output = command.output().expect("cargo, which runs the tests, can be run again");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the programs for drills cannot be built:\n{complaint}");
}
