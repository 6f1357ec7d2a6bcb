//! What a transaction that stores events adds to meters.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use millrace_event::meter::{Addition, Aggregation, MeterId, MeterKey, MeterSet, MeterTally};
use rusqlite::{Connection, Error, OptionalExtension, params};

use super::super::number::decimal;
use super::super::thresholds;
use super::definitions::{meter_set, meters};
use crate::meter_answer::merged;
use crate::meters::is_unique;
use crate::{MeterInfo, StoreError};

const VERSION: &str = "SELECT version FROM meters_version";
pub(super) const FIGURE: &str = "
    SELECT value, latest_at, latest_id FROM meter_usage
     WHERE meter_id = ?1 AND subject = ?2 AND bucket = ?3 AND groups = ?4";
pub(super) const SET: &str = "
    INSERT INTO meter_usage AS u (meter_id, subject, bucket, groups, events, value, latest_at, latest_id)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
    ON CONFLICT (meter_id, subject, bucket, groups) DO UPDATE
       SET events = u.events + excluded.events, value = excluded.value, latest_at = excluded.latest_at,
           latest_id = excluded.latest_id";
pub(super) const ADD_UNIQUE: &str = "
    INSERT INTO meter_uniques AS u (meter_id, subject, bucket, groups, value, events) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (meter_id, subject, bucket, groups, value) DO UPDATE SET events = u.events + excluded.events";
const ADD_FAULT: &str = "
    INSERT INTO meter_faults AS f (meter_id, fault, events, sample) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (meter_id, fault) DO UPDATE
       SET events = f.events + excluded.events, sample = excluded.sample, last_at = excluded.last_at";

/// The definitions of one version.
#[derive(Default)]
pub(in super::super) struct KnownMeters {
    /// 0 before the first was read.
    version: i64,
    pub(in super::super) set: MeterSet,
    /// Projects with thresholds of their quota.
    pub(in super::super) watched: BTreeSet<i64>,
    /// Meters whose limits have thresholds.
    pub(in super::super) watched_limits: BTreeSet<i64>,
}

/// The definitions that a writer has read, until they change.
#[derive(Clone, Default)]
pub(in super::super) struct MeterDefinitions(Arc<Mutex<Arc<KnownMeters>>>);

impl MeterDefinitions {
    /// The definitions as this transaction sees them.
    pub(in super::super) fn current(&self, transaction: &Connection) -> Result<Arc<KnownMeters>, StoreError> {
        let version: i64 = transaction.prepare_cached(VERSION)?.query_row([], |row| row.get(0))?;
        let known = Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if known.version == version {
            return Ok(known);
        }
        let read = Arc::new(KnownMeters {
            version,
            set: meter_set(transaction)?,
            watched: thresholds::watched(transaction)?,
            watched_limits: thresholds::watched_limits(transaction)?,
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&read);
        Ok(read)
    }
}

/// Adds these events, in their transaction.
pub(in super::super) fn add(transaction: &Connection, tally: &MeterTally) -> Result<(), StoreError> {
    if tally.is_empty() {
        return Ok(());
    }
    let infos = meters(transaction, None)?;
    add_figures(transaction, &infos, tally)?;
    for ((meter, fault), counted) in &tally.faults {
        let mut add = transaction.prepare_cached(ADD_FAULT)?;
        add.execute(params![meter.0, <&str>::from(fault), counted.events, counted.sample])?;
    }
    thresholds::compare_figures(transaction, &infos, tally)
}

/// Adds to the figures alone: to no faults, and without a look at thresholds.
pub(super) fn add_figures(
    transaction: &Connection,
    infos: &[MeterInfo],
    tally: &MeterTally,
) -> Result<(), Error> {
    for info in infos {
        let (id, aggregation) = (info.meter.id, info.meter.definition.aggregation);
        for (key, additions) in tally.additions.get(&id).into_iter().flatten() {
            for addition in additions {
                add_one(transaction, id, aggregation, key, addition)?;
            }
        }
    }
    Ok(())
}

fn add_one(
    transaction: &Connection,
    meter: MeterId,
    aggregation: Aggregation,
    key: &MeterKey,
    addition: &Addition,
) -> Result<(), Error> {
    let MeterKey { subject, bucket_us, groups, text } = key;
    if is_unique(aggregation) {
        let mut add = transaction.prepare_cached(ADD_UNIQUE)?;
        add.execute(params![meter.0, subject, bucket_us, groups, text, addition.events])?;
        return Ok(());
    }
    let figure = |row: &rusqlite::Row<'_>| {
        Ok((row.get::<_, String>(0)?, row.get::<_, Option<i64>>(1)?, row.get::<_, Option<[u8; 16]>>(2)?))
    };
    let mut find = transaction.prepare_cached(FIGURE)?;
    let old = find.query_row(params![meter.0, subject, bucket_us, groups], figure).optional()?;
    let added = decimal(&addition.value.to_string());
    let (mut at, mut id) = (Some(addition.at_us), Some(*addition.id.as_bytes()));
    let value = match old {
        None => added,
        Some((old, old_at, old_id)) => {
            let is_later = (at, id) > (old_at, old_id);
            if aggregation == Aggregation::Latest && !is_later {
                (at, id) = (old_at, old_id);
            }
            merged(aggregation, decimal(&old), added, is_later)
        }
    };
    if aggregation != Aggregation::Latest {
        (at, id) = (None, None);
    }
    let mut set = transaction.prepare_cached(SET)?;
    let value = value.normalized().to_plain_string();
    set.execute(params![meter.0, subject, bucket_us, groups, addition.events, value, at, id])?;
    Ok(())
}
