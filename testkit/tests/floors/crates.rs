//! The crates of the workspace and what they depend on, read from `cargo metadata`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

pub struct Crate {
    pub name: String,
    /// Names of the crates that its libraries and programs are built with, not those of its tests.
    pub dependencies: BTreeSet<String>,
    /// The first file of each library and program.
    pub roots: Vec<PathBuf>,
}

/// Every crate of the workspace.
pub fn read(project: &Path) -> Vec<Crate> {
    list(&metadata(project, &["--no-deps"])["packages"]).iter().map(crate_of).collect()
}

/// Each package, own or foreign, that needs a newer Rust than the workspace promises to build with.
pub fn too_new(project: &Path) -> Vec<String> {
    // Without the filter, Cargo would download the packages of every other platform.
    let metadata = metadata(project, &["--filter-platform", &host()]);
    let packages = list(&metadata["packages"]);
    let version_of = |package: &Value| package["rust_version"].as_str().map(numbers);
    let ours = packages.iter().find(|package| package["name"] == "millrace").expect("the crate exists");
    let promised = version_of(ours).expect("the workspace names a version of Rust");
    let is_too_new = |package: &&Value| version_of(package).is_some_and(|needed| needed > promised);
    let shown = |package: &Value| {
        format!(
            "{} {} needs Rust {}",
            text(&package["name"]),
            text(&package["version"]),
            text(&package["rust_version"])
        )
    };
    packages.iter().filter(is_too_new).map(shown).collect()
}

/// The platform that this test was built for.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    printed.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

/// Major and minor number of a version.
fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().expect("a number"));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn metadata(project: &Path, more: &[&str]) -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(more)
        .current_dir(project)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

fn crate_of(package: &Value) -> Crate {
    let is_for_programs = |dependency: &&Value| dependency["kind"].is_null();
    let is_root =
        |target: &&Value| list(&target["kind"]).iter().any(|kind| ["lib", "bin"].contains(&text(kind)));
    Crate {
        name: text(&package["name"]).to_owned(),
        dependencies: list(&package["dependencies"])
            .iter()
            .filter(is_for_programs)
            .map(|dependency| text(&dependency["name"]).to_owned())
            .collect(),
        roots: list(&package["targets"])
            .iter()
            .filter(is_root)
            .map(|target| PathBuf::from(text(&target["src_path"])))
            .collect(),
    }
}

/// Each import of a crate that is not on a lower floor, and each crate without a floor.
pub fn climbs(crates: &[Crate], floors: &[&[&str]]) -> Vec<String> {
    let floor_of = |name: &str| floors.iter().position(|floor| floor.contains(&name));
    let mut complaints = Vec::new();
    for found in crates {
        let Some(floor) = floor_of(&found.name) else {
            complaints.push(format!(
                "{} has no floor: add it to FLOORS in testkit/tests/floors/main.rs",
                found.name
            ));
            continue;
        };
        for dependency in &found.dependencies {
            if floor_of(dependency).is_some_and(|below| below >= floor) {
                complaints
                    .push(format!("{} imports {dependency}, which is not on a lower floor", found.name));
            }
        }
    }
    complaints
}

/// Each dependency on one of `tools`, except by crates in `exempt`.
pub fn forbidden(crates: &[Crate], tools: &[&str], exempt: &[&str]) -> Vec<String> {
    let is_product = |found: &&Crate| !exempt.contains(&found.name.as_str());
    let mut complaints = Vec::new();
    for found in crates.iter().filter(is_product) {
        for tool in tools.iter().filter(|tool| found.dependencies.contains(**tool)) {
            complaints.push(format!("{} depends on {tool}", found.name));
        }
    }
    complaints
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string in the metadata of cargo")
}
