//! What one transaction of a worker refuses, counted for the owners of projects: dead letters and conflicts,
//! by hour and reason, and the last samples. Pure, and the same for every store.
//!
//! The store writes it in the transaction itself, so that it is counted once. What the API refuses never
//! reaches a worker (`rejections`). This module must never log what an event contains.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::letters::NewLetter;
use crate::rejections::{RejectionKind, SAMPLE_PAYLOAD_BYTES_MAX, SAMPLES_KEPT};
use millrace_event::excerpt::excerpt;
use millrace_event::row::{self, EventTime};

const HOUR_US: i64 = 3_600_000_000;

/// A row of `rejection_samples`.
#[derive(Clone, Debug)]
pub(super) struct Sample<'a> {
    pub(super) received_us: i64,
    pub(super) code: &'a str,
    pub(super) message: Cow<'a, str>,
    source: SampleSource<'a>,
}

#[derive(Clone, Copy, Debug)]
enum SampleSource<'a> {
    Row(&'a [u8]),
    Call(&'a [u8]),
    /// A damaged entry has no event that could be shown.
    Nothing,
}

/// Everything that one transaction refuses.
#[derive(Default)]
pub(super) struct RejectionTally<'a> {
    /// Events by project, hour of receipt, kind and code.
    pub(super) counts: BTreeMap<(i64, i64, RejectionKind, &'a str), i64>,
    /// The last samples of each project and kind, at most [`SAMPLES_KEPT`].
    pub(super) samples: BTreeMap<(i64, RejectionKind), VecDeque<Sample<'a>>>,
    letters: u64,
    dead: u64,
    projects: BTreeSet<i64>,
    /// Code and reason of the first letter, as far as they may be logged.
    first: Option<(String, String)>,
}

impl<'a> RejectionTally<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    pub(super) fn add_letter(&mut self, letter: &NewLetter<'a>) {
        let (project, count) = (letter.project.0, i64::from(letter.event_count));
        self.letters += 1;
        self.dead += u64::from(letter.event_count);
        self.projects.insert(project);
        if self.first.is_none() {
            // The message about a call may quote it.
            let reason =
                if letter.code.is_some() { "no event can be made of a call" } else { &letter.reason };
            self.first = Some((letter.label().to_owned(), reason.to_owned()));
        }
        let source = match (letter.event_index, letter.code) {
            (None, _) => SampleSource::Nothing,
            (Some(_), Some(_)) => SampleSource::Call(letter.payload),
            (Some(_), None) => SampleSource::Row(letter.payload),
        };
        let (received_us, code, message) = (letter.received_us, letter.label(), letter.reason.clone());
        self.add(project, RejectionKind::Dead, count, Sample { received_us, code, message, source });
    }

    /// Adds a duplicate of which these fields differ from the stored event.
    pub(super) fn add_conflict(&mut self, row: &'a [u8], received_us: i64, difference: &str) {
        let message =
            Cow::Owned(format!("event {} was stored before, and differs in {difference}", id_of(row)));
        let sample = Sample { received_us, code: "conflict", message, source: SampleSource::Row(row) };
        self.add(row::project(row).0, RejectionKind::Conflict, 1, sample);
    }

    fn add(&mut self, project: i64, kind: RejectionKind, events: i64, sample: Sample<'a>) {
        let hour_us = sample.received_us.div_euclid(HOUR_US) * HOUR_US;
        *self.counts.entry((project, hour_us, kind, sample.code)).or_default() += events;
        let samples = self.samples.entry((project, kind)).or_default();
        if samples.len() == SAMPLES_KEPT as usize {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// Logs the dead letters of a committed transaction, in one line.
    pub(super) fn log_dead(&self) {
        let Some((code, reason)) = &self.first else { return };
        let (letters, events, projects) = (self.letters, self.dead, self.projects.len());
        tracing::warn!(
            letters,
            events,
            projects,
            code,
            reason,
            "events went to the dead letters; `millrace dead-letters list` shows them; code and reason are of the first"
        );
    }
}

impl Sample<'_> {
    /// The event as it was sent, without keys, at most [`SAMPLE_PAYLOAD_BYTES_MAX`].
    pub(super) fn payload(&self) -> Option<Vec<u8>> {
        // The sender's key is not known here. The API has masked it in calls.
        let excerpt = |text: &[u8]| Some(excerpt(text, SAMPLE_PAYLOAD_BYTES_MAX, None));
        match self.source {
            SampleSource::Row(row) => excerpt(json_of(row).as_bytes()),
            SampleSource::Call(call) => excerpt(call),
            SampleSource::Nothing => None,
        }
    }
}

/// The id as the client sent it.
fn id_of(row: &[u8]) -> String {
    let [_, _, client_id, _, _] = row::variable_fields(row);
    client_id.map_or_else(|| row::event_id(row).to_string(), |id| String::from_utf8_lossy(id).into_owned())
}

/// The event of a row as JSON text, with properties and context as they were sent.
fn json_of(row: &[u8]) -> String {
    let [name, subject, _, properties, context] = row::variable_fields(row);
    let text = |bytes: &[u8]| json!(String::from_utf8_lossy(bytes)).to_string();
    let mut members = vec![("id", json!(id_of(row)).to_string())];
    if let EventTime::At(us) = row::time(row) {
        let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000);
        let time = time.ok().and_then(|time| time.format(&Rfc3339).ok());
        members.extend(time.map(|time| ("timestamp", json!(time).to_string())));
    }
    members.extend(name.map(|name| ("name", text(name))));
    members.extend(subject.map(|subject| ("subject", text(subject))));
    for (member, json) in [("properties", properties), ("context", context)] {
        // Without the version byte of jsonb.
        let json = json.and_then(|json| json.get(1..));
        members.extend(json.map(|json| (member, String::from_utf8_lossy(json).into_owned())));
    }
    let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use millrace_event::plan::ProjectId;
    use millrace_event::row::Row;
    use uuid::Uuid;

    use super::*;

    fn row_with(properties: &str) -> Vec<u8> {
        let mut row = Vec::new();
        Row {
            project: ProjectId(7),
            time: EventTime::At(1_795_219_200_000_000),
            event_id: Uuid::nil(),
            by_id: false,
            name: "a \"name\"",
            subject: None,
            client_id: Some("order-1"),
            properties: Some(properties.as_bytes()),
            context: None,
        }
        .write(&mut row);
        row
    }

    #[test]
    fn a_sample_of_a_row_is_its_json_up_to_a_limit() {
        let (row, long) =
            (row_with(r#"{"a":1.50}"#), row_with(&format!("{{\"a\":\"{}\"}}", "ä".repeat(9_000))));
        let mut tally = RejectionTally::default();
        tally.add_conflict(&row, 5, "properties");
        tally.add_conflict(&long, 6, "properties");
        let samples = &tally.samples[&(7, RejectionKind::Conflict)];
        assert_eq!(samples[0].message, "event order-1 was stored before, and differs in properties");
        let json = r#"{"id":"order-1","timestamp":"2026-11-21T00:00:00Z","name":"a \"name\"","properties":{"a":1.50}}"#;
        assert_eq!(samples[0].payload().as_deref(), Some(json.as_bytes()));
        let cut = samples[1].payload().expect("a payload");
        assert!(cut.len() <= SAMPLE_PAYLOAD_BYTES_MAX && cut.len() > SAMPLE_PAYLOAD_BYTES_MAX - 4);
        String::from_utf8(cut).expect("cut between characters");
    }

    #[test]
    fn a_sample_has_no_key() {
        let key = millrace_event::key::random_key();
        let row = row_with(&format!(r#"{{"writeKey":"chosen","note":"{key}"}}"#));
        let mut tally = RejectionTally::default();
        tally.add_conflict(&row, 5, "properties");
        let payload = tally.samples[&(7, RejectionKind::Conflict)][0].payload().expect("a payload");
        let text = String::from_utf8(payload).expect("JSON");
        assert!(text.contains(r#""writeKey":"******","note":"*****"#) && !text.contains("mk_"), "{text}");
    }

    #[test]
    fn counts_are_complete_and_samples_are_the_last_hundred() {
        let row = row_with("{}");
        let mut tally = RejectionTally::default();
        (0..10_000).for_each(|at| tally.add_conflict(&row, at * HOUR_US / 5_000, "name"));
        let counts: Vec<_> = tally.counts.iter().map(|(key, count)| (key.1, *count)).collect();
        assert_eq!(counts, [(0, 5_000), (HOUR_US, 5_000)]);
        let samples = &tally.samples[&(7, RejectionKind::Conflict)];
        assert_eq!(
            (samples.len(), samples[99].received_us),
            (SAMPLES_KEPT as usize, 9_999 * HOUR_US / 5_000)
        );
    }
}
