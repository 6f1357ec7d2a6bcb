//! Puts figures of a meter together to the rows that answer a query, for stores that do not do so in SQL.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};

use bigdecimal::{BigDecimal, RoundingMode};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use millrace_event::meter::{Aggregation, Meter, MeterKey, MeterTally};

use crate::meters::is_unique;
use crate::{GroupFilter, MeterQuery, MeterRow, MeterWindow, StoreError};

/// Events of a project that one answer by the minute reads, at most.
pub(crate) const MINUTE_EVENTS_MAX: u32 = 100_000;
/// The length of the buckets from which such an answer is made.
pub(crate) const MINUTE_US: i64 = 60_000_000;
const HOUR_US: i64 = 60 * MINUTE_US;
/// Digits of an average after the decimal point, at most.
const AVERAGE_DIGITS: i64 = 18;

/// A figure of one bucket.
pub(crate) struct Figure {
    pub(crate) subject: String,
    pub(crate) bucket_us: i64,
    pub(crate) groups: Vec<Option<String>>,
    pub(crate) events: i64,
    pub(crate) value: BigDecimal,
    /// The value, in a count of different values.
    pub(crate) text: String,
    pub(crate) latest: Option<(i64, [u8; 16])>,
}

/// The rows of an answer, so far.
pub(crate) struct MeterAnswer<'q> {
    query: &'q MeterQuery,
    aggregation: Aggregation,
    zone: TimeZone,
    rows: BTreeMap<AnswerKey, AnswerRow>,
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

impl<'q> MeterAnswer<'q> {
    /// # Errors
    /// [`StoreError::Invalid`] for a time zone that is not known.
    pub(crate) fn new(meter: &Meter, query: &'q MeterQuery) -> Result<Self, StoreError> {
        let zone = TimeZone::get(&query.time_zone)
            .map_err(|_| StoreError::Invalid(format!("the time zone {:?} is not known", query.time_zone)))?;
        Ok(Self { query, aggregation: meter.definition.aggregation, zone, rows: BTreeMap::new() })
    }

    /// Adds a figure of the subjects and the period of the query, unless a filter leaves it out.
    pub(crate) fn add(&mut self, figure: Figure) {
        let query = self.query;
        let is_wanted = |filter: &GroupFilter| filter.values.contains(&figure.groups[filter.group]);
        if !query.filters.iter().all(is_wanted) {
            return;
        }
        let (start_us, end_us) = window(query, &self.zone, figure.bucket_us);
        let groups = query.by_groups.iter().map(|&group| figure.groups[group].clone());
        let key = AnswerKey {
            start_us,
            end_us,
            subject: query.by_subject.then(|| figure.subject.clone()),
            groups: groups.map(|value| (value.is_none(), value)).collect(),
        };
        self.rows.entry(key).or_default().add(self.aggregation, figure);
    }

    /// Adds what the events of one meter add to it.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for groups that are no list.
    pub(crate) fn add_tally(&mut self, tally: MeterTally) -> Result<(), StoreError> {
        for (MeterKey { subject, bucket_us, groups, text }, additions) in
            tally.additions.into_values().flatten()
        {
            let groups = groups_of(&groups)?;
            for addition in additions {
                self.add(Figure {
                    subject: subject.clone(),
                    bucket_us,
                    groups: groups.clone(),
                    events: addition.events,
                    value: addition.value.to_string().parse().unwrap_or_default(),
                    text: text.clone(),
                    latest: Some((addition.at_us, addition.id.into_bytes())),
                });
            }
        }
        Ok(())
    }

    /// The rows of the page of the query, ordered by window, subject and groups.
    pub(crate) fn finish(self) -> Vec<MeterRow> {
        let (offset, limit) = (self.query.offset as usize, self.query.limit as usize);
        let wanted = self.rows.into_iter().skip(offset).take(limit);
        wanted.map(|(key, row)| row.finish(self.aggregation, key)).collect()
    }
}

/// The values of groups, as a column has them.
///
/// # Errors
/// [`StoreError::Invalid`] for a text that is no list.
pub(crate) fn groups_of(column: &str) -> Result<Vec<Option<String>>, StoreError> {
    serde_json::from_str(column)
        .map_err(|error| StoreError::Invalid(format!("the groups {column} of a figure are no list: {error}")))
}

pub(crate) fn too_many_events() -> StoreError {
    StoreError::Invalid(format!(
        "minutes are counted from the events themselves, and the project has more than {MINUTE_EVENTS_MAX} in the \
         period; ask for a shorter period, or for hours"
    ))
}

pub(crate) fn events_removed() -> StoreError {
    StoreError::Invalid(
        "minutes are counted from the events themselves, and some of the period are removed; ask for hours, whose \
         figures are kept"
            .to_owned(),
    )
}

/// The window of a bucket, cut to the period of the query.
fn window(query: &MeterQuery, zone: &TimeZone, bucket_us: i64) -> (i64, i64) {
    let bounds = query.window.and_then(|window| {
        let at = Timestamp::from_microsecond(bucket_us).ok()?.to_zoned(zone.clone());
        let (start, end) = match window {
            MeterWindow::Minute => {
                let start_us = bucket_us.div_euclid(MINUTE_US) * MINUTE_US;
                return Some((start_us, start_us + MINUTE_US));
            }
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
            self.uniques.insert(figure.text);
            return;
        }
        let is_later = figure.latest > self.latest;
        let value = figure.value;
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

/// The value of two figures together. `is_later` says whether the second one is the later one.
pub(crate) fn merged(
    aggregation: Aggregation,
    first: BigDecimal,
    second: BigDecimal,
    is_later: bool,
) -> BigDecimal {
    match aggregation {
        Aggregation::Count | Aggregation::UniqueCount => BigDecimal::from(0),
        Aggregation::Sum | Aggregation::Avg => first + second,
        Aggregation::Min => first.min(second),
        Aggregation::Max => first.max(second),
        Aggregation::Latest => {
            if is_later {
                second
            } else {
                first
            }
        }
    }
}
