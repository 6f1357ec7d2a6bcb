//! Runs the benchmark for as short as possible. It fails by itself when an event is lost or stored twice.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[test]
fn a_run_of_one_second_ends_with_all_events_stored_and_audited() {
    let folder = tempfile::tempdir().unwrap();
    let results = folder.path().join("results.json");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["--quick", "--only", "single", "--against", "embedded", "--seconds", "1"]);
    bench.args(["--no-build", "--no-ceilings", "--results"]).arg(&results);
    let output = bench.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    let results: Value = serde_json::from_slice(&std::fs::read(results).unwrap()).unwrap();
    let measurements = results["measurements"].as_array().unwrap();
    assert!(!measurements.is_empty());
    for part in measurements {
        assert!(part["accepted"].as_u64().unwrap() > 0, "{part:#}");
        assert_eq!((part["refused"].as_u64(), part["unanswered"].as_u64()), (Some(0), Some(0)), "{part:#}");
    }
    assert!(stdout.contains("embedded, 10,000 requests/s: latency mean"), "{stdout}");
}

/// Runs the benchmark with these arguments, and returns what it printed and its results.
fn run(results: &Path, arguments: &[&str]) -> (String, Value) {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["--no-build", "--no-ceilings", "--results"]).arg(results).args(arguments);
    let output = bench.output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    let results = std::fs::read(results).map(|results| serde_json::from_slice(&results).unwrap());
    (stdout, results.unwrap_or_default())
}

/// Subject and repetition of every measurement.
fn measured(results: &Value) -> Vec<(&str, u64)> {
    let measurements = results["measurements"].as_array().unwrap();
    let title = |found: &Value| found["repetition"].as_u64().unwrap();
    measurements.iter().map(|found| (found["subject"].as_str().unwrap(), title(found))).collect()
}

#[test]
fn every_variant_and_every_peer_in_rust_stores_all_events_that_it_accepts() {
    let folder = tempfile::tempdir().unwrap();
    let subjects = [
        "millrace",
        "millrace_json",
        "millrace_tls",
        "millrace_replicated",
        "unnest_in_request",
        "copy_in_request",
        "outbox",
    ];
    let against = subjects.join(",");
    let file = folder.path().join("results.json");
    let (stdout, results) = run(&file, &["--quick", "--only", "stress", "--against", &against]);
    assert_eq!(measured(&results), subjects.map(|subject| (subject, 1)), "{stdout}");
    for part in results["measurements"].as_array().unwrap() {
        assert!(part["accepted"].as_u64().unwrap() > 0, "{part:#}");
        assert_eq!((part["refused"].as_u64(), part["unanswered"].as_u64()), (Some(0), Some(0)), "{part:#}");
    }
}

#[test]
fn a_run_that_was_stopped_is_continued_with_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("results.json");
    let run = |more: &[&str]| {
        let steady =
            ["--quick", "--only", "steady", "--against", "embedded", "--repetitions", "2", "--resume"];
        run(&file, &[&steady[..], more].concat())
    };
    let (stdout, results) = run(&["--minutes", "0"]);
    assert!(stdout.contains("2 measurements are missing"), "{stdout}");
    assert_eq!(results, Value::Null, "nothing was measured");
    let (_, first) = run(&[]);
    assert_eq!(measured(&first), [("embedded", 1), ("embedded", 2)]);
    let (stdout, second) = run(&[]);
    assert_eq!(second, first, "nothing was missing");
    assert!(stdout.contains(" to "), "the report shows the spread: {stdout}");

    let mut other = first;
    other["machine"]["programs"] = "another build".into();
    std::fs::write(&file, other.to_string()).unwrap();
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["--quick", "--no-build", "--resume", "--results"]).arg(&file);
    let stderr = String::from_utf8_lossy(&bench.output().unwrap().stderr).into_owned();
    assert!(stderr.contains("another build") && stderr.contains("--resume"), "{stderr}");
}

#[test]
fn one_copy_connection_is_measured_before_and_after_a_subject() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("results.json");
    let steady = ["--only", "steady", "--against", "embedded", "--repetitions", "1", "--seconds", "1"];
    let (_, results) = run(&file, &[&steady[..], &["--no-cache-fill"]].concat());
    let measurement = &results["measurements"][0];
    let number = |value: &Value| value.as_f64().unwrap();
    let copy = &measurement["copy"];
    let mean = f64::midpoint(number(&copy["before_per_s"]), number(&copy["after_per_s"]));
    assert!(mean > 0.0, "{copy}");
    let ratio = number(&measurement["stored_per_s"]) / mean;
    assert!((number(&copy["stored_ratio"]) - ratio).abs() < 1e-9, "{measurement:#}");
}
