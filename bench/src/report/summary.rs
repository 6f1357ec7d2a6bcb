//! The report on standard output.

use super::medians::medians;
use super::repetitions::repetitions;
use super::tables::{ceilings, costs, goal_table, latencies, throughput, variants};
use crate::results::Results;

/// All tables as aligned text, for standard output.
pub fn summary(results: &Results) -> String {
    let mut text = String::new();
    let medians = &medians(results);
    let tables = [
        ceilings(results),
        throughput(medians),
        latencies(medians),
        costs(medians),
        variants(medians),
        repetitions(results),
        goal_table(medians),
    ];
    for table in tables {
        text += &table.aligned();
        text.push('\n');
    }
    if results.is_quick {
        text += "This was a quick run. It shows that everything works; do not compare its numbers.\n";
    }
    text
}
