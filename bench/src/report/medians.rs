//! One measurement in place of several repetitions.

use serde_json::Value;

use crate::results::{Measurement, Results};
use crate::scenarios::Scenario;
use crate::subjects::SubjectName;

/// The repetitions of each scenario, load and subject, in the order of the first.
pub fn groups(results: &Results) -> Vec<Vec<&Measurement>> {
    let mut groups: Vec<Vec<&Measurement>> = Vec::new();
    for measurement in &results.measurements {
        let title = |of: &Measurement| (of.scenario.clone(), of.part.clone(), of.subject);
        match groups.iter_mut().find(|group| title(group[0]) == title(measurement)) {
            Some(group) => group.push(measurement),
            None => groups.push(vec![measurement]),
        }
    }
    groups.sort_by_key(|group| order(group[0]));
    groups
}

/// The place of a measurement in the tables: a run that was continued has them in another order.
fn order(measurement: &Measurement) -> (Option<usize>, SubjectName) {
    (Scenario::ALL.iter().position(|scenario| scenario.name() == measurement.scenario), measurement.subject)
}

/// The results with one measurement for each group: every number is the median of the repetitions.
pub fn medians(results: &Results) -> Results {
    let measurements = groups(results).into_iter().map(median_measurement).collect();
    Results { measurements, ..results.clone() }
}

fn median_measurement(group: Vec<&Measurement>) -> Measurement {
    let values = group.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>();
    let values = values.expect("a measurement can be written as JSON");
    let values: Vec<&Value> = values.iter().collect();
    serde_json::from_value(median_value(&values)).expect("a median has the form of a measurement")
}

/// Of numbers the median, of objects the medians of their members, of anything else the first. A value that
/// is null in a repetition counts in the others.
fn median_value(values: &[&Value]) -> Value {
    let known: Vec<&Value> = values.iter().copied().filter(|value| !value.is_null()).collect();
    match known.first() {
        Some(Value::Number(_)) => {
            let mut numbers = known;
            numbers.sort_by(|a, b| number(a).total_cmp(&number(b)));
            // Of an even number of repetitions the lower one in the middle, so that counts remain whole.
            numbers[(numbers.len() - 1) / 2].clone()
        }
        Some(Value::Object(members)) => members
            .keys()
            .map(|name| {
                let of_name: Vec<&Value> = known.iter().filter_map(|value| value.get(name)).collect();
                (name.clone(), median_value(&of_name))
            })
            .collect(),
        Some(other) => (*other).clone(),
        None => Value::Null,
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_number_is_the_median_of_its_own() {
        let repetitions = [
            json!({"part": "saturated", "rate": 3.5, "count": 7, "cpu": {"redis": 1.0}, "pending": null, "course": [1]}),
            json!({"part": "saturated", "rate": 1.5, "count": 9, "cpu": {"redis": 3.0}, "pending": 4, "course": []}),
            json!({"part": "saturated", "rate": 2.5, "count": 8, "cpu": {"redis": 2.0}, "pending": null, "course": []}),
        ];
        let values: Vec<&Value> = repetitions.iter().collect();
        let expected = json!({"part": "saturated", "rate": 2.5, "count": 8, "cpu": {"redis": 2.0}, "pending": 4, "course": [1]});
        assert_eq!(median_value(&values), expected);
        assert_eq!(median_value(&values[..2])["rate"], 1.5, "the lower of two");
    }
}
