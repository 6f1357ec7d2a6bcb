//! The charts of the page.

use std::path::Path;

use super::chart::{BarChart, LineChart};
use super::medians::medians;
use crate::error::BenchError;
use crate::results::Results;
use crate::scenarios::Scenario;
use crate::subjects::SubjectName;

/// Writes all charts as SVG files into `folder`. A chart without data is left out.
///
/// # Errors
/// When a file cannot be written.
pub fn write_all(folder: &Path, results: &Results) -> Result<(), BenchError> {
    let results = &medians(results);
    let file = |name: &str| folder.join(format!("bench-{name}.svg"));
    stored(results, &file("stored"))?;
    latency(results, "steady", "481 requests/s", "Latency of 1,000 users, 481 requests/s", &file("steady"))?;
    latency(results, "realistic", "saturated", "Latency of 1,000 saturated connections", &file("saturated"))?;
    timeline(results, &file("course"))
}

/// Events stored per second by each subject, with the COPY ceiling for comparison.
fn stored(results: &Results, file: &Path) -> Result<(), BenchError> {
    let scenarios = [Scenario::Realistic.name(), Scenario::Stress.name()];
    let stored = |subject: SubjectName| {
        let values = scenarios.iter().map(|scenario| {
            results.measurement(scenario, "saturated", subject).map(|measurement| measurement.stored_per_s)
        });
        (subject.as_str().to_owned(), values.collect())
    };
    let mut series: Vec<(String, Vec<Option<f64>>)> = SubjectName::ALL.into_iter().map(stored).collect();
    series.retain(is_measured);
    if let Some(ceiling) = results.ceilings.first() {
        let values = vec![Some(ceiling.events_per_s); scenarios.len()];
        series.push((format!("{} (ceiling)", ceiling.name), values));
    }
    BarChart {
        title: "Events stored per second, saturated",
        groups: &scenarios.map(str::to_owned),
        series: &series,
        unit: "events/s",
        is_logarithmic: false,
    }
    .write(file)
}

fn latency(
    results: &Results,
    scenario: &str,
    part: &str,
    title: &str,
    file: &Path,
) -> Result<(), BenchError> {
    let latency = |subject: SubjectName| {
        let latency = results.measurement(scenario, part, subject).map(|measurement| measurement.latency);
        let values = match latency {
            Some(ms) => [ms.p50_ms, ms.p95_ms, ms.p99_ms, ms.max_ms].map(Some).to_vec(),
            None => vec![None; 4],
        };
        (subject.as_str().to_owned(), values)
    };
    let mut series: Vec<_> = SubjectName::ALL.into_iter().map(latency).collect();
    series.retain(is_measured);
    let groups = ["p50", "p95", "p99", "maximum"].map(str::to_owned);
    BarChart { title, groups: &groups, series: &series, unit: "ms", is_logarithmic: true }.write(file)
}

/// A subject without values would only fill the legend.
fn is_measured((_, values): &(String, Vec<Option<f64>>)) -> bool {
    values.iter().any(Option::is_some)
}

/// Events accepted and stored by Millrace under stress: the backlog is the distance between the two lines.
fn timeline(results: &Results, file: &Path) -> Result<(), BenchError> {
    let found = results.measurement("stress", "saturated", SubjectName::Millrace);
    let Some(measurement) = found else { return Ok(()) };
    let points = || measurement.timeline.iter();
    let accepted = points().map(|point| (point.at_s, point.accepted as f64)).collect();
    let stored = points().map(|point| (point.at_s, point.stored as f64)).collect();
    let series = [("accepted".to_owned(), accepted), ("stored".to_owned(), stored)];
    LineChart { title: "Millrace under stress: total events", series: &series, unit: "events" }.write(file)
}
