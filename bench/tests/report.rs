//! Reports the published results, without measuring.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const PUBLISHED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/results/published.json");

fn report(results: &str, page: &Path) -> Output {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["--only-report", "--results", results, "--write"]).arg(page);
    bench.output().unwrap()
}

#[test]
fn only_report_replaces_the_text_between_the_markers_and_writes_the_charts() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.md");
    fs::write(&page, "before\n<!-- figures: begin -->\nold\n<!-- figures: end -->\nafter\n").unwrap();
    let output = report(PUBLISHED, &page);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(&page).unwrap();
    let generated = text.strip_prefix("before\n<!-- figures: begin -->\n").unwrap();
    let generated = generated.strip_suffix("\n<!-- figures: end -->\nafter\n").unwrap();
    assert!(!generated.contains("old\n"));
    for section in ["## Goals", "## Ceilings", "## Throughput", "## Latency and freshness", "## Costs"] {
        assert!(generated.contains(section), "{section} is missing");
    }
    for chart in ["stored", "course", "steady", "saturated"] {
        let svg = fs::read_to_string(folder.path().join(format!("images/bench-{chart}.svg"))).unwrap();
        assert!(svg.contains("<svg"), "{chart}");
    }
}

#[test]
fn the_published_results_contain_a_value_for_every_goal() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.md");
    fs::write(&page, "<!-- figures: begin -->\n<!-- figures: end -->\n").unwrap();
    assert!(report(PUBLISHED, &page).status.success());
    let text = fs::read_to_string(&page).unwrap();
    assert!(text.contains("stress: events stored"), "{text}");
    assert!(!text.contains("not measured"), "{text}");
}

#[test]
fn a_page_without_markers_is_an_error_that_names_them() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.md");
    fs::write(&page, "no markers\n").unwrap();
    let output = report(PUBLISHED, &page);
    assert!(!output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("<!-- figures: begin -->"), "{stderr}");
    assert_eq!(fs::read_to_string(&page).unwrap(), "no markers\n");
}
