//! Compares the figures of every meter with the events that are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bigdecimal::BigDecimal;
use millrace_event::meter::{Meter, MeterKey, MeterTally};
use rusqlite::{Connection, params};

use super::super::clock::day_start;
use super::super::number::decimal;
use super::addition::merged;
use super::definitions::meters;
use super::events::{COLUMNS, STILL_COUNTED, add_events};
use crate::meters::is_unique;
use crate::{MeterCheck, MeterInfo, StoreError};

/// Figures by their place: events and value.
type Figures = BTreeMap<MeterKey, (i64, BigDecimal)>;

/// Checks every meter, in one snapshot.
pub(in super::super) fn check(connection: &Connection) -> Result<Vec<MeterCheck>, StoreError> {
    let infos = meters(connection, None)?;
    infos.into_iter().map(|info| check_one(connection, info)).collect()
}

fn check_one(connection: &Connection, info: MeterInfo) -> Result<MeterCheck, StoreError> {
    let meter = &info.meter;
    let (expected, faults_by_events) = expected(connection, meter, i64::MIN..i64::MAX)?;
    let stored = stored(connection, meter, i64::MIN..i64::MAX)?;
    let sum = |figures: &Figures| figures.values().map(|(events, _)| *events).sum::<i64>();
    let gone =
        "SELECT coalesce(sum(events), 0), coalesce(sum(faults), 0) FROM meter_retired WHERE meter_id = ?1";
    let (retired, retired_faults): (i64, i64) =
        connection.query_row(gone, [meter.id.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let erased =
        "SELECT coalesce(sum(events), 0), coalesce(sum(faults), 0) FROM meter_erased WHERE meter_id = ?1";
    let (erased, erased_faults): (i64, i64) =
        connection.query_row(erased, [meter.id.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let faults = "SELECT coalesce(sum(events), 0) FROM meter_faults WHERE meter_id = ?1";
    let faults: i64 = connection.query_row(faults, [meter.id.0], |row| row.get(0))?;
    Ok(MeterCheck {
        counted: sum(&stored).unsigned_abs(),
        faults: faults.unsigned_abs(),
        counted_by_events: (sum(&expected) + retired + erased).unsigned_abs(),
        faults_by_events: (faults_by_events + retired_faults + erased_faults).unsigned_abs(),
        wrong_figures: differing(connection, meter, &expected, &stored)?,
        info,
    })
}

/// The number of wrong figures in a period.
pub(in super::super) fn wrong_figures(
    connection: &Connection,
    meter: &Meter,
    period: Range<i64>,
) -> Result<u64, StoreError> {
    let (expected, _) = expected(connection, meter, period.clone())?;
    differing(connection, meter, &expected, &stored(connection, meter, period)?)
}

/// The number of figures that differ, of days of which retention has removed none. Figures of erased subjects
/// have no events any more.
fn differing(
    connection: &Connection,
    meter: &Meter,
    expected: &Figures,
    stored: &Figures,
) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached("SELECT day FROM meter_retired WHERE meter_id = ?1")?;
    let days = statement.query_map([meter.id.0], |row| row.get(0))?;
    let incomplete: BTreeSet<i64> = days.collect::<Result<_, _>>()?;
    let is_complete = |key: &&MeterKey| !incomplete.contains(&day_start(key.bucket_us));
    let mut statement = connection.prepare_cached("SELECT pseudonym FROM erasures WHERE project_id = ?1")?;
    let names = statement.query_map([meter.project.0], |row| row.get(0))?;
    let pseudonyms: BTreeSet<String> = names.collect::<Result<_, _>>()?;
    let is_complete = |key: &&MeterKey| is_complete(key) && !pseudonyms.contains(&key.subject);
    let keys: BTreeSet<&MeterKey> = expected.keys().chain(stored.keys()).collect();
    let wrong = keys.into_iter().filter(is_complete).filter(|key| expected.get(key) != stored.get(key));
    Ok(wrong.count() as u64)
}

/// The figures by the events that are kept, and how many of these are faults.
fn expected(
    connection: &Connection,
    meter: &Meter,
    period: Range<i64>,
) -> Result<(Figures, i64), StoreError> {
    let mut tally = MeterTally::default();
    let select = format!(
        "SELECT {COLUMNS} FROM events
          WHERE project_id = ?1 AND name = ?2 AND received_at >= ?3 AND timestamp < ?4 AND timestamp >= ?5
            AND timestamp < ?6 AND {STILL_COUNTED}"
    );
    let (received_from_us, counted_until_us) = (meter.received_from_us, meter.counted_until_us);
    let event = &meter.definition.event;
    let (from, to) = (period.start, period.end);
    let parameters = params![meter.project.0, event, received_from_us, counted_until_us, from, to];
    add_events(connection, &select, parameters, meter, &mut tally)?;
    let mut figures = Figures::new();
    for (key, additions) in tally.additions.values().flatten() {
        for addition in additions {
            let value = decimal(&addition.value.to_string());
            let merge = |(events, old): (i64, BigDecimal)| {
                let value = merged(meter.definition.aggregation, old, value.clone(), true);
                (events + addition.events, value)
            };
            let figure = figures.remove(key).map_or((addition.events, value.clone()), merge);
            figures.insert(key.clone(), figure);
        }
    }
    Ok((figures, tally.faults.values().map(|fault| fault.events).sum()))
}

fn stored(connection: &Connection, meter: &Meter, period: Range<i64>) -> Result<Figures, StoreError> {
    let is_unique = is_unique(meter.definition.aggregation);
    let table = if is_unique { "meter_uniques" } else { "meter_usage" };
    let select = format!(
        "SELECT subject, bucket, groups, events, value FROM {table}
          WHERE meter_id = ?1 AND bucket >= ?2 AND bucket < ?3"
    );
    let mut statement = connection.prepare_cached(&select)?;
    let figure = |row: &rusqlite::Row<'_>| {
        let value: String = row.get(4)?;
        let (text, value) =
            if is_unique { (value, BigDecimal::from(0)) } else { (String::new(), decimal(&value)) };
        let key = MeterKey { subject: row.get(0)?, bucket_us: row.get(1)?, groups: row.get(2)?, text };
        Ok((key, (row.get(3)?, value)))
    };
    let rows = statement.query_map([meter.id.0, period.start, period.end], figure)?;
    Ok(rows.collect::<Result<_, _>>()?)
}
