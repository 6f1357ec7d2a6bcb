//! Reads figures of a meter by window, subject and group.

use std::collections::{BTreeMap, BTreeSet};

use bigdecimal::{BigDecimal, RoundingMode};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use millrace_event::meter::{Aggregation, Meter, MeterId};
use rusqlite::{Connection, Row, params};

use super::super::clock::{HOUR_US, moment};
use super::super::number::decimal;
use super::addition::merged;
use crate::meters::{fault_of, is_unique};
use crate::{MeterFaultCount, MeterQuery, MeterRow, MeterWindow, StoreError};

const FIGURES: &str = "
    SELECT subject, bucket, groups, events, value, latest_at, latest_id FROM meter_usage
     WHERE meter_id = ?1 AND bucket >= ?2 AND bucket < ?3 AND (?4 IS NULL OR subject IN (SELECT value FROM json_each(?4)))";
const UNIQUES: &str = "
    SELECT subject, bucket, groups, events, value, NULL, NULL FROM meter_uniques
     WHERE meter_id = ?1 AND bucket >= ?2 AND bucket < ?3 AND (?4 IS NULL OR subject IN (SELECT value FROM json_each(?4)))";
const FAULTS: &str =
    "SELECT fault, events, sample, last_at FROM meter_faults WHERE meter_id = ?1 ORDER BY events DESC, fault";
/// Digits of an average after the decimal point, at most.
const AVERAGE_DIGITS: i64 = 18;

/// One row of a table of figures.
struct Figure {
    subject: String,
    bucket_us: i64,
    groups: Vec<Option<String>>,
    events: i64,
    /// A number, or a value of a count of different values.
    value: String,
    latest: Option<(i64, [u8; 16])>,
}

/// The place of a row in an answer.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct AnswerKey {
    start_us: i64,
    end_us: i64,
    subject: Option<String>,
    /// A group without a value comes last, as in PostgreSQL.
    groups: Vec<(bool, Option<String>)>,
}

/// A row of an answer, so far.
#[derive(Default)]
struct AnswerRow {
    events: i64,
    value: Option<BigDecimal>,
    latest: Option<(i64, [u8; 16])>,
    uniques: BTreeSet<String>,
}

/// The rows that answer a query, ordered by window, subject and groups.
pub(in super::super) fn usage(
    connection: &Connection,
    meter: &Meter,
    query: &MeterQuery,
) -> Result<Vec<MeterRow>, StoreError> {
    let zone = TimeZone::get(&query.time_zone)
        .map_err(|_| StoreError::Invalid(format!("the time zone {:?} is not known", query.time_zone)))?;
    let aggregation = meter.definition.aggregation;
    let subjects =
        (!query.subjects.is_empty()).then(|| serde_json::Value::from(query.subjects.clone()).to_string());
    let select = if is_unique(aggregation) { UNIQUES } else { FIGURES };
    let mut statement = connection.prepare_cached(select)?;
    let mut rows = statement.query(params![meter.id.0, query.from_us, query.to_us, subjects])?;
    let mut answer: BTreeMap<AnswerKey, AnswerRow> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let figure = figure(row)?;
        let is_wanted = |filter: &crate::GroupFilter| filter.values.contains(&figure.groups[filter.group]);
        if query.filters.iter().all(is_wanted) {
            let (start_us, end_us) = window(query, &zone, figure.bucket_us);
            let groups = query.by_groups.iter().map(|&group| figure.groups[group].clone());
            let key = AnswerKey {
                start_us,
                end_us,
                subject: query.by_subject.then(|| figure.subject.clone()),
                groups: groups.map(|value| (value.is_none(), value)).collect(),
            };
            answer.entry(key).or_default().add(aggregation, figure);
        }
    }
    let wanted = answer.into_iter().skip(query.offset as usize).take(query.limit as usize);
    Ok(wanted.map(|(key, row)| row.finish(aggregation, key)).collect())
}

fn figure(row: &Row<'_>) -> Result<Figure, StoreError> {
    let groups: String = row.get(2)?;
    let groups = serde_json::from_str(&groups).map_err(|error| {
        StoreError::Invalid(format!("the groups {groups} of a figure are no list: {error}"))
    })?;
    Ok(Figure {
        subject: row.get(0)?,
        bucket_us: row.get(1)?,
        groups,
        events: row.get(3)?,
        value: row.get(4)?,
        latest: row.get::<_, Option<i64>>(5)?.zip(row.get(6)?),
    })
}

/// The window of a bucket, cut to the period of the query.
fn window(query: &MeterQuery, zone: &TimeZone, bucket_us: i64) -> (i64, i64) {
    let bounds = query.window.and_then(|window| {
        let at = Timestamp::from_microsecond(bucket_us).ok()?.to_zoned(zone.clone());
        let (start, end) = match window {
            MeterWindow::Hour => {
                // One of two hours with the same local time, when clocks are set back.
                let offset_us = i64::from(at.offset().seconds()) * 1_000_000;
                let start_us = (bucket_us + offset_us).div_euclid(HOUR_US) * HOUR_US - offset_us;
                return Some((start_us, start_us + HOUR_US));
            }
            MeterWindow::Day => (at.start_of_day().ok()?, 1.day()),
            MeterWindow::Month => (at.first_of_month().ok()?.start_of_day().ok()?, 1.month()),
        };
        let end = start.checked_add(end).ok()?;
        Some((start.timestamp().as_microsecond(), end.timestamp().as_microsecond()))
    });
    let (start_us, end_us) = bounds.unwrap_or((query.from_us, query.to_us));
    (start_us.max(query.from_us), end_us.min(query.to_us))
}

impl AnswerRow {
    fn add(&mut self, aggregation: Aggregation, figure: Figure) {
        self.events += figure.events;
        if is_unique(aggregation) {
            self.uniques.insert(figure.value);
            return;
        }
        let is_later = figure.latest > self.latest;
        let value = decimal(&figure.value);
        self.value = Some(match self.value.take() {
            None => value,
            Some(old) => merged(aggregation, old, value, is_later),
        });
        if is_later {
            self.latest = figure.latest;
        }
    }

    fn finish(self, aggregation: Aggregation, key: AnswerKey) -> MeterRow {
        let value = self.value.unwrap_or_default();
        let value = match aggregation {
            Aggregation::Count => BigDecimal::from(self.events),
            Aggregation::UniqueCount => BigDecimal::from(self.uniques.len() as u64),
            Aggregation::Avg => (value / self.events).with_scale_round(AVERAGE_DIGITS, RoundingMode::HalfUp),
            Aggregation::Sum | Aggregation::Min | Aggregation::Max | Aggregation::Latest => value,
        };
        MeterRow {
            start_us: key.start_us,
            end_us: key.end_us,
            subject: key.subject,
            groups: key.groups.into_iter().map(|(_, value)| value).collect(),
            events: self.events.unsigned_abs(),
            value: value.normalized().to_plain_string(),
        }
    }
}

/// What a meter does not count, the most frequent first.
pub(in super::super) fn faults(
    connection: &Connection,
    meter: MeterId,
) -> Result<Vec<MeterFaultCount>, StoreError> {
    let mut statement = connection.prepare_cached(FAULTS)?;
    let mut rows = statement.query([meter.0])?;
    let mut counts = Vec::new();
    while let Some(row) = rows.next()? {
        let fault: String = row.get(0)?;
        counts.push(MeterFaultCount {
            fault: fault_of(&fault)?,
            events: row.get::<_, i64>(1)?.unsigned_abs(),
            sample: row.get(2)?,
            last_at: moment(row.get(3)?),
        });
    }
    Ok(counts)
}
