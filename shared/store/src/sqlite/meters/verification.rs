//! Compares the figures of every meter with the events that are kept.

use std::collections::{BTreeMap, BTreeSet};

use bigdecimal::BigDecimal;
use millrace_event::meter::{MeterKey, MeterTally};
use rusqlite::{Connection, params};

use super::super::clock::day_start;
use super::addition::{decimal, merged};
use super::definitions::meters;
use super::events::{COLUMNS, add_events};
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
    let mut tally = MeterTally::default();
    let select = format!(
        "SELECT {COLUMNS} FROM events WHERE project_id = ?1 AND name = ?2 AND received_at >= ?3 AND timestamp < ?4"
    );
    let (received_from_us, counted_until_us) = (meter.received_from_us, meter.counted_until_us);
    let parameters = params![meter.project.0, meter.definition.event, received_from_us, counted_until_us];
    add_events(connection, &select, parameters, meter, &mut tally)?;
    let expected = expected(&info, &tally);
    let stored = stored(connection, &info)?;
    let sum = |figures: &Figures| figures.values().map(|(events, _)| *events).sum::<i64>();
    let mut retired = (0, 0);
    let mut incomplete_days = BTreeSet::new();
    let select = "SELECT day, events, faults FROM meter_retired WHERE meter_id = ?1";
    let mut statement = connection.prepare_cached(select)?;
    let mut rows = statement.query([meter.id.0])?;
    while let Some(row) = rows.next()? {
        incomplete_days.insert(row.get::<_, i64>(0)?);
        retired = (retired.0 + row.get::<_, i64>(1)?, retired.1 + row.get::<_, i64>(2)?);
    }
    let is_complete = |key: &&MeterKey| !incomplete_days.contains(&day_start(key.bucket_us));
    let keys: BTreeSet<&MeterKey> = expected.keys().chain(stored.keys()).collect();
    let wrong =
        keys.into_iter().filter(is_complete).filter(|key| expected.get(key) != stored.get(key)).count();
    let faults = "SELECT coalesce(sum(events), 0) FROM meter_faults WHERE meter_id = ?1";
    let faults: i64 = connection.query_row(faults, [meter.id.0], |row| row.get(0))?;
    let faults_by_events = tally.faults.values().map(|fault| fault.events).sum::<i64>() + retired.1;
    Ok(MeterCheck {
        counted: sum(&stored).unsigned_abs(),
        faults: faults.unsigned_abs(),
        counted_by_events: (sum(&expected) + retired.0).unsigned_abs(),
        faults_by_events: faults_by_events.unsigned_abs(),
        wrong_figures: wrong as u64,
        info,
    })
}

fn expected(info: &MeterInfo, tally: &MeterTally) -> Figures {
    let aggregation = info.meter.definition.aggregation;
    let mut figures = Figures::new();
    for (key, additions) in tally.additions.values().flatten() {
        for addition in additions {
            let value = decimal(&addition.value.to_string());
            let merge = |(events, old): (i64, BigDecimal)| {
                (events + addition.events, merged(aggregation, old, value.clone(), true))
            };
            let figure = figures.remove(key).map_or((addition.events, value.clone()), merge);
            figures.insert(key.clone(), figure);
        }
    }
    figures
}

fn stored(connection: &Connection, info: &MeterInfo) -> Result<Figures, StoreError> {
    let is_unique = is_unique(info.meter.definition.aggregation);
    let select = match is_unique {
        true => "SELECT subject, bucket, groups, events, value FROM meter_uniques WHERE meter_id = ?1",
        false => "SELECT subject, bucket, groups, events, value FROM meter_usage WHERE meter_id = ?1",
    };
    let mut statement = connection.prepare_cached(select)?;
    let figure = |row: &rusqlite::Row<'_>| {
        let value: String = row.get(4)?;
        let (text, value) =
            if is_unique { (value, BigDecimal::from(0)) } else { (String::new(), decimal(&value)) };
        let key = MeterKey { subject: row.get(0)?, bucket_us: row.get(1)?, groups: row.get(2)?, text };
        Ok((key, (row.get(3)?, value)))
    };
    let rows = statement.query_map([info.meter.id.0], figure)?;
    Ok(rows.collect::<Result<_, _>>()?)
}
