//! The floors of the project: which crate may import which, and that no modules of a crate import each other
//! in a circle.
//!
//! The order of the crates is read from `cargo metadata`, the imports of modules from their source.

mod crates;
mod graph;
mod modules;
mod paths;

use std::path::Path;

/// The crates of the product and its tools, lowest floor first. A crate imports only crates of lower floors.
const FLOORS: &[&[&str]] = &[
    &["millrace-address", "millrace-event", "millrace-failpoint", "millrace-telemetry", "testkit"],
    &["millrace-stream", "millrace-store"],
    &["millrace-reconcile"],
    &["millrace-settings"],
    &["ingest-api", "stream-worker"],
    &["millrace"],
    &["faults", "mutants", "bench"],
];

#[test]
fn every_crate_imports_only_crates_of_lower_floors() {
    let complaints = crates::climbs(&crates::read(project()), FLOORS);
    assert_eq!(complaints, Vec::<String>::new());
}

#[test]
fn no_crate_of_the_product_depends_on_what_is_for_tests_or_drills() {
    let complaints =
        crates::forbidden(&crates::read(project()), &["testkit", "faults", "bench"], &["faults", "bench"]);
    assert_eq!(complaints, Vec::<String>::new());
}

#[test]
fn the_crate_of_events_needs_no_async_runtime() {
    let crates = crates::read(project());
    let event = crates.iter().find(|found| found.name == "millrace-event").expect("the crate exists");
    for runtime in ["tokio", "hyper", "redis", "tokio-postgres", "rusqlite"] {
        assert!(!event.dependencies.contains(runtime), "millrace-event depends on {runtime}");
    }
}

#[test]
fn no_dependency_needs_a_newer_rust_than_the_project_promises() {
    assert_eq!(crates::too_new(project()), Vec::<String>::new());
}

#[test]
fn no_two_modules_of_a_crate_import_each_other_in_a_circle() {
    let mut complaints = Vec::new();
    for found in crates::read(project()) {
        for root in &found.roots {
            let modules = modules::read(root);
            assert!(!modules.is_empty(), "{} has no modules", root.display());
            let imports = paths::imports(&modules);
            complaints.extend(
                graph::circles(&imports).into_iter().map(|circle| format!("{}: {circle}", found.name)),
            );
        }
    }
    assert_eq!(complaints, Vec::<String>::new());
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("testkit is in the project's folder")
}
