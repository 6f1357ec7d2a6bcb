//! The dashboards use PromQL that parses, metrics and labels that exist, and the conventions of Grafana's
//! linter.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::tables::metrics;
use millrace_telemetry::metrics::Kind;
use promql_parser::label::MatchOp;
use promql_parser::parser::{self, Expr, VectorSelector};
use promql_parser::util::{ExprVisitor, walk_expr};
use testkit::grafana::{Dashboard, Panel, Question, View, dashboards};

/// Functions that take a counter.
const COUNTER_FUNCTIONS: &[&str] = &["rate", "irate", "increase"];
/// Metrics that Prometheus records about each scrape.
const PROMETHEUS_METRICS: &[&str] = &["up"];

/// A selector of an expression, and the innermost function around it.
type SelectorInFunction = (VectorSelector, Option<String>);

#[test]
fn every_panel_has_a_title_a_description_and_a_unit() {
    each_panel(|_, panel| {
        for field in ["title", "description"] {
            assert!(
                panel.json[field].as_str().is_some_and(|text| text.len() > 3),
                "{} has no {field}",
                panel.name()
            );
        }
        let unit = panel.json["fieldConfig"]["defaults"]["unit"].as_str();
        assert!(unit.is_some_and(|unit| !unit.is_empty()), "{} has no unit", panel.name());
    });
}

#[test]
fn titles_and_ids_are_unique_in_a_dashboard() {
    for dashboard in dashboards() {
        let mut seen = BTreeMap::new();
        for panel in dashboard.panels() {
            assert_eq!(
                seen.insert(panel.title().to_owned(), ()),
                None,
                "the title of {} is used twice",
                panel.name()
            );
            assert_eq!(
                seen.insert(panel.json["id"].to_string(), ()),
                None,
                "the id of {} is used twice",
                panel.name()
            );
        }
    }
}

#[test]
fn every_panel_uses_a_data_source_variable() {
    each_panel(|dashboard, panel| {
        let list = dashboard.json["templating"]["list"].as_array().unwrap();
        for target in panel.json["targets"].as_array().unwrap() {
            let source = target["datasource"]["uid"].as_str().unwrap();
            let name = source.trim_start_matches("${").trim_end_matches('}');
            let variable = list.iter().find(|variable| variable["name"] == name);
            assert!(
                variable.is_some_and(|variable| variable["type"] == "datasource"),
                "{}: {source}",
                panel.name()
            );
        }
    });
}

#[test]
fn every_panel_uses_only_metrics_that_exist() {
    each_selector(|panel, selector, _| {
        let name = selector.name.as_deref().unwrap();
        assert!(
            PROMETHEUS_METRICS.contains(&name) || kind_of(name).is_some(),
            "{} uses the unknown metric {name}",
            panel.name()
        );
    });
}

#[test]
fn every_panel_uses_only_labels_that_the_metric_has() {
    each_selector(|panel, selector, _| {
        let name = selector.name.as_deref().unwrap();
        let metric = metrics().into_iter().find(|metric| metric.name == base_name(name));
        let known: Vec<_> =
            metric.into_iter().flat_map(|metric| metric.labels).map(|label| label.name).collect();
        for matcher in &selector.matchers.matchers {
            let is_known = ["instance", "job"].contains(&matcher.name.as_str())
                || known.contains(&matcher.name.as_str());
            assert!(is_known, "{}: {name} has no label {}", panel.name(), matcher.name);
        }
    });
}

#[test]
fn counters_are_used_with_a_rate_and_gauges_without_one() {
    each_selector(|panel, selector, function| {
        let name = selector.name.as_deref().unwrap();
        let is_counted = matches!(kind_of(name), Some(Kind::Counter | Kind::Histogram(_)));
        let is_growth = function.is_some_and(|function| COUNTER_FUNCTIONS.contains(&function));
        assert_eq!(is_counted, is_growth, "{}: {name} under {function:?}", panel.name());
    });
}

#[test]
fn every_selector_filters_by_the_chosen_instances() {
    each_selector(|panel, selector, _| {
        let is_filtered = selector.matchers.matchers.iter().any(|matcher| {
            matcher.name == "instance" && matches!(matcher.op, MatchOp::Re(_)) && matcher.value == ".*"
        });
        assert!(is_filtered, "{}: {selector}", panel.name());
    });
}

#[test]
fn every_rate_uses_the_interval_of_the_panel() {
    each_question(|panel, question| {
        let (Question::Range(expression) | Question::Instant(expression)) = question else { return };
        for part in expression.split("rate(").skip(1) {
            let window =
                part.split_once("}[").and_then(|(_, rest)| rest.split_once(']')).map(|(window, _)| window);
            assert_eq!(window, Some("$__rate_interval"), "{}: {expression}", panel.name());
        }
    });
}

#[test]
fn every_link_to_the_runbook_leads_to_an_entry() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs").join("runbook.md");
    let runbook =
        std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let anchors: Vec<_> = runbook.lines().filter_map(|line| line.strip_prefix("## ")).map(anchor).collect();
    let mut links = 0;
    each_panel(|_, panel| {
        for link in panel.json["links"].as_array().into_iter().flatten() {
            let (page, anchor) = link["url"].as_str().unwrap().split_once('#').unwrap();
            assert_eq!(page, "${runbook}");
            assert!(
                anchors.iter().any(|known| known == anchor),
                "{}: no entry {anchor} in {anchors:?}",
                panel.name()
            );
            links += 1;
        }
    });
    assert!(links > 30, "found only {links} links");
}

/// The anchor that GitHub derives from a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || "-_ ".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn each_panel(mut look: impl FnMut(&Dashboard, Panel<'_>)) {
    let dashboards = dashboards();
    let names: Vec<_> = dashboards.iter().map(|dashboard| dashboard.name.as_str()).collect();
    assert_eq!(names, ["customers", "overview", "pipeline", "projects"]);
    for dashboard in &dashboards {
        for panel in dashboard.panels() {
            look(dashboard, panel);
        }
    }
}

fn each_question(mut look: impl FnMut(Panel<'_>, Question<'_>)) {
    each_panel(|_, panel| panel.questions().for_each(|question| look(panel, question)));
}

/// Parses every expression as Prometheus receives it, and calls `look` for each selector.
fn each_selector(mut look: impl FnMut(Panel<'_>, &VectorSelector, Option<&str>)) {
    let view = View {
        from: 0.0,
        to: 3_600.0,
        step: Duration::from_secs(15),
        scraped_every: Duration::from_secs(5),
        variables: &[("instance", ".*"), ("interval", "15s")],
    };
    let mut selectors = 0;
    each_question(|panel, question| {
        let (Question::Range(expression) | Question::Instant(expression)) = question else { return };
        let expression = view.promql(expression);
        assert!(!expression.contains('$'), "{}: {expression} has an unknown variable", panel.name());
        let parsed = parser::parse(&expression)
            .unwrap_or_else(|error| panic!("{}: {expression}: {error}", panel.name()));
        for (selector, function) in selectors_in(&parsed) {
            selectors += 1;
            look(panel, &selector, function.as_deref());
        }
    });
    assert!(selectors > 80, "found only {selectors} selectors");
}

/// Collects selectors, each with the innermost function around it: the visitor enters a call before its
/// arguments.
#[derive(Default)]
struct Selectors(Vec<SelectorInFunction>);

impl ExprVisitor for Selectors {
    type Error = String;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, String> {
        match expression {
            Expr::VectorSelector(selector) => self.0.push((selector.clone(), None)),
            Expr::Call(call) => {
                for argument in &call.args.args {
                    if let Expr::MatrixSelector(matrix) = argument.as_ref() {
                        self.0.push((matrix.vs.clone(), Some(call.func.name.to_owned())));
                    }
                }
            }
            _ => {}
        }
        Ok(true)
    }
}

fn selectors_in(expression: &Expr) -> Vec<SelectorInFunction> {
    let mut selectors = Selectors::default();
    walk_expr(&mut selectors, expression).unwrap();
    selectors.0
}

/// The metric that a series belongs to. A histogram has series with other names.
fn base_name(series: &str) -> &str {
    let ends = ["_bucket", "_sum", "_count"].iter().filter_map(|end| series.strip_suffix(end));
    let mut names = std::iter::once(series).chain(ends);
    names.find(|name| metrics().into_iter().any(|metric| metric.name == *name)).unwrap_or(series)
}

fn kind_of(series: &str) -> Option<Kind> {
    metrics().into_iter().find(|metric| metric.name == base_name(series)).map(|metric| metric.kind)
}
