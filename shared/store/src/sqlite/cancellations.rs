//! Cancels events in one transaction: the record, usage, and the meters. Nothing else writes meanwhile.

use std::collections::HashSet;

use async_trait::async_trait;
use millrace_event::meter::{MeterSet, MeterTally};
use millrace_failpoint::{self as failpoint, Point};
use rusqlite::{Connection, Error, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::clock::{DAY_US, now_us};
use super::meters::{self, MeterDefinitions};
use super::store::SqliteStore;
use crate::cancellations::{self, Cancelling, FoundEvent};
use crate::{CancelOrder, CancelOutcome, Cancellations, CancelledEvent, StoreError};

const CLAIM: &str = "SELECT timestamp FROM undated_ids WHERE project_id = ?1 AND event_id = ?2";
/// What [`found_event`] reads of an event `e`.
pub(super) const COLUMNS: &str = "
    e.timestamp, e.event_id, e.received_at, e.name, e.subject, e.client_id, e.properties, e.context,
    EXISTS (SELECT 1 FROM cancellations c
             WHERE c.project_id = e.project_id AND c.timestamp = e.timestamp AND c.event_id = e.event_id
               AND c.received_at = e.received_at),
    EXISTS (SELECT 1 FROM erasures x
             WHERE x.project_id = e.project_id AND x.pseudonym = e.subject AND e.received_at < x.received_before)";
const FIND: &str = "FROM events e WHERE e.project_id = ?1 AND e.timestamp = ?2 AND e.event_id = ?3";
const RECORD: &str = "
    INSERT INTO cancellations (project_id, timestamp, event_id, received_at, cancelled_at, cancelled_by, reason)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
const CORRECT_USAGE: &str =
    "UPDATE usage_hourly SET cancelled = cancelled + ?3 WHERE project_id = ?1 AND hour = ?2";

#[async_trait]
impl Cancellations for SqliteStore {
    async fn cancel_events(&self, order: &CancelOrder) -> Result<Vec<CancelOutcome>, StoreError> {
        let order = order.clone();
        self.write(move |connection| cancel(connection, &order)).await
    }
}

fn cancel(connection: &mut Connection, order: &CancelOrder) -> Result<Vec<CancelOutcome>, StoreError> {
    cancellations::check(order)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut found = Vec::new();
    for (index, event) in order.events.iter().enumerate() {
        found.extend(find(&transaction, order, index, event)?);
    }
    let known = MeterDefinitions::default().current(&transaction)?;
    let incomplete = incomplete_days(&transaction)?;
    let is_incomplete = |meter, day| incomplete.contains(&(meter, day));
    let cancelling = Cancelling::new(order, found, &known.set, is_incomplete);
    if cancelling.events.is_empty() {
        return Ok(cancelling.outcomes);
    }
    record(&transaction, order, &cancelling.events)?;
    for (hour_us, events) in cancelling.hours() {
        if transaction.execute(CORRECT_USAGE, params![order.project.0, hour_us, events])? == 0 {
            return Err(cancellations::counts_differ("usage"));
        }
    }
    correct_meters(&transaction, order, &known.set, &cancelling.events)?;
    failpoint::reach(Point::CancelledInTransaction);
    transaction.commit()?;
    failpoint::reach(Point::CancelCommitted);
    Ok(cancelling.outcomes)
}

fn record(transaction: &Transaction<'_>, order: &CancelOrder, events: &[FoundEvent]) -> Result<(), Error> {
    let mut record = transaction.prepare_cached(RECORD)?;
    let now_us = now_us();
    for event in events {
        record.execute(params![
            order.project.0,
            event.timestamp_us,
            event.event_id.as_bytes(),
            event.received_us,
            now_us,
            order.by,
            order.reason,
        ])?;
    }
    Ok(())
}

fn correct_meters(
    transaction: &Transaction<'_>,
    order: &CancelOrder,
    set: &MeterSet,
    events: &[FoundEvent],
) -> Result<(), StoreError> {
    let mut tally = MeterTally::default();
    for event in events {
        tally.add(set, &event.row(order.project), event.timestamp_us, event.received_us);
    }
    meters::subtract(transaction, &tally)
}

/// The stored event, by its time or by what is remembered of its id.
fn find(
    transaction: &Transaction<'_>,
    order: &CancelOrder,
    index: usize,
    event: &CancelledEvent,
) -> Result<Option<FoundEvent>, Error> {
    let project = order.project.0;
    let id = event.event_id.as_bytes();
    let at = |timestamp_us: i64| {
        let found = |row: &Row<'_>| found_event(row, index);
        transaction
            .prepare_cached(&format!("SELECT {COLUMNS} {FIND}"))?
            .query_row(params![project, timestamp_us, id], found)
            .optional()
    };
    if let Some(timestamp_us) = event.timestamp_us {
        let found = at(timestamp_us)?;
        if found.is_some() || !event.by_id {
            return Ok(found);
        }
    }
    let claimed: Option<i64> =
        transaction.prepare_cached(CLAIM)?.query_row(params![project, id], |row| row.get(0)).optional()?;
    claimed.map_or(Ok(None), at)
}

pub(super) fn found_event(row: &Row<'_>, index: usize) -> Result<FoundEvent, Error> {
    let bytes = |column| -> Result<Option<Vec<u8>>, Error> {
        Ok(row.get_ref(column)?.as_bytes_or_null()?.map(<[u8]>::to_vec))
    };
    Ok(FoundEvent {
        index,
        timestamp_us: row.get(0)?,
        event_id: Uuid::from_bytes(row.get(1)?),
        received_us: row.get(2)?,
        name: row.get(3)?,
        subject: row.get(4)?,
        client_id: row.get(5)?,
        properties: bytes(6)?,
        context: bytes(7)?,
        is_cancelled: row.get(8)?,
        is_anonymized: row.get(9)?,
    })
}

/// The days since 1970 of which retention has removed events, each with a meter that had counted them.
pub(super) fn incomplete_days(transaction: &Connection) -> Result<HashSet<(i64, i64)>, Error> {
    let mut statement = transaction.prepare_cached("SELECT meter_id, day FROM meter_retired")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.div_euclid(DAY_US))))?;
    rows.collect()
}
