//! Runs the benchmark for as short as possible. It fails by itself when an event is lost or stored twice.

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
