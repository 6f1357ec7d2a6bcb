//! The Markdown page of a run. Only the text between two markers is generated; the rest of the page is
//! written by hand.

use std::fs;
use std::path::Path;

use super::charts;
use super::medians::medians;
use super::repetitions::repetitions;
use super::tables::{ceilings, costs, goal_table, latencies, throughput, variants};
use crate::error::BenchError;
use crate::results::Results;
use crate::scenarios::Scenario;

const BEGIN: &str = "<!-- figures: begin -->";
const END: &str = "<!-- figures: end -->";

const GOALS: &str = "\
The goals are for Millrace. A missed goal shows the measured value divided by the target. `x` is a ratio.";
const CEILINGS: &str = "\
The highest rates of single components that have the machine to themselves. One COPY connection writes the \
generator's events into the same table, the hyper server reads requests and ignores them, and the Redis script only \
appends to a stream.";
const LOADS: &str = "\
A `saturated` load, and one named after its number of connections, sends each connection's next request when the \
previous one is answered. `nine tenths` and `half load` send 90 % and 50 % of the requests that the same subject stored \
per second when saturated. A load named after requests/s sends at that fixed rate. The loads of `duplicates` are \
saturated, and named after the share of duplicate events.";
const THROUGHPUT: &str = "\
`rows before` is the size of the table before the scenario. The backlog is the number of events accepted and not yet \
stored. `held back` is the share of time in which the generator waited for the backlog to shrink. Failed requests were \
refused, not answered, or due and never sent.";
const VARIANTS: &str = "\
What a setting costs: values relative to those of `millrace` at the same load of the same run. Events stored are \
compared relative to COPY, so that the drift of the machine does not count. `nine tenths` and `half \
load` are shares of what the variant itself stores.";
const REPETITIONS: &str = "\
Each cell is the median of the repetitions, with the lowest and the highest value in parentheses. `one COPY connection` \
was measured before and after each subject, into a table with `jsonb` columns: its spread is the drift of the machine, \
and `stored / COPY` is relative to the mean of both. `last third / first third` compares the events stored within one \
window: below 1, the rate did not last. The other tables show medians.";
const LATENCIES: &str = "\
All times are in milliseconds. Latency is the time from when a request was due until its answer. `generator lateness` \
is the generator's own share of it. Freshness is the time from an event's answer until the event can be read from the \
table.";
const COSTS: &str = "\
CPU time and memory are listed by process. `generator CPUs` is the number of processors that the load generator kept \
busy. Redis and AOF bytes are those of events that wait in the stream.";

/// Replaces the text between the markers of `page`, and writes the charts to the folder `images` next to it.
///
/// # Errors
/// When the page does not exist, or has no markers.
pub fn write_page(page: &Path, results: &Results) -> Result<(), BenchError> {
    let path = page.display();
    let text = fs::read_to_string(page)
        .map_err(|error| BenchError::new(format!("cannot read the page {path}: {error}")))?;
    let around = || Some((text.split_once(BEGIN)?.0, text.split_once(END)?.1));
    let (before, after) = around().ok_or_else(|| {
        BenchError::new(format!(
            "{path} has no markers for the tables; add the lines {BEGIN} and {END} where they belong"
        ))
    })?;
    fs::write(page, format!("{before}{BEGIN}\n\n{}\n{END}{after}", sections(results)))?;
    let images = page.with_file_name("images");
    fs::create_dir_all(&images)?;
    charts::write_all(&images, results)
}

fn sections(results: &Results) -> String {
    let medians = &medians(results);
    let mut text = String::new();
    if results.is_quick {
        text += "**These results are from a quick run. They show that everything works; do not compare them.**\n\n";
    }
    let facts: String = results.machine.iter().map(|(name, fact)| format!("- {name}: {fact}\n")).collect();
    let scenarios: String = Scenario::ALL
        .iter()
        .map(|scenario| format!("- `{}`: {}\n", scenario.name(), scenario.description()))
        .collect();
    let throughput_images = "![Events stored per second](images/bench-stored.svg)\n\
                             ![Events accepted and stored over time](images/bench-course.svg)\n";
    let latency_images = "![Latency at 481 requests/s](images/bench-steady.svg)\n\
                          ![Latency of 1,000 saturated connections](images/bench-saturated.svg)\n";
    let sections = [
        ("Machine", vec![facts]),
        ("Goals", vec![GOALS.to_owned(), goal_table(medians).markdown()]),
        ("Ceilings", vec![CEILINGS.to_owned(), ceilings(results).markdown()]),
        ("Scenarios", vec![scenarios, LOADS.to_owned()]),
        (
            "Throughput",
            vec![throughput_images.to_owned(), THROUGHPUT.to_owned(), throughput(medians).markdown()],
        ),
        (
            "Latency and freshness",
            vec![latency_images.to_owned(), LATENCIES.to_owned(), latencies(medians).markdown()],
        ),
        ("Costs", vec![COSTS.to_owned(), costs(medians).markdown()]),
        ("TLS, replicas and json", vec![VARIANTS.to_owned(), variants(medians).markdown()]),
        ("Repetitions and drift", vec![REPETITIONS.to_owned(), repetitions(results).markdown()]),
    ];
    for (title, paragraphs) in sections {
        // The run did not measure it.
        if paragraphs.last().is_some_and(String::is_empty) {
            continue;
        }
        text += &format!("## {title}\n\n");
        for paragraph in paragraphs {
            text += &format!("{}\n\n", paragraph.trim_end());
        }
    }
    text.trim_end().to_owned()
}
