//! The alert rules, their tests and the runbook agree: every alert is tested while it fires and while it is
//! silent, every alert has an entry in the runbook, and every metric that a rule uses exists.
//! `tests/alert_rules.rs` runs the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::tables::metrics;
use serde_norway::Value;

/// The parts of an entry of the runbook, in their order.
const PARTS: [&str; 5] = ["**Means:** ", "**Users feel:** ", "**Look:** ", "**Do:** ", "**Harmless:** "];

struct Rule {
    alert: String,
    severity: String,
    expression: String,
    annotations: BTreeMap<String, String>,
}

#[test]
fn every_alert_has_a_test_in_which_it_fires_and_one_in_which_it_is_silent() {
    let mut fires = BTreeSet::new();
    let mut is_silent = BTreeSet::new();
    for path in yaml_files(&file("rules/tests")) {
        for test in list(&read(&path)["tests"]) {
            for check in optional_list(&test["promql_expr_test"]) {
                let Some(alert) = between(text(&check["expr"]), "alertname=\"", "\"") else { continue };
                let firing = optional_list(&check["exp_samples"]);
                let severities: Vec<_> = firing
                    .iter()
                    .filter_map(|sample| between(text(&sample["labels"]), "severity=\"", "\""))
                    .collect();
                for severity in ["warning", "critical"] {
                    let tested = (alert.to_owned(), severity.to_owned());
                    if severities.contains(&severity) {
                        fires.insert(tested)
                    } else {
                        is_silent.insert(tested)
                    };
                }
            }
        }
    }
    for Rule { alert, severity, .. } in rules() {
        let rule = (alert, severity);
        assert!(fires.contains(&rule), "{rule:?} fires in no test");
        assert!(is_silent.contains(&rule), "{rule:?} is silent in no test");
    }
}

#[test]
fn every_alert_has_an_entry_in_the_runbook_and_every_entry_an_alert() {
    let page = fs::read_to_string(file("../docs/runbook.md")).unwrap();
    let mut described = BTreeSet::new();
    for entry in page.split("\n## ").skip(1) {
        let (heading, entry) = entry.split_once('\n').unwrap();
        let Some(alert) = between(entry, "Alert: `", "`") else { continue };
        let anchor = heading.to_lowercase().replace(' ', "-");
        described.insert((alert.to_owned(), format!("docs/runbook.md#{anchor}")));
        let mut rest = entry;
        for part in PARTS {
            let Some((_, behind)) = rest.split_once(part) else {
                panic!("{heading}: {part:?} is missing or not in order")
            };
            rest = behind;
        }
    }
    let ruled: BTreeSet<_> =
        rules().into_iter().map(|rule| (rule.alert, rule.annotations["runbook_url"].clone())).collect();
    assert_eq!(ruled, described);
}

#[test]
fn every_alert_has_a_severity_and_all_annotations() {
    for rule in rules() {
        let Rule { alert, severity, annotations, .. } = rule;
        assert!(["warning", "critical"].contains(&severity.as_str()), "{alert}: {severity}");
        let said: Vec<_> = annotations.keys().map(String::as_str).collect();
        assert_eq!(said, ["description", "runbook_url", "summary"], "{alert}");
        assert!(annotations.values().all(|text| !text.is_empty()), "{alert}");
    }
}

#[test]
fn every_rule_uses_only_metrics_and_labels_that_exist() {
    let mut used = 0;
    for Rule { alert, expression, .. } in rules() {
        for (name, labels) in selectors(&expression) {
            used += 1;
            let metric = metrics().into_iter().find(|metric| metric.name == name);
            let metric = metric.unwrap_or_else(|| panic!("{alert} uses the unknown metric {name}"));
            for label in labels {
                let is_known = ["job", "instance", "le"].contains(&label.as_str())
                    || metric.labels.iter().any(|known| known.name == label);
                assert!(is_known, "{alert} uses the unknown label {label} of {name}");
            }
        }
    }
    assert!(used > 40, "found only {used} metrics in the rules");
}

/// The metrics in an expression, each with the labels of its matchers. A series of a histogram counts as the
/// histogram.
fn selectors(expression: &str) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut rest = expression;
    while let Some(at) = ["millrace_", "process_"].iter().filter_map(|start| rest.find(start)).min() {
        let from = &rest[at..];
        let (name, behind) = from.split_at(from.find(|c| !is_of_name(c)).unwrap_or(from.len()));
        rest = behind;
        let matchers = behind.strip_prefix('{').and_then(|behind| behind.split_once('}'));
        let labels = matchers.map_or("", |(matchers, _)| matchers).split("\",");
        let labels =
            labels.filter_map(|matcher| matcher.split(['=', '!']).next()).filter(|label| !label.is_empty());
        let ends = ["_bucket", "_sum", "_count"].iter();
        let name = ends.filter_map(|end| name.strip_suffix(end)).next().unwrap_or(name);
        found.push((name.to_owned(), labels.map(|label| label.trim().to_owned()).collect()));
    }
    found
}

fn rules() -> Vec<Rule> {
    let mut rules = Vec::new();
    for path in yaml_files(&file("rules")) {
        for group in list(&read(&path)["groups"]) {
            for rule in list(&group["rules"]) {
                let annotations = rule["annotations"].as_mapping().unwrap();
                rules.push(Rule {
                    alert: text(&rule["alert"]).to_owned(),
                    severity: text(&rule["labels"]["severity"]).to_owned(),
                    expression: text(&rule["expr"]).to_owned(),
                    annotations: annotations
                        .iter()
                        .map(|(name, said)| (text(name).to_owned(), text(said).to_owned()))
                        .collect(),
                });
            }
        }
    }
    rules
}

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("grafana").join(path)
}

fn yaml_files(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "yml")).collect();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files.sort();
    files
}

fn read(path: &Path) -> Value {
    serde_norway::from_str(&fs::read_to_string(path).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn list(value: &Value) -> Vec<Value> {
    value.as_sequence().unwrap_or_else(|| panic!("{value:?} is not a list")).clone()
}

fn optional_list(value: &Value) -> Vec<Value> {
    if value.is_null() { Vec::new() } else { list(value) }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value:?} is not a text"))
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}
