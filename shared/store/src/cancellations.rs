//! Cancellations: events that were sent by mistake and are billed no more.
//!
//! The row of a cancelled event stays, so the event stays a duplicate when it is sent again. One transaction
//! records the cancellation, corrects usage, and takes the event out of every meter.

use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use millrace_event::meter::{Aggregation, MeterSet};
use millrace_event::plan::ProjectId;
use millrace_event::row::Row;
use strum::IntoStaticStr;
use time::{Duration, OffsetDateTime, Time};
use uuid::Uuid;

use crate::StoreError;

/// Events of one order, at most. Workers wait while an order is carried out.
pub const CANCEL_EVENTS_MAX: usize = 1_000;
/// Characters of a reason, at most.
pub const CANCEL_REASON_CHARS_MAX: usize = 500;

const HOUR_US: i64 = 3_600_000_000;

/// An event to cancel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CancelledEvent {
    pub event_id: Uuid,
    /// In microseconds since 1970. `None` for an event that took the time of its receipt: then it is found by
    /// its id alone, as long as the store remembers that.
    pub timestamp_us: Option<i64>,
    /// Whether the event may be found by its id alone although it has a timestamp.
    pub by_id: bool,
}

/// Events of a project that someone wants cancelled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CancelOrder {
    pub project: ProjectId,
    /// At most [`CANCEL_EVENTS_MAX`].
    pub events: Vec<CancelledEvent>,
    /// Who cancels them, for the record.
    pub by: String,
    pub reason: Option<String>,
    /// Events that were received before are too old; `None` for no limit. See [`open_since`].
    pub received_from: Option<OffsetDateTime>,
}

/// What became of an event of an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum CancelOutcome {
    Cancelled,
    /// It was cancelled before, or stands in the order twice.
    AlreadyCancelled,
    /// It is not stored, or not yet.
    NotFound,
    /// Its month is closed, or it was anonymized. Or retention has removed events of its day, among which a
    /// meter would have to find the smallest, largest or latest value.
    TooOld,
}

/// For owners and operators: takes events back that were sent by mistake.
#[async_trait]
pub trait Cancellations: Send + Sync {
    /// Cancels stored events, and returns what became of each, by its index in the order. One transaction
    /// records the cancellations, corrects usage, and takes the events out of every meter. The rows stay, so
    /// that the events stay duplicates. An error changes nothing, and a repetition of an order changes
    /// nothing more.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for an order that is too large.
    async fn cancel_events(&self, order: &CancelOrder) -> Result<Vec<CancelOutcome>, StoreError>;
}

/// The start of the oldest month, UTC, of which events can be cancelled: the others ended more than `days`
/// ago.
pub fn open_since(now: OffsetDateTime, days: u32) -> OffsetDateTime {
    let open = now.checked_sub(Duration::days(days.into())).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let open = open.to_offset(time::UtcOffset::UTC);
    open.replace_day(1).map_or(open, |first| first.replace_time(Time::MIDNIGHT))
}

/// A stored event of an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct FoundEvent {
    /// Its index in the order.
    pub(crate) index: usize,
    pub(crate) timestamp_us: i64,
    pub(crate) event_id: Uuid,
    pub(crate) received_us: i64,
    pub(crate) name: String,
    pub(crate) subject: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) properties: Option<Vec<u8>>,
    pub(crate) context: Option<Vec<u8>>,
    pub(crate) is_cancelled: bool,
    /// Its subject is the pseudonym of an erasure: what was counted of it is not known any more.
    pub(crate) is_anonymized: bool,
}

impl FoundEvent {
    pub(crate) fn row(&self, project: ProjectId) -> Row<'_> {
        Row {
            subject: self.subject.as_deref(),
            client_id: self.client_id.as_deref(),
            properties: self.properties.as_deref(),
            context: self.context.as_deref(),
            ..Row::bare(project, self.event_id, &self.name)
        }
    }

    /// The day of its timestamp since 1970, UTC.
    pub(crate) fn day(&self) -> i64 {
        self.timestamp_us.div_euclid(86_400_000_000)
    }

    /// The meters that count it and whose figure could not be corrected without the other events of the day.
    fn meters_of_one_value<'m>(
        &self,
        project: ProjectId,
        meters: &'m MeterSet,
    ) -> impl Iterator<Item = i64> + use<'m> {
        let (timestamp_us, received_us) = (self.timestamp_us, self.received_us);
        let of_one_value =
            |aggregation| matches!(aggregation, Aggregation::Min | Aggregation::Max | Aggregation::Latest);
        let counting = meters.of(project, &self.name).iter();
        let counting = counting.filter(move |meter| meter.counts(timestamp_us, received_us));
        counting.filter(move |meter| of_one_value(meter.definition.aggregation)).map(|meter| meter.id.0)
    }
}

/// What an order changes.
pub(crate) struct Cancelling {
    /// By index.
    pub(crate) outcomes: Vec<CancelOutcome>,
    /// The events that become cancelled.
    pub(crate) events: Vec<FoundEvent>,
}

impl Cancelling {
    /// Decides what becomes of each event. `found` has one event for an index, at most. `is_incomplete` says
    /// whether retention has removed events of a day that a meter has counted.
    pub(crate) fn new(
        order: &CancelOrder,
        found: Vec<FoundEvent>,
        meters: &MeterSet,
        is_incomplete: impl Fn(i64, i64) -> bool,
    ) -> Self {
        let mut outcomes = vec![CancelOutcome::NotFound; order.events.len()];
        let from_us = order.received_from.map_or(i64::MIN, |from| {
            i64::try_from(from.unix_timestamp_nanos().div_euclid(1_000)).unwrap_or(i64::MIN)
        });
        let mut events: Vec<FoundEvent> = Vec::new();
        let mut cancelled = HashSet::new();
        for event in found {
            let key = (event.timestamp_us, event.event_id);
            let day = event.day();
            let mut of_one_value = event.meters_of_one_value(order.project, meters);
            outcomes[event.index] = if event.is_cancelled || cancelled.contains(&key) {
                CancelOutcome::AlreadyCancelled
            } else if event.received_us < from_us
                || event.is_anonymized
                || of_one_value.any(|meter| is_incomplete(meter, day))
            {
                CancelOutcome::TooOld
            } else {
                cancelled.insert(key);
                events.push(event.clone());
                CancelOutcome::Cancelled
            };
        }
        Self { outcomes, events }
    }

    /// The number of events by hour of receipt, in microseconds since 1970.
    pub(crate) fn hours(&self) -> BTreeMap<i64, i64> {
        let mut hours = BTreeMap::new();
        for event in &self.events {
            *hours.entry(event.received_us.div_euclid(HOUR_US) * HOUR_US).or_default() += 1;
        }
        hours
    }
}

/// # Errors
/// [`StoreError::Invalid`] for an order that is too large.
pub(crate) fn check(order: &CancelOrder) -> Result<(), StoreError> {
    if order.events.len() > CANCEL_EVENTS_MAX {
        return Err(StoreError::Invalid(format!(
            "one order cancels at most {CANCEL_EVENTS_MAX} events, and this one has {}; send several",
            order.events.len()
        )));
    }
    if order.reason.as_ref().is_some_and(|reason| reason.chars().count() > CANCEL_REASON_CHARS_MAX) {
        let message = format!("a reason has at most {CANCEL_REASON_CHARS_MAX} characters; shorten it");
        return Err(StoreError::Invalid(message));
    }
    Ok(())
}

/// The table does not count an event that is stored. Continuing would hide that.
pub(crate) fn counts_differ(table: &str) -> StoreError {
    StoreError::Invalid(format!(
        "{table} does not count an event of the order; nothing was cancelled; run `millrace audit`"
    ))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_month_is_open_until_some_days_after_its_end() {
        for (now, since) in [
            (datetime!(2026-11-30 23:59 UTC), datetime!(2026-10-01 0:00 UTC)),
            (datetime!(2026-12-05 23:59 UTC), datetime!(2026-10-01 0:00 UTC)),
            (datetime!(2026-12-06 0:00 UTC), datetime!(2026-11-01 0:00 UTC)),
            (datetime!(2026-01-10 0:00 +2), datetime!(2025-12-01 0:00 UTC)),
        ] {
            assert_eq!(open_since(now, 35), since, "{now}");
        }
        assert_eq!(open_since(datetime!(2026-11-30 12:00 UTC), 0), datetime!(2026-11-01 0:00 UTC));
    }
}
