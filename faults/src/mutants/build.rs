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
    change_version(&fresh)?;
    mirror(&fresh, copy).map_err(|error| io::Error::other(format!("{}: {error}", copy.display())))?;
    Ok(patches.into_iter().map(|patch| patch.name).collect())
}

/// Gives the crates of the copy another version. Cargo names its output after versions and after paths within
/// the workspace, so the output of the copy would otherwise replace that of the product.
fn change_version(copy: &Path) -> io::Result<()> {
    let own = format!("version = \"{}\"", env!("CARGO_PKG_VERSION"));
    let other = format!("version = \"{}-patched\"", env!("CARGO_PKG_VERSION"));
    let manifest = copy.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest)?;
    assert_eq!(text.matches(&own).count(), 1, "the version of all crates stands once in Cargo.toml");
    std::fs::write(manifest, text.replace(&own, &other))?;
    let lock = copy.join("Cargo.lock");
    let packages = std::fs::read_to_string(&lock)?;
    // Only crates of the project have no source.
    let changed = packages.split("\n\n").map(|package| match package.contains("\nsource = ") {
        true => package.to_owned(),
        false => package.replacen(&own, &other, 1),
    });
    std::fs::write(lock, changed.collect::<Vec<_>>().join("\n\n"))
}
