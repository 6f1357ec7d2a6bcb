//! Builds the programs with failpoints, for drills.
//!
//! They are built into a separate folder, so that no test uses them in place of the product.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
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
    BUILT.get_or_init(|| {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testkit is in the workspace");
        build_for_drills(workspace, &PROGRAMS, &[]);
    });
    PROFILE
}

/// Builds packages of a workspace as [`drill_build`] does, with these environment variables. The workspace
/// can be a copy of the project: the programs go to the same folder, and dependencies are compiled once.
///
/// # Panics
/// When the build fails; the message contains the compiler's output.
pub fn build_for_drills(workspace: &Path, packages: &[&str], variables: &[(&str, &str)]) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(["build", "--locked", "--quiet", "--profile", PROFILE, "--features", "failpoints"]);
    command.args(packages.iter().flat_map(|package| ["--package", package]));
    command.arg("--target-dir").arg(target_folder()).envs(variables.iter().copied());
    without_package_variables(&mut command);
    let output = command.current_dir(workspace).stdin(Stdio::null()).output().expect("cargo can be run");
    let compiler_output = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the build of {packages:?} for drills failed:\n{compiler_output}");
}

/// Removes what Cargo tells a test about its package. The build script of a dependency reads the same variables, so
/// Cargo would compile it, and all crates above it, again for each program that asks for the build.
fn without_package_variables(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name
            .to_str()
            .is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
        {
            command.env_remove(name);
        }
    }
}

/// The folder of Cargo's output, such as `target`.
pub fn target_folder() -> PathBuf {
    profile_folder().parent().expect("a profile's folder is in the target folder").to_owned()
}
