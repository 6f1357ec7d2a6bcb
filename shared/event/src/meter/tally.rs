//! What the events of one transaction add to meters.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::decimal::Decimal;
use super::definition::{Aggregation, Meter, MeterId};
use super::measure::{Measure, MeasuredValue, MeterFault};
use crate::plan::ProjectId;
use crate::row::Row;

/// The shortest window. Every time zone's hours and days begin at the start of one.
pub const BUCKET_US: i64 = 900_000_000;

/// The meters of an installation, for finding those that count an event.
#[derive(Clone, Debug, Default)]
pub struct MeterSet {
    by_event: HashMap<ProjectId, HashMap<String, Vec<Meter>>>,
}

/// The place of a figure.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MeterKey {
    /// Empty when the event has none: no event has an empty subject.
    pub subject: String,
    /// The start of the bucket, in microseconds since 1970.
    pub bucket_us: i64,
    /// See [`Measure::groups`].
    pub groups: String,
    /// The value, in a count of different values; else empty.
    pub text: String,
}

/// What events add to a figure.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Addition {
    pub events: i64,
    /// The sum, the smallest, the largest or the latest value. 0 for counts.
    pub value: Decimal,
    /// Of the latest event: its timestamp in microseconds since 1970, and its id.
    pub at_us: i64,
    pub id: Uuid,
}

/// Events with the name of a meter's events that it does not count, for one reason.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FaultTally {
    pub events: i64,
    /// The properties of one of them, cut after [`SAMPLE_BYTES_MAX`].
    pub sample: Vec<u8>,
}

/// Bytes of a sample, at most.
pub const SAMPLE_BYTES_MAX: usize = 1_024;

/// What events add to meters.
#[derive(Clone, Debug, Default)]
pub struct MeterTally {
    /// Additions with the same key are in order; together they are one.
    pub additions: BTreeMap<MeterId, HashMap<MeterKey, Vec<Addition>>>,
    pub faults: BTreeMap<(MeterId, MeterFault), FaultTally>,
}

impl MeterSet {
    pub fn new(meters: impl IntoIterator<Item = Meter>) -> Self {
        let mut set = Self::default();
        for meter in meters {
            let of_project = set.by_event.entry(meter.project).or_default();
            of_project.entry(meter.definition.event.clone()).or_default().push(meter);
        }
        set
    }

    pub fn is_empty(&self) -> bool {
        self.by_event.is_empty()
    }

    /// Whether any event of this project can be counted.
    pub fn has(&self, project: ProjectId) -> bool {
        self.by_event.contains_key(&project)
    }

    /// The meters of events with this name.
    pub fn of(&self, project: ProjectId, event: &str) -> &[Meter] {
        let of_project = self.by_event.get(&project);
        of_project.and_then(|by_event| by_event.get(event)).map_or(&[], Vec::as_slice)
    }
}

impl MeterTally {
    pub fn is_empty(&self) -> bool {
        self.additions.is_empty() && self.faults.is_empty()
    }

    /// Adds an event that is stored with this timestamp to the meters whose writers count it.
    pub fn add(&mut self, meters: &MeterSet, event: &Row<'_>, timestamp_us: i64, received_us: i64) {
        for meter in meters.of(event.project, event.name) {
            if meter.counts(timestamp_us, received_us) {
                self.add_to(meter, event, timestamp_us);
            }
        }
    }

    /// Adds an event to one meter.
    pub fn add_to(&mut self, meter: &Meter, event: &Row<'_>, timestamp_us: i64) {
        self.add_to_buckets(meter, event, timestamp_us, BUCKET_US);
    }

    /// The same with buckets of this length, in microseconds, for figures that are answered and not kept.
    pub fn add_to_buckets(&mut self, meter: &Meter, event: &Row<'_>, timestamp_us: i64, length_us: i64) {
        let Measure { groups, value } = match meter.definition.measure(event) {
            Ok(measure) => measure,
            Err(fault) => return self.add_fault(meter.id, fault, event),
        };
        let (number, text) = match value {
            MeasuredValue::None => (Decimal::default(), String::new()),
            MeasuredValue::Number(number) => (number, String::new()),
            MeasuredValue::Text(text) => (Decimal::default(), text),
        };
        let bucket_us = timestamp_us.div_euclid(length_us) * length_us;
        let subject = event.subject.unwrap_or_default().to_owned();
        let key = MeterKey { subject, bucket_us, groups, text };
        let addition = Addition { events: 1, value: number, at_us: timestamp_us, id: event.event_id };
        let additions = self.additions.entry(meter.id).or_default().entry(key).or_default();
        let merged =
            additions.last_mut().is_some_and(|last| last.merge(addition, meter.definition.aggregation));
        if !merged {
            additions.push(addition);
        }
    }

    /// The events that are counted, by all meters together.
    pub fn events(&self) -> i64 {
        let additions = self.additions.values().flat_map(HashMap::values).flatten();
        additions.map(|addition| addition.events).sum()
    }

    fn add_fault(&mut self, meter: MeterId, fault: MeterFault, event: &Row<'_>) {
        let tally = self.faults.entry((meter, fault)).or_default();
        if tally.events == 0 {
            let properties = event.properties.unwrap_or_default();
            tally.sample = properties[..properties.len().min(SAMPLE_BYTES_MAX)].to_vec();
        }
        tally.events += 1;
    }
}

impl Addition {
    /// Adds another one to it. False, and no change, if the sum has too many digits.
    pub fn merge(&mut self, other: Self, aggregation: Aggregation) -> bool {
        let value = match aggregation {
            Aggregation::Count | Aggregation::UniqueCount => self.value,
            Aggregation::Sum | Aggregation::Avg => match self.value.checked_add(other.value) {
                Some(sum) => sum,
                None => return false,
            },
            Aggregation::Min => self.value.min(other.value),
            Aggregation::Max => self.value.max(other.value),
            Aggregation::Latest if (other.at_us, other.id) > (self.at_us, self.id) => other.value,
            Aggregation::Latest => self.value,
        };
        let (at_us, id) = (other.at_us, other.id).max((self.at_us, self.id));
        *self = Self { events: self.events + other.events, value, at_us, id };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::{Group, MeterDefinition};

    fn meter(aggregation: Aggregation) -> Meter {
        Meter {
            id: MeterId(1),
            project: ProjectId(7),
            definition: MeterDefinition {
                slug: "tokens".to_owned(),
                event: "call".to_owned(),
                aggregation,
                value: (aggregation != Aggregation::Count).then(|| "$.n".parse().unwrap()),
                groups: vec![Group { name: "model".to_owned(), path: "$.model".parse().unwrap() }],
            },
            received_from_us: i64::MIN,
            counted_until_us: i64::MAX,
        }
    }

    /// The figures of events at these times, with these properties.
    fn tally(meter: Meter, events: &[(i64, &str)]) -> MeterTally {
        let (project, set) = (meter.project, MeterSet::new([meter]));
        let mut tally = MeterTally::default();
        for (index, (at_us, properties)) in events.iter().enumerate() {
            let row = Row::bare(project, Uuid::from_u128(index as u128), "call");
            let row = Row { subject: Some("acme"), properties: Some(properties.as_bytes()), ..row };
            tally.add(&set, &row, *at_us, 0);
        }
        tally
    }

    fn figures(tally: &MeterTally) -> Vec<(i64, String, i64, String)> {
        let of_meter = tally.additions.values().flatten();
        let figure = |(key, added): (&MeterKey, &Vec<Addition>)| {
            let [added] = added[..] else { panic!("more than one addition") };
            (key.bucket_us, key.groups.clone() + &key.text, added.events, added.value.to_string())
        };
        let mut figures: Vec<_> = of_meter.map(figure).collect();
        figures.sort_unstable();
        figures
    }

    #[test]
    fn each_aggregation_makes_one_figure_of_the_events_of_a_bucket_and_a_group() {
        let events = [(5, r#"{"n":3}"#), (9, r#"{"n":-1.5}"#), (1, r#"{"n":10}"#)];
        for (aggregation, value) in [
            (Aggregation::Count, "0"),
            (Aggregation::Sum, "11.5"),
            (Aggregation::Avg, "11.5"),
            (Aggregation::Min, "-1.5"),
            (Aggregation::Max, "10"),
            (Aggregation::Latest, "-1.5"),
        ] {
            let figures = figures(&tally(meter(aggregation), &events));
            assert_eq!(figures, [(0, "[null]".to_owned(), 3, value.to_owned())], "{aggregation}");
        }
    }

    #[test]
    fn different_values_of_a_unique_count_are_kept_apart() {
        let events = [(0, r#"{"n":"a"}"#), (0, r#"{"n":"b"}"#), (0, r#"{"n":"a"}"#)];
        let figures = figures(&tally(meter(Aggregation::UniqueCount), &events));
        let figure = |text: &str, events| (0, format!("[null]{text}"), events, "0".to_owned());
        assert_eq!(figures, [figure("a", 2), figure("b", 1)]);
    }

    #[test]
    fn buckets_begin_at_a_quarter_of_an_hour_also_before_1970() {
        let events = [(-1, r#"{"n":1}"#), (BUCKET_US, r#"{"n":1}"#)];
        let buckets: Vec<_> =
            figures(&tally(meter(Aggregation::Sum), &events)).into_iter().map(|figure| figure.0).collect();
        assert_eq!(buckets, [-BUCKET_US, BUCKET_US]);
    }

    #[test]
    fn a_sum_with_too_many_digits_becomes_two_additions_and_loses_nothing() {
        let events = vec![(0, r#"{"n":999999999999999999}"#); 400];
        let tally = tally(meter(Aggregation::Sum), &events);
        let added = tally.additions[&MeterId(1)].values().next().unwrap();
        assert!(added.len() > 1);
        assert_eq!(added.iter().map(|addition| addition.events).sum::<i64>(), 400);
    }

    #[test]
    fn events_outside_the_part_that_writers_count_are_left_to_the_backfill() {
        let meter = Meter { counted_until_us: 10, ..meter(Aggregation::Sum) };
        assert_eq!(figures(&tally(meter, &[(9, r#"{"n":1}"#), (10, r#"{"n":1}"#)])).len(), 1);
        let later = Meter { received_from_us: 1, ..self::meter(Aggregation::Sum) };
        assert!(tally(later, &[(9, r#"{"n":1}"#)]).is_empty());
    }

    #[test]
    fn an_event_without_a_usable_value_is_counted_as_a_fault_with_a_sample() {
        let tally = tally(meter(Aggregation::Sum), &[(0, r#"{"n":"many"}"#), (0, r#"{"n":"x"}"#)]);
        let fault = &tally.faults[&(MeterId(1), MeterFault::ValueNotANumber)];
        assert_eq!((fault.events, &fault.sample[..]), (2, &br#"{"n":"many"}"#[..]));
    }
}
