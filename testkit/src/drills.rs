//! Builds the programs with failpoints and mutants, for drills.
//!
//! They are built into a separate folder, so that no test uses them in place of the product.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::process::profile_folder;

/// The name of the Cargo profile and of its folder.
const PROFILE: &str = "faults";
const PROGRAMS: [&str; 3] = ["ingest-api", "stream-worker", "millrace"];

/// Builds the programs for drills, once per test process, and returns the profile to start them from, for
/// `Launch::profile`. The first build takes minutes; an unchanged one less than a second.
///
/// # Panics
/// When the build fails; the message contains the compiler's output.
pub fn drill_build() -> &'static str {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(build);
    PROFILE
}

fn build() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let target = profile_folder();
    let target = target.parent().expect("a profile's folder is in the target folder");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testkit is in the workspace");
    let mut command = Command::new(cargo);
    command.args(["build", "--locked", "--quiet", "--profile", PROFILE, "--features", "failpoints"]);
    command.args(PROGRAMS.iter().flat_map(|program| ["--package", program]));
    command.arg("--target-dir").arg(target).current_dir(workspace).stdin(Stdio::null());
    let output = command.output().expect("cargo can be run");
    let compiler_output = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the build of the programs for drills failed:\n{compiler_output}");
}
