//! The table of repetitions: how far they differ, and how far the machine drifted meanwhile.

use super::medians::groups;
use super::numbers::{short, whole};
use super::tables::title;
use super::text_table::TextTable;
use crate::results::{Measurement, Results};

pub fn repetitions(results: &Results) -> TextTable {
    let row = |group: &Vec<&Measurement>| {
        let all =
            |value: fn(&Measurement) -> f64| spread(group.iter().map(|found| value(found)).collect(), number);
        let some = |value: fn(&Measurement) -> Option<f64>| {
            spread(group.iter().filter_map(|found| value(found)).collect(), ratio)
        };
        let copy = group
            .iter()
            .filter_map(|found| found.copy)
            .flat_map(|copy| [copy.before_per_s, copy.after_per_s]);
        let mut row = title(group[0]);
        row.extend([
            group.len().to_string(),
            all(|found| found.stored_per_s),
            spread(copy.collect(), number),
            some(|found| found.copy.map(|copy| copy.stored_ratio)),
            some(|found| found.last_third),
            all(Measurement::cpu_s_per_million_in_all),
            all(|found| found.latency.p99_ms),
        ]);
        row
    };
    let head = [
        "scenario",
        "load",
        "subject",
        "repetitions",
        "events stored/s",
        "one COPY connection, events/s",
        "stored / COPY",
        "last third / first third",
        "CPU seconds per million events, in all",
        "latency p99 in ms",
    ];
    TextTable::new(&head, groups(results).iter().map(row))
}

/// The median, with the lowest and the highest value when there are several; "-" when there is none.
fn spread(mut values: Vec<f64>, text: fn(f64) -> String) -> String {
    values.sort_by(f64::total_cmp);
    match values[..] {
        [] => "-".to_owned(),
        [one] => text(one),
        [lowest, .., highest] => {
            let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
            let median = text(median);
            format!("{median} ({} to {})", text(lowest), text(highest))
        }
    }
}

fn number(value: f64) -> String {
    if value >= 1_000.0 { whole(value) } else { short(value) }
}

fn ratio(value: f64) -> String {
    format!("{value:.2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_the_median_with_the_lowest_and_the_highest_value() {
        assert_eq!(spread(vec![3.0, 1.0, 2.0], ratio), "2.00 (1.00 to 3.00)");
        assert_eq!(spread(vec![3.0, 1.0], ratio), "2.00 (1.00 to 3.00)");
        assert_eq!(spread(vec![1_234.5], number), "1,234");
        assert_eq!(spread(Vec::new(), ratio), "-");
    }
}
