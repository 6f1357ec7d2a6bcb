//! Takes cancelled events out of the figures of meters, in the transaction that cancels them.
//!
//! What counts and sums is subtracted exactly. The smallest, largest or latest value is found again among the
//! events that are kept, if it was that of a cancelled event.

use millrace_event::meter::{Addition, Aggregation, BUCKET_US, Meter, MeterKey, MeterTally};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::number::decimal;
use super::definitions::meters;
use super::events::{COLUMNS, STILL_COUNTED, add_events};
use crate::StoreError;
use crate::cancellations::counts_differ;
use crate::meters::is_unique;

const FIGURE: &str = "
    SELECT events, value, latest_at, latest_id FROM meter_usage
     WHERE meter_id = ?1 AND subject = ?2 AND bucket = ?3 AND groups = ?4";
const SET: &str = "
    UPDATE meter_usage SET events = ?5, value = ?6, latest_at = ?7, latest_id = ?8
     WHERE meter_id = ?1 AND subject = ?2 AND bucket = ?3 AND groups = ?4";
const REMOVE: &str =
    "DELETE FROM meter_usage WHERE meter_id = ?1 AND subject = ?2 AND bucket = ?3 AND groups = ?4";
const SUBTRACT_UNIQUE: &str = "
    UPDATE meter_uniques SET events = events - ?6
     WHERE meter_id = ?1 AND subject = ?2 AND bucket = ?3 AND groups = ?4 AND value = ?5";
const REMOVE_UNIQUE: &str = "
    DELETE FROM meter_uniques
     WHERE meter_id = ?1 AND subject = ?2 AND bucket = ?3 AND groups = ?4 AND value = ?5 AND events = 0";
const SUBTRACT_FAULT: &str =
    "UPDATE meter_faults SET events = events - ?3 WHERE meter_id = ?1 AND fault = ?2";
const REMOVE_FAULT: &str = "DELETE FROM meter_faults WHERE meter_id = ?1 AND fault = ?2 AND events = 0";

/// A row of `meter_usage`.
struct Figure {
    events: i64,
    value: String,
    at: Option<i64>,
    id: Option<[u8; 16]>,
}

/// Subtracts the events of a tally, after they were recorded as cancelled.
pub(in super::super) fn subtract(transaction: &Connection, tally: &MeterTally) -> Result<(), StoreError> {
    if tally.is_empty() {
        return Ok(());
    }
    for info in meters(transaction, None)? {
        let meter = &info.meter;
        for (key, additions) in tally.additions.get(&meter.id).into_iter().flatten() {
            if is_unique(meter.definition.aggregation) {
                subtract_unique(transaction, meter, key, additions)?;
            } else {
                subtract_figure(transaction, meter, key, additions)?;
            }
        }
    }
    for ((meter, fault), counted) in &tally.faults {
        let fault = <&str>::from(fault);
        if transaction.execute(SUBTRACT_FAULT, params![meter.0, fault, counted.events])? == 0 {
            return Err(counts_differ("meter_faults"));
        }
        transaction.execute(REMOVE_FAULT, params![meter.0, fault])?;
    }
    Ok(())
}

fn subtract_unique(
    transaction: &Connection,
    meter: &Meter,
    MeterKey { subject, bucket_us, groups, text }: &MeterKey,
    additions: &[Addition],
) -> Result<(), StoreError> {
    let events: i64 = additions.iter().map(|addition| addition.events).sum();
    let mut subtract = transaction.prepare_cached(SUBTRACT_UNIQUE)?;
    if subtract.execute(params![meter.id.0, subject, bucket_us, groups, text, events])? == 0 {
        return Err(counts_differ("meter_uniques"));
    }
    let mut remove = transaction.prepare_cached(REMOVE_UNIQUE)?;
    remove.execute(params![meter.id.0, subject, bucket_us, groups, text])?;
    Ok(())
}

fn subtract_figure(
    transaction: &Connection,
    meter: &Meter,
    key: &MeterKey,
    additions: &[Addition],
) -> Result<(), StoreError> {
    let MeterKey { subject, bucket_us, groups, .. } = key;
    let place = params![meter.id.0, subject, bucket_us, groups];
    let read = |row: &Row<'_>| {
        Ok(Figure { events: row.get(0)?, value: row.get(1)?, at: row.get(2)?, id: row.get(3)? })
    };
    let figure = transaction.prepare_cached(FIGURE)?.query_row(place, read).optional()?;
    let Some(mut figure) = figure else { return Err(counts_differ("meter_usage")) };
    figure.events -= additions.iter().map(|addition| addition.events).sum::<i64>();
    if figure.events == 0 {
        transaction.prepare_cached(REMOVE)?.execute(place)?;
        return Ok(());
    }
    let values = additions.iter().map(|addition| decimal(&addition.value.to_string()));
    match meter.definition.aggregation {
        Aggregation::Count | Aggregation::UniqueCount => {}
        Aggregation::Sum | Aggregation::Avg => {
            let value = values.fold(decimal(&figure.value), |rest, value| rest - value);
            figure.value = value.normalized().to_plain_string();
        }
        Aggregation::Min | Aggregation::Max => {
            let old = decimal(&figure.value);
            if values.into_iter().any(|value| value == old) {
                figure.value = kept(transaction, meter, key)?.value;
            }
        }
        Aggregation::Latest => {
            let latest = (figure.at, figure.id);
            if additions.iter().any(|one| (Some(one.at_us), Some(*one.id.as_bytes())) == latest) {
                figure = Figure { events: figure.events, ..kept(transaction, meter, key)? };
            }
        }
    }
    let Figure { events, value, at, id } = figure;
    let mut set = transaction.prepare_cached(SET)?;
    set.execute(params![meter.id.0, subject, bucket_us, groups, events, value, at, id])?;
    Ok(())
}

/// The figure of the events that are kept and not cancelled.
fn kept(transaction: &Connection, meter: &Meter, key: &MeterKey) -> Result<Figure, StoreError> {
    let select = format!(
        "SELECT {COLUMNS} FROM events
          WHERE project_id = ?1 AND timestamp >= ?2 AND timestamp < ?3 AND name = ?4 AND coalesce(subject, '') = ?5
            AND received_at >= ?6 AND timestamp < ?7 AND {STILL_COUNTED}"
    );
    let parameters = params![
        meter.project.0,
        key.bucket_us,
        key.bucket_us + BUCKET_US,
        meter.definition.event,
        key.subject,
        meter.received_from_us,
        meter.counted_until_us,
    ];
    let mut tally = MeterTally::default();
    add_events(transaction, &select, parameters, meter, &mut tally)?;
    let figures = tally.additions.get(&meter.id).and_then(|figures| figures.get(key));
    // Additions of one value always merge.
    let kept = figures.and_then(|additions| additions.first());
    let kept = kept.ok_or_else(|| counts_differ("meter_usage"))?;
    Ok(Figure {
        events: kept.events,
        value: decimal(&kept.value.to_string()).normalized().to_plain_string(),
        at: Some(kept.at_us),
        id: Some(*kept.id.as_bytes()),
    })
}
