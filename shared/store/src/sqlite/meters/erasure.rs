//! Moves figures of an erased subject to a pseudonym, in the transaction that erases events.

use std::collections::{BTreeSet, HashMap};

use millrace_event::meter::{Aggregation, BUCKET_US, Meter, MeterKey, MeterTally};
use rusqlite::{Connection, Error, OptionalExtension, Row, params};
use uuid::Uuid;

use super::super::clock::day_start;
use super::super::number::decimal;
use super::addition::{ADD_UNIQUE, FIGURE, SET, add_figures};
use super::definitions::meters;
use super::events::{COLUMNS, STILL_COUNTED, add_events};
use super::subtraction::subtract;
use crate::StoreError;
use crate::erasures::{FigureRow, MovedFigures, QUARTERS_MAX, Renaming};
use crate::meter_answer::merged;
use crate::meters::is_unique;

/// Values that no other subject has, so that they are only the erased one's.
const OWN_VALUES: &str = "
    SELECT DISTINCT value FROM meter_uniques u
     WHERE meter_id = ?1 AND subject = ?2 AND value <> ?2
       AND NOT EXISTS (SELECT 1 FROM meter_uniques o WHERE o.meter_id = ?1 AND o.value = u.value AND o.subject <> ?2)";

/// Moves what the erased events added to meters. No threshold is compared: nothing new was counted.
pub(in super::super) fn hand_over(transaction: &Connection, moved: &MovedFigures) -> Result<(), StoreError> {
    if moved.taken.is_empty() {
        return Ok(());
    }
    subtract(transaction, &moved.taken)?;
    add_figures(transaction, &meters(transaction, None)?, &moved.given)?;
    Ok(())
}

fn table(meter: &Meter) -> &'static str {
    if is_unique(meter.definition.aggregation) { "meter_uniques" } else { "meter_usage" }
}

/// The next quarters of an hour of which the subject has figures.
pub(in super::super) fn quarters(
    connection: &Connection,
    meter: &Meter,
    subject: &str,
    after_us: i64,
) -> Result<Vec<i64>, Error> {
    let select = format!(
        "SELECT DISTINCT bucket FROM {} WHERE meter_id = ?1 AND subject = ?2 AND bucket > ?3 ORDER BY bucket LIMIT ?4",
        table(meter)
    );
    let mut statement = connection.prepare_cached(&select)?;
    let rows = statement.query_map(params![meter.id.0, subject, after_us, QUARTERS_MAX], |row| row.get(0))?;
    rows.collect()
}

/// The subject's figures of these quarters.
pub(in super::super) fn figure_rows(
    connection: &Connection,
    meter: &Meter,
    subject: &str,
    quarters: &[i64],
) -> Result<Vec<FigureRow>, Error> {
    let columns = match is_unique(meter.definition.aggregation) {
        true => "bucket, groups, events, NULL, NULL, NULL, value",
        false => "bucket, groups, events, value, latest_at, latest_id, ''",
    };
    let select = format!(
        "SELECT {columns} FROM {} WHERE meter_id = ?1 AND subject = ?2 AND bucket = ?3 ORDER BY groups",
        table(meter)
    );
    let mut statement = connection.prepare_cached(&select)?;
    let mut figures = Vec::new();
    for quarter in quarters {
        let rows = statement.query_map(params![meter.id.0, subject, quarter], figure_row)?;
        for row in rows {
            figures.push(row?);
        }
    }
    Ok(figures)
}

fn figure_row(row: &Row<'_>) -> Result<FigureRow, Error> {
    Ok(FigureRow {
        bucket_us: row.get(0)?,
        groups: row.get(1)?,
        events: row.get(2)?,
        value: row.get(3)?,
        latest_at_us: row.get(4)?,
        latest_id: row.get::<_, Option<[u8; 16]>>(5)?.map(Uuid::from_bytes),
        text: row.get(6)?,
    })
}

/// Moves the figures of the next quarters, of those days of which retention has removed events. Returns the
/// last of the quarters.
pub(in super::super) fn hand_over_quarters(
    transaction: &Connection,
    meter: &Meter,
    renaming: Renaming<'_>,
    after_us: i64,
) -> Result<Option<i64>, StoreError> {
    let quarters = quarters(transaction, meter, renaming.subject, after_us)?;
    let Some(last) = quarters.last().copied() else { return Ok(None) };
    let mut statement = transaction.prepare_cached("SELECT day FROM meter_retired WHERE meter_id = ?1")?;
    let days = statement.query_map([meter.id.0], |row| row.get(0))?;
    let incomplete: BTreeSet<i64> = days.collect::<Result<_, _>>()?;
    for quarter in quarters.into_iter().filter(|quarter| incomplete.contains(&day_start(*quarter))) {
        for figure in figure_rows(transaction, meter, renaming.subject, &[quarter])? {
            give(transaction, meter, renaming, &figure)?;
        }
        let take =
            format!("DELETE FROM {} WHERE meter_id = ?1 AND subject = ?2 AND bucket = ?3", table(meter));
        transaction.execute(&take, params![meter.id.0, renaming.subject, quarter])?;
        // The subject has new events of this quarter. Of the smallest, largest and latest value it is not
        // known whose it is, so the pseudonym keeps it.
        let kept = kept(transaction, meter, renaming.subject, quarter)?;
        take_counts(transaction, meter, &renaming.tally(&kept))?;
        add_figures(transaction, &meters(transaction, Some(meter.project))?, &kept)?;
    }
    Ok(Some(last))
}

/// Adds a figure of the subject to that of the pseudonym.
fn give(
    transaction: &Connection,
    meter: &Meter,
    renaming: Renaming<'_>,
    row: &FigureRow,
) -> Result<(), Error> {
    let (id, pseudonym) = (meter.id.0, renaming.pseudonym);
    let groups = renaming.groups(&row.groups);
    let Some(value) = &row.value else {
        let text = renaming.text(&row.text);
        let mut add = transaction.prepare_cached(ADD_UNIQUE)?;
        add.execute(params![id, pseudonym, row.bucket_us, groups, text, row.events])?;
        return Ok(());
    };
    let (mut at, mut latest) = (row.latest_at_us, row.latest_id.map(Uuid::into_bytes));
    let mut value = decimal(value);
    let figure = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let place = params![id, pseudonym, row.bucket_us, groups];
    let old: Option<(String, Option<i64>, Option<[u8; 16]>)> =
        transaction.prepare_cached(FIGURE)?.query_row(place, figure).optional()?;
    if let Some((old, old_at, old_latest)) = old {
        let is_later = (at, latest) > (old_at, old_latest);
        if !is_later {
            (at, latest) = (old_at, old_latest);
        }
        value = merged(meter.definition.aggregation, decimal(&old), value, is_later);
    }
    let value = value.normalized().to_plain_string();
    let mut set = transaction.prepare_cached(SET)?;
    set.execute(params![id, pseudonym, row.bucket_us, groups, row.events, value, at, latest])?;
    Ok(())
}

/// What the subject's events that are kept add to figures of this quarter.
fn kept(
    transaction: &Connection,
    meter: &Meter,
    subject: &str,
    quarter: i64,
) -> Result<MeterTally, StoreError> {
    let select = format!(
        "SELECT {COLUMNS} FROM events
          WHERE project_id = ?1 AND timestamp >= ?2 AND timestamp < ?3 AND name = ?4 AND subject = ?5
            AND received_at >= ?6 AND timestamp < ?7 AND {STILL_COUNTED}"
    );
    let parameters = params![
        meter.project.0,
        quarter,
        quarter + BUCKET_US,
        meter.definition.event,
        subject,
        meter.received_from_us,
        meter.counted_until_us,
    ];
    let mut tally = MeterTally::default();
    add_events(transaction, &select, parameters, meter, &mut tally)?;
    tally.faults.clear();
    Ok(tally)
}

/// Subtracts events and sums, of this meter.
fn take_counts(transaction: &Connection, meter: &Meter, tally: &MeterTally) -> Result<(), Error> {
    let none = HashMap::new();
    let is_sum = matches!(meter.definition.aggregation, Aggregation::Sum | Aggregation::Avg);
    for (MeterKey { subject, bucket_us, groups, text }, additions) in
        tally.additions.get(&meter.id).unwrap_or(&none)
    {
        let events: i64 = additions.iter().map(|addition| addition.events).sum();
        if is_unique(meter.definition.aggregation) {
            let take = "UPDATE meter_uniques SET events = events - ?6
                         WHERE meter_id = ?1 AND subject = ?2 AND bucket = ?3 AND groups = ?4 AND value = ?5";
            transaction.execute(take, params![meter.id.0, subject, bucket_us, groups, text, events])?;
            continue;
        }
        let place = params![meter.id.0, subject, bucket_us, groups];
        let value: String = transaction.prepare_cached(FIGURE)?.query_row(place, |row| row.get(0))?;
        let mut value = decimal(&value);
        if is_sum {
            value = additions.iter().fold(value, |rest, one| rest - decimal(&one.value.to_string()));
        }
        let value = value.normalized().to_plain_string();
        let take = "UPDATE meter_usage SET events = events - ?5, value = ?6
                     WHERE meter_id = ?1 AND subject = ?2 AND bucket = ?3 AND groups = ?4";
        transaction.execute(take, params![meter.id.0, subject, bucket_us, groups, events, value])?;
    }
    transaction.execute("DELETE FROM meter_usage WHERE meter_id = ?1 AND events = 0", [meter.id.0])?;
    transaction.execute("DELETE FROM meter_uniques WHERE meter_id = ?1 AND events = 0", [meter.id.0])?;
    Ok(())
}

/// Replaces the different values that only the pseudonym has. Their number stays the same.
pub(in super::super) fn hide_values(
    transaction: &Connection,
    meter: &Meter,
    pseudonym: &str,
) -> Result<(), Error> {
    if !is_unique(meter.definition.aggregation) {
        return Ok(());
    }
    let mut statement = transaction.prepare_cached(OWN_VALUES)?;
    let values = statement.query_map(params![meter.id.0, pseudonym], |row| row.get::<_, String>(0))?;
    for value in values.collect::<Result<Vec<_>, _>>()? {
        let hide = "UPDATE meter_uniques SET value = ?4 WHERE meter_id = ?1 AND subject = ?2 AND value = ?3";
        let other = format!("erased-{}", Uuid::new_v4().simple());
        transaction.execute(hide, params![meter.id.0, pseudonym, value, other])?;
    }
    Ok(())
}
