//! Moves figures of meters from a subject to a pseudonym.

use std::collections::BTreeMap;

use millrace_event::meter::{MeterKey, MeterSet, MeterTally};
use millrace_event::plan::ProjectId;
use serde_json::Value;

use crate::cancellations::FoundEvent;

/// The names of a subject before and after.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Renaming<'a> {
    pub(crate) subject: &'a str,
    pub(crate) pseudonym: &'a str,
}

impl Renaming<'_> {
    /// The key of the pseudonym's figure.
    pub(crate) fn key(&self, key: &MeterKey) -> MeterKey {
        MeterKey {
            subject: self.pseudonym.to_owned(),
            bucket_us: key.bucket_us,
            groups: self.groups(&key.groups),
            text: self.text(&key.text),
        }
    }

    /// The values of groups, which can be the subject.
    pub(crate) fn groups(&self, groups: &str) -> String {
        let values: Vec<Option<String>> = serde_json::from_str(groups).unwrap_or_default();
        if !values.iter().flatten().any(|value| value == self.subject) {
            return groups.to_owned();
        }
        let renamed =
            values.into_iter().map(|value| value.map_or(Value::Null, |text| self.text(&text).into()));
        Value::Array(renamed.collect()).to_string()
    }

    pub(crate) fn text(&self, text: &str) -> String {
        if text == self.subject { self.pseudonym.to_owned() } else { text.to_owned() }
    }

    /// The same additions, for the figures of the pseudonym.
    pub(crate) fn tally(&self, tally: &MeterTally) -> MeterTally {
        let mut renamed = MeterTally::default();
        for (meter, figures) in &tally.additions {
            let of_meter = renamed.additions.entry(*meter).or_default();
            for (key, additions) in figures {
                of_meter.entry(self.key(key)).or_default().extend(additions);
            }
        }
        renamed
    }
}

/// What a transaction changes in meters when it erases events.
#[derive(Debug, Default)]
pub(crate) struct MovedFigures {
    /// What is taken from the figures of the subject.
    pub(crate) taken: MeterTally,
    /// The same, for the figures of the pseudonym.
    pub(crate) given: MeterTally,
    /// Of each meter, how many of the events it has counted, and how many were faults.
    pub(crate) counts: BTreeMap<i64, (i64, i64)>,
}

impl MovedFigures {
    /// `is_incomplete` says whether retention has removed events of a day that a meter has counted: figures
    /// of such a day are moved whole, later.
    pub(crate) fn new(
        project: ProjectId,
        events: &[FoundEvent],
        meters: &MeterSet,
        renaming: Renaming<'_>,
        is_incomplete: impl Fn(i64, i64) -> bool,
    ) -> Self {
        let mut moved = Self::default();
        for event in events.iter().filter(|event| !event.is_cancelled) {
            for meter in meters.of(project, &event.name) {
                if !meter.counts(event.timestamp_us, event.received_us) {
                    continue;
                }
                let row = event.row(project);
                let mut one = MeterTally::default();
                one.add_to(meter, &row, event.timestamp_us);
                let is_fault = one.additions.is_empty();
                let counts = moved.counts.entry(meter.id.0).or_default();
                *counts = (counts.0 + i64::from(!is_fault), counts.1 + i64::from(is_fault));
                if !is_fault && !is_incomplete(meter.id.0, event.day()) {
                    moved.taken.add_to(meter, &row, event.timestamp_us);
                }
            }
        }
        moved.given = renaming.tally(&moved.taken);
        moved
    }
}

/// A figure as a table has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FigureRow {
    pub(crate) bucket_us: i64,
    pub(crate) groups: String,
    pub(crate) events: i64,
    /// A decimal number; `None` in a count of different values.
    pub(crate) value: Option<String>,
    pub(crate) latest_at_us: Option<i64>,
    pub(crate) latest_id: Option<uuid::Uuid>,
    /// The value, in a count of different values; else empty.
    pub(crate) text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_the_subject_gets_the_pseudonym_and_others_stay() {
        let renaming = Renaming { subject: "zoé\"", pseudonym: "erased-1" };
        assert_eq!(renaming.groups(r#"["a","zoé\"",null]"#), r#"["a","erased-1",null]"#);
        assert_eq!(renaming.groups(r#"["zoé"]"#), r#"["zoé"]"#);
        assert_eq!(renaming.groups("[]"), "[]");
    }
}
