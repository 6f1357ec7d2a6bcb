//! Prometheus' own tool accepts the configuration and the alert rules, and the tests of the rules pass.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn promtool_accepts_the_configuration_and_every_rule() {
    let output = promtool(&["check", "config"], &[file("prometheus.yml")]);
    let loaded: usize = output.lines().filter_map(rules_found).sum();
    let rules = yaml_files(&file("rules")).into_iter().map(|path| {
        fs::read_to_string(path).unwrap().lines().filter(|line| line.trim().starts_with("- alert:")).count()
    });
    assert_eq!(rules.sum::<usize>(), loaded, "the configuration loads all rules: {output}");
}

#[test]
fn the_tests_of_the_rules_pass() {
    promtool(&["test", "rules"], &yaml_files(&file("rules/tests")));
}

/// Runs Prometheus' tool, which must succeed, and returns its output.
fn promtool(command: &[&str], files: &[PathBuf]) -> String {
    let run = Command::new("promtool").args(command).args(files).output();
    let run = run
        .unwrap_or_else(|error| panic!("promtool: {error}; install it (Debian: apt-get install prometheus)"));
    let output = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{output}");
    output
}

/// The number in a line such as `SUCCESS: 12 rules found`.
fn rules_found(line: &str) -> Option<usize> {
    line.strip_suffix(" rules found")?.split_whitespace().last()?.parse().ok()
}

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("grafana").join(path)
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "yml")).collect();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}
