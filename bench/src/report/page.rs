//! The page about a run: the tables between two marks of a file whose other text is people's, and the charts beside it.

use std::fs;
use std::path::Path;

use super::chart::{Bars, Lines};
use super::table::{ceilings, costs, goal_table, rates, times};
use crate::failure::Failure;
use crate::figures::{Measurement, Results};
use crate::scenarios::Scenario;
use crate::subjects::Name;

const BEGIN: &str = "<!-- figures: begin -->";
const END: &str = "<!-- figures: end -->";
const SUBJECTS: [Name; 4] = [Name::Millrace, Name::Embedded, Name::DirectInsert, Name::CopyInRequest];

/// Writes the figures into the page, and the charts into `images` beside it.
///
/// # Errors
/// When the page is not there, or has no place for figures.
pub fn write(page: &Path, results: &Results) -> Result<(), Failure> {
    let text =
        fs::read_to_string(page).map_err(|error| Failure::new(format!("{}: {error}", page.display())))?;
    let place = || Some((text.split_once(BEGIN)?.0, text.split_once(END)?.1));
    let no_place = || Failure::new(format!("{} has no {BEGIN} with {END} behind it", page.display()));
    let (before, after) = place().ok_or_else(no_place)?;
    fs::write(page, format!("{before}{BEGIN}\n\n{}\n{END}{after}", body(results)))?;
    let images = page.with_file_name("images");
    fs::create_dir_all(&images)?;
    charts(&images, results)
}

fn body(results: &Results) -> String {
    let mut text = String::new();
    let facts = results.machine.iter().map(|(name, fact)| format!("- {name}: {fact}\n"));
    let scenarios =
        Scenario::ALL.iter().map(|scenario| format!("- `{}`: {}\n", scenario.word(), scenario.about()));
    if results.is_quick {
        text +=
            "**These figures are of a quick run: they show that everything works, and nothing else.**\n\n";
    }
    let sections = [
        ("The machine", facts.collect::<String>()),
        ("The goals", goal_table(results).markdown()),
        ("The ceilings", ceilings(results).markdown()),
        ("The scenarios", scenarios.collect()),
        ("Events a second", format!("{}\n{}", images(&["stored", "course"]), rates(results).markdown())),
        ("Milliseconds", format!("{}\n{}", images(&["steady", "saturated"]), times(results).markdown())),
        ("What it costs", costs(results).markdown()),
    ];
    for (title, section) in sections {
        text += &format!("## {title}\n\n{}\n\n", section.trim());
    }
    text.trim_end().to_owned()
}

fn images(names: &[&str]) -> String {
    names.iter().map(|name| format!("![{name}](images/bench-{name}.svg)\n")).collect()
}

fn charts(folder: &Path, results: &Results) -> Result<(), Failure> {
    let file = |name: &str| folder.join(format!("bench-{name}.svg"));
    stored(results).write_as("Events stored a second, at saturation", "events/s", false, &file("stored"))?;
    let steady = latencies(results, "steady", "481 requests/s");
    steady.write_as("481 requests/s of 1,000 users", "ms", true, &file("steady"))?;
    let saturated = latencies(results, "realistic", "saturated");
    saturated.write_as("1,000 connections at saturation", "ms", true, &file("saturated"))?;
    course(results, &file("course"))
}

/// Groups of bars, a colour for each subject.
struct Grouped {
    groups: Vec<String>,
    series: Vec<(String, Vec<Option<f64>>)>,
}

impl Grouped {
    fn write_as(&self, title: &str, unit: &str, is_logarithmic: bool, file: &Path) -> Result<(), Failure> {
        let (groups, series) = (&self.groups, &self.series);
        Bars { title, groups, series, unit, is_logarithmic }.write(file)
    }
}

fn stored(results: &Results) -> Grouped {
    let scenarios = [Scenario::Realistic.word(), Scenario::Stress.word()];
    let of = |subject| {
        let values = scenarios
            .iter()
            .map(|scenario| find(results, scenario, "saturated", subject).map(|seen| seen.stored_per_s));
        (subject.word().to_owned(), values.collect())
    };
    let mut series: Vec<_> = SUBJECTS.into_iter().map(of).collect();
    if let Some(ceiling) = results.ceilings.first() {
        series
            .push((format!("{} (ceiling)", ceiling.name), vec![Some(ceiling.events_per_s); scenarios.len()]));
    }
    Grouped { groups: scenarios.map(str::to_owned).to_vec(), series }
}

fn latencies(results: &Results, scenario: &str, part: &str) -> Grouped {
    let of = |subject: Name| {
        let latency = find(results, scenario, part, subject).map(|seen| seen.latency);
        let values = latency.map(|times| [times.p50_ms, times.p95_ms, times.p99_ms, times.max_ms]);
        (subject.word().to_owned(), (0..4).map(|place| values.map(|values| values[place])).collect())
    };
    let groups = ["p50", "p95", "p99", "longest"].map(str::to_owned).to_vec();
    Grouped { groups, series: SUBJECTS.into_iter().map(of).collect() }
}

/// That what is accepted is stored: the two lines of Millrace under stress.
fn course(results: &Results, file: &Path) -> Result<(), Failure> {
    let Some(seen) = find(results, "stress", "saturated", Name::Millrace) else { return Ok(()) };
    let accepted = seen.course.iter().map(|moment| (moment.at_s, moment.accepted as f64)).collect();
    let stored = seen.course.iter().map(|moment| (moment.at_s, moment.stored as f64)).collect();
    let series = [("accepted".to_owned(), accepted), ("stored".to_owned(), stored)];
    Lines { title: "Millrace under stress: events so far", series: &series, unit: "events" }.write(file)
}

fn find<'a>(results: &'a Results, scenario: &str, part: &str, subject: Name) -> Option<&'a Measurement> {
    let is_it =
        |seen: &&Measurement| seen.scenario == scenario && seen.part == part && seen.subject == subject;
    results.measurements.iter().find(is_it)
}
