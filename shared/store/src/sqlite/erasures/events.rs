//! Erases or anonymizes events.

use std::collections::BTreeMap;

use rusqlite::{Connection, Error, Params, params};
use uuid::Uuid;

use super::super::cancellations::{COLUMNS, found_event, incomplete_days};
use super::super::clock::{day_start, micros};
use super::super::meters::{self, MeterDefinitions};
use super::index;
use super::orders::{self, Counted, subject};
use crate::cancellations::FoundEvent;
use crate::erasures::{CHANGED_MAX, MovedFigures, Renaming, WALKED_MAX};
use crate::{Erasure, ErasureKind, ErasurePlace, ErasureStep, StoreError};

/// The last of the next events of the project in the order of the key, and how many these are.
const WALK: &str = "
    SELECT timestamp, event_id, count(*) OVER () FROM
           (SELECT timestamp, event_id FROM events WHERE project_id = ?1 AND (timestamp, event_id) > (?2, ?3)
             ORDER BY timestamp, event_id LIMIT ?4)
     ORDER BY timestamp DESC, event_id DESC LIMIT 1";
const DELETE: &str = "DELETE FROM events WHERE project_id = ?1 AND timestamp = ?2 AND event_id = ?3";
const UNCLAIM: &str = "DELETE FROM undated_ids WHERE project_id = ?1 AND event_id = ?3 AND timestamp = ?2";
const OF_CANCELLED: &str = "WHERE project_id = ?1 AND timestamp = ?2 AND event_id = ?3 AND received_at = ?4";
const RETIRE: &str = "
    INSERT INTO retired AS r (project_id, what, day, count)
    VALUES (?1, 'events', strftime('%Y-%m-%d', ?2 / 1000000, 'unixepoch'), ?3)
    ON CONFLICT (project_id, what, day) DO UPDATE SET count = r.count + excluded.count";
const COUNT: &str = "
    INSERT INTO meter_erased AS m (meter_id, events, faults) VALUES (?1, ?2, ?3)
    ON CONFLICT (meter_id) DO UPDATE SET events = m.events + excluded.events, faults = m.faults + excluded.faults";

pub(super) fn step(
    transaction: &Connection,
    erasure: &Erasure,
    after: Option<(i64, Uuid)>,
) -> Result<ErasureStep, StoreError> {
    let (project, name) = (erasure.project.0, subject(erasure)?);
    let before = micros(erasure.received_before);
    let (found, read, next) = if index::exists(transaction)? {
        let found = format!(
            "SELECT {COLUMNS} FROM events e WHERE e.project_id = ?1 AND e.subject = ?2 AND e.received_at < ?3 LIMIT ?4"
        );
        let found = query(transaction, &found, params![project, name, before, CHANGED_MAX])?;
        let next = (!found.is_empty()).then_some(after.unwrap_or((i64::MIN, Uuid::nil())));
        let read = found.len() as u64;
        (found, read, next)
    } else {
        let (after_us, after_id) = after.unwrap_or((i64::MIN, Uuid::nil()));
        let (last, read) = walked(transaction, project, (after_us, after_id))?;
        let found = match last {
            None => Vec::new(),
            Some((last_us, last_id)) => {
                let found = format!(
                    "SELECT {COLUMNS} FROM events e
                      WHERE e.project_id = ?1 AND (e.timestamp, e.event_id) > (?2, ?3)
                        AND (e.timestamp, e.event_id) <= (?4, ?5) AND e.subject = ?6 AND e.received_at < ?7"
                );
                let (after_id, last_id) = (after_id.as_bytes(), last_id.as_bytes());
                let parameters = params![project, after_us, after_id, last_us, last_id, name, before];
                query(transaction, &found, parameters)?
            }
        };
        (found, read, last.filter(|_| read == WALKED_MAX.unsigned_abs()))
    };
    change(transaction, erasure, &found)?;
    Ok(ErasureStep {
        next: Some(match next {
            Some(after) => ErasurePlace::Events { after: Some(after) },
            None => ErasurePlace::Figures { meter: 0, after_us: i64::MIN },
        }),
        events_read: read,
        events: found.len() as u64,
        ..ErasureStep::default()
    })
}

/// The last event of the next ones of the project, and how many these are.
pub(super) fn walked(
    transaction: &Connection,
    project: i64,
    (after_us, after_id): (i64, Uuid),
) -> Result<(Option<(i64, Uuid)>, u64), Error> {
    let mut walk = transaction.prepare_cached(WALK)?;
    let mut rows = walk.query(params![project, after_us, after_id.as_bytes(), WALKED_MAX])?;
    let Some(row) = rows.next()? else { return Ok((None, 0)) };
    let last = (row.get(0)?, Uuid::from_bytes(row.get(1)?));
    Ok((Some(last), row.get::<_, i64>(2)?.unsigned_abs()))
}

/// Reads events by a statement that returns [`COLUMNS`].
pub(super) fn query(
    transaction: &Connection,
    select: &str,
    parameters: impl Params,
) -> Result<Vec<FoundEvent>, Error> {
    let mut statement = transaction.prepare_cached(select)?;
    let rows = statement.query_map(parameters, |row| found_event(row, 0))?;
    rows.collect()
}

fn change(transaction: &Connection, erasure: &Erasure, found: &[FoundEvent]) -> Result<(), StoreError> {
    let project = erasure.project.0;
    let known = MeterDefinitions::default().current(transaction)?;
    let incomplete = incomplete_days(transaction)?;
    let renaming = Renaming { subject: subject(erasure)?, pseudonym: &erasure.pseudonym };
    let is_incomplete = |meter, day| incomplete.contains(&(meter, day));
    let figures = MovedFigures::new(erasure.project, found, &known.set, renaming, is_incomplete);
    change_rows(transaction, erasure, found)?;
    let cancelled = forget(transaction, erasure, found)?;
    for (meter, (events, faults)) in &figures.counts {
        transaction.prepare_cached(COUNT)?.execute(params![meter, events, faults])?;
    }
    meters::hand_over(transaction, &figures)?;
    if !erasure.kind.keeps_events() {
        let mut days: BTreeMap<i64, i64> = BTreeMap::new();
        for event in found {
            *days.entry(day_start(event.received_us)).or_default() += 1;
        }
        for (day_us, count) in days {
            transaction.prepare_cached(RETIRE)?.execute([project, day_us, count])?;
        }
    }
    orders::add(transaction, erasure, Counted { events: found.len() as u64, cancelled, ..Counted::default() })
}

fn change_rows(transaction: &Connection, erasure: &Erasure, found: &[FoundEvent]) -> Result<(), Error> {
    let properties = match erasure.kind {
        ErasureKind::AnonymizeWithoutProperties => ", properties = NULL",
        ErasureKind::Erase | ErasureKind::Anonymize => "",
    };
    let anonymize = format!(
        "UPDATE events SET subject = ?4, client_id = NULL, context = NULL{properties}
          WHERE project_id = ?1 AND timestamp = ?2 AND event_id = ?3"
    );
    for event in found {
        let (project, id) = (erasure.project.0, event.event_id.as_bytes());
        if erasure.kind.keeps_events() {
            let mut change = transaction.prepare_cached(&anonymize)?;
            change.execute(params![project, event.timestamp_us, id, erasure.pseudonym])?;
        } else {
            transaction.prepare_cached(DELETE)?.execute(params![project, event.timestamp_us, id])?;
            transaction.prepare_cached(UNCLAIM)?.execute(params![project, event.timestamp_us, id])?;
        }
    }
    Ok(())
}

/// Removes what else is stored of these events. Returns how many rows of `cancellations` it removed.
fn forget(transaction: &Connection, erasure: &Erasure, found: &[FoundEvent]) -> Result<u64, Error> {
    // The reason of a cancellation may name the person.
    let change = match erasure.kind.keeps_events() {
        true => format!("UPDATE cancellations SET reason = NULL {OF_CANCELLED}"),
        false => format!("DELETE FROM cancellations {OF_CANCELLED}"),
    };
    let mut changed = 0;
    for event in found.iter().filter(|event| event.is_cancelled) {
        let id = event.event_id.as_bytes();
        let parameters = params![erasure.project.0, event.timestamp_us, id, event.received_us];
        changed += transaction.prepare_cached(&change)?.execute(parameters)? as u64;
    }
    Ok(if erasure.kind.keeps_events() { 0 } else { changed })
}
