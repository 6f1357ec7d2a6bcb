//! The parameters of the statements that add to meters: arrays, with all figures of all meters.

use millrace_event::meter::{Addition, MeterKey, MeterTally};
use uuid::Uuid;

use super::super::copy::Instant;
use super::super::parameters::number;

/// Rows of `meter_additions`. The figures of a meter are those from `firsts` to `lasts`, counted from 1.
#[derive(Default)]
pub(super) struct AdditionRows<'a> {
    pub(super) meters: Vec<i64>,
    pub(super) firsts: Vec<i32>,
    pub(super) lasts: Vec<i32>,
    pub(super) subjects: Vec<&'a str>,
    pub(super) buckets: Vec<Instant>,
    pub(super) groups: Vec<&'a str>,
    pub(super) events: Vec<i64>,
    pub(super) values: Vec<String>,
    pub(super) latest_at: Vec<Instant>,
    pub(super) latest_ids: Vec<Uuid>,
    pub(super) texts: Vec<&'a str>,
}

impl<'a> AdditionRows<'a> {
    pub(super) fn new(tally: &'a MeterTally) -> Self {
        let mut rows = Self::default();
        for (meter, figures) in &tally.additions {
            rows.meters.push(meter.0);
            rows.firsts.push(number(rows.subjects.len() + 1));
            for (key, additions) in figures {
                additions.iter().for_each(|addition| rows.push(key, addition));
            }
            rows.lasts.push(number(rows.subjects.len()));
        }
        rows
    }

    fn push(&mut self, key: &'a MeterKey, addition: &Addition) {
        self.subjects.push(&key.subject);
        self.buckets.push(Instant(key.bucket_us));
        self.groups.push(&key.groups);
        self.texts.push(&key.text);
        self.events.push(addition.events);
        self.values.push(addition.value.to_string());
        self.latest_at.push(Instant(addition.at_us));
        self.latest_ids.push(addition.id);
    }
}

/// Rows of `meter_faults`, in key order: lanes that update the same rows cannot wait for each other.
#[derive(Default)]
pub(super) struct FaultRows<'a> {
    pub(super) meters: Vec<i64>,
    pub(super) faults: Vec<&'static str>,
    pub(super) events: Vec<i64>,
    pub(super) samples: Vec<&'a [u8]>,
}

impl<'a> FaultRows<'a> {
    pub(super) fn new(tally: &'a MeterTally) -> Self {
        let mut rows = Self::default();
        for ((meter, fault), counted) in &tally.faults {
            rows.meters.push(meter.0);
            rows.faults.push(fault.into());
            rows.events.push(counted.events);
            rows.samples.push(&counted.sample);
        }
        rows
    }
}
