//! Builds the program `mutant` from a patched copy of the source.

use std::io;
use std::path::Path;
use std::sync::OnceLock;

use super::copy::mirror;
use super::patch::Patch;

/// Below the folder of Cargo's output.
const FOLDER: &str = "mutants";
/// Tells the program which patches it contains.
const PATCHES_VARIABLE: &str = "MILLRACE_PATCHES";

/// Builds the program, once per process, and returns the profile to start it from. Dependencies are shared
/// with [`testkit::drill_build`], which has to build them anyway.
///
/// # Panics
/// When a patch does not apply or the build fails. The message names the patch, or contains the compiler's
/// output.
pub fn build() -> &'static str {
    static BUILT: OnceLock<()> = OnceLock::new();
    let profile = testkit::drill_build();
    BUILT.get_or_init(|| {
        let copy = testkit::target_folder().join(FOLDER).join("source");
        let names = patched_copy(&copy).unwrap_or_else(|error| panic!("{error}"));
        testkit::build_for_drills(&copy, &["mutants"], &[(PATCHES_VARIABLE, &names.join(","))]);
    });
    profile
}

/// Brings the copy up to date and returns the names of the patches in it.
fn patched_copy(copy: &Path) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("faults is in the project");
    let patches = Patch::read_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants/patches"))?;
    // Patches are applied to a second copy, so that files which neither the product nor a patch has changed
    // keep their time, and Cargo does not build them again.
    let fresh = copy.with_file_name("patching");
    mirror(project, &fresh)?;
    for patch in &patches {
        patch.apply(&fresh)?;
    }
    mirror(&fresh, copy).map_err(|error| io::Error::other(format!("{}: {error}", copy.display())))?;
    Ok(patches.into_iter().map(|patch| patch.name).collect())
}
