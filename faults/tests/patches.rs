//! The patches of the mutants fit the product as it is now. Needs no server and no build.

use std::path::Path;

use faults::mutants::{MUTANTS, Patch};

fn patches() -> Vec<Patch> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants/patches");
    Patch::read_all(&folder).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_patch_applies_to_the_current_source_together_with_the_others() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("faults is in the project");
    let copy = tempfile::tempdir().unwrap();
    let patches = patches();
    for target in patches.iter().flat_map(Patch::targets) {
        let file = copy.path().join(target);
        std::fs::create_dir_all(file.parent().expect("a file is in a folder")).unwrap();
        std::fs::copy(project.join(target), file).unwrap_or_else(|error| {
            panic!("{}: {error}; update the patches that change it", target.display())
        });
    }
    for patch in &patches {
        patch.apply(copy.path()).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn every_patch_belongs_to_a_mutant_and_asks_for_its_name_at_run_time() {
    for patch in patches() {
        let name = &patch.name;
        assert!(MUTANTS.iter().any(|mutant| mutant.name == name), "no mutant is named {name}");
        assert!(patch.added().contains(name), "{name} does not compare MILLRACE_MUTANT with its name");
    }
}
