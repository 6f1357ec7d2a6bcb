//! Limits of customers: setting and reading them, and what writers record of their use.

use std::collections::HashMap;

use millrace_event::PendingBatch;
use millrace_event::limit::{
    Amount, Charge, Counter, CounterState, CustomerLimit, LimitSet, Period, check_limited, decode_refunds,
    encode_refunds,
};
use millrace_event::meter::MeterId;
use millrace_event::plan::ProjectId;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::clock::{moment, now_us};
use super::ledger::Ledger;
use super::{meters, usage};
use crate::limit_tally::{LimitRebuild, LimitTally, LimitUse, RefundKey};
use crate::limits::{no_meter, period_of, subject_column, subject_of};
use crate::meters::no_project;
use crate::{LimitFilter, LimitInfo, MeterInfo, RequestRefunds, StoreError};

const SET: &str = "
    INSERT INTO customer_limits AS l (project_id, meter_id, period, subject, units, billionths)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (meter_id, period, subject) DO UPDATE
       SET units = excluded.units, billionths = excluded.billionths, changed_at = excluded.changed_at";
const DELETE: &str = "DELETE FROM customer_limits WHERE meter_id = ?1 AND period = ?2 AND subject = ?3";
const LIST: &str = "
    SELECT p.name, m.meter_id, m.slug, l.period, l.subject, l.units, l.billionths, l.changed_at
      FROM customer_limits l JOIN meters m USING (meter_id) JOIN projects p ON p.project_id = l.project_id
     WHERE p.name = ?1 AND (?2 IS NULL OR m.slug = ?2) AND (?3 IS NULL OR l.subject = ?3)
       AND (?4 IS NULL OR (m.slug, l.subject, l.period) > (?4, ?5, ?6))
     ORDER BY m.slug, l.subject, l.period LIMIT ?7";
const OF_PROJECT: &str =
    "SELECT meter_id, period, subject, units, billionths FROM customer_limits WHERE project_id = ?1";
const ADD_USED: &str = "
    INSERT INTO limit_usage AS u
           (project_id, meter_id, period, subject, window_number, ends_at, units, billionths)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
    ON CONFLICT (meter_id, period, subject, window_number) DO UPDATE
       SET units = u.units + excluded.units + (u.billionths + excluded.billionths) / 1000000000,
           billionths = (u.billionths + excluded.billionths) % 1000000000";
const ADD_REFUNDS: &str = "
    INSERT INTO limit_refunds (batch_id, received_at, entry_seq, shard, refunds) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT DO NOTHING";
const REFUNDS: &str = "
    SELECT refunds FROM limit_refunds WHERE batch_id = ?1 AND received_at = ?2 AND entry_seq = ?3 AND shard = ?4";
/// A window that ended a day ago is that of no clock.
const USED: &str = "
    SELECT project_id, meter_id, period, subject, window_number, units, billionths FROM limit_usage
     WHERE ends_at > ?1";
const DAY_US: i64 = 86_400_000_000;

/// The meter of a project with this name.
fn find_meter(connection: &Connection, project: &str, slug: &str) -> Result<MeterInfo, StoreError> {
    let find = "SELECT project_id FROM projects WHERE name = ?1";
    let found: Option<i64> = connection.query_row(find, [project], |row| row.get(0)).optional()?;
    let found = found.ok_or_else(|| no_project(project))?;
    let meters = meters::meters(connection, Some(ProjectId(found)))?;
    let of_slug = |info: &MeterInfo| info.meter.definition.slug == slug;
    meters.into_iter().find(of_slug).ok_or_else(|| no_meter(project, slug))
}

pub(super) fn set(
    connection: &mut Connection,
    (project, slug): (&str, &str),
    period: Period,
    subject: Option<&str>,
    amount: Amount,
) -> Result<LimitInfo, StoreError> {
    let column = subject_column(subject)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let meter = find_meter(&transaction, project, slug)?.meter;
    check_limited(meter.definition.aggregation)
        .map_err(|refused| StoreError::Invalid(refused.to_string()))?;
    let (units, billionths) = amount.parts();
    let values = params![meter.project.0, meter.id.0, period.as_ref(), column, units, billionths];
    transaction.execute(SET, values)?;
    transaction.commit()?;
    Ok(LimitInfo {
        project_name: project.to_owned(),
        meter: meter.id,
        slug: slug.to_owned(),
        period,
        subject: subject.map(str::to_owned),
        amount,
        changed_at: moment(now_us()),
    })
}

pub(super) fn delete(
    connection: &mut Connection,
    (project, slug): (&str, &str),
    period: Period,
    subject: Option<&str>,
) -> Result<bool, StoreError> {
    let column = subject_column(subject)?;
    let meter = find_meter(connection, project, slug)?.meter.id;
    Ok(connection.execute(DELETE, params![meter.0, period.as_ref(), column])? == 1)
}

pub(super) fn list(connection: &Connection, filter: &LimitFilter) -> Result<Vec<LimitInfo>, StoreError> {
    let LimitFilter { project, slug, subject, after, at_most } = filter;
    let after = after.as_ref();
    let [after_slug, after_subject] = [after.map(|place| &place.slug), after.map(|place| &place.subject)];
    let after_period = after.map(|place| place.period.as_ref());
    let mut list = connection.prepare_cached(LIST)?;
    let mut rows =
        list.query(params![project, slug, subject, after_slug, after_subject, after_period, at_most])?;
    let mut limits = Vec::new();
    while let Some(row) = rows.next()? {
        limits.push(LimitInfo {
            project_name: row.get(0)?,
            meter: MeterId(row.get(1)?),
            slug: row.get(2)?,
            period: period_of(&row.get::<_, String>(3)?)?,
            subject: subject_of(row.get(4)?),
            amount: Amount::of_parts(row.get(5)?, row.get(6)?),
            changed_at: moment(row.get(7)?),
        });
    }
    Ok(limits)
}

pub(super) fn versions(connection: &Connection) -> Result<HashMap<ProjectId, i64>, StoreError> {
    let mut select = connection.prepare_cached("SELECT project_id, version FROM customer_limit_versions")?;
    let rows = select.query_map([], |row| Ok((ProjectId(row.get(0)?), row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(super) fn set_of(connection: &Connection, project: ProjectId) -> Result<LimitSet, StoreError> {
    let mut select = connection.prepare_cached(OF_PROJECT)?;
    let mut rows = select.query([project.0])?;
    let mut limits = Vec::new();
    while let Some(row) = rows.next()? {
        limits.push(CustomerLimit {
            meter: MeterId(row.get(0)?),
            period: period_of(&row.get::<_, String>(1)?)?,
            subject: subject_of(row.get(2)?),
            amount: Amount::of_parts(row.get(3)?, row.get(4)?),
        });
    }
    let meters = meters::meters(connection, Some(project))?.into_iter().map(|info| info.meter);
    Ok(LimitSet::new(meters.map(|meter| (meter.id, meter.definition)), limits))
}

/// Records what a transaction has used and gives back, in that transaction.
pub(super) fn add(connection: &Connection, tally: &LimitTally) -> Result<(), StoreError> {
    for ((counter, window), LimitUse { project, ends_us, amount }) in &tally.used {
        let Counter { meter, period, subject } = counter;
        let (units, billionths) = amount.parts();
        let mut add = connection.prepare_cached(ADD_USED)?;
        let (period, window) = (period.as_ref(), window.cast_signed());
        add.execute(params![project.0, meter.0, period, subject, window, ends_us, units, billionths])?;
    }
    for (RefundKey { batch_id, received_us, seq, shard }, refunds) in &tally.refunds {
        let mut add = connection.prepare_cached(ADD_REFUNDS)?;
        add.execute(params![batch_id.as_bytes(), received_us, seq, shard, encode_refunds(refunds)])?;
    }
    Ok(())
}

/// What these batches give back, by their index.
pub(super) fn refunds(
    connection: &Connection,
    batches: &[(usize, RefundKey)],
) -> Result<RequestRefunds, StoreError> {
    let mut all = RequestRefunds::new();
    for (index, RefundKey { batch_id, received_us, seq, shard }) in batches {
        let mut find = connection.prepare_cached(REFUNDS)?;
        let key = params![batch_id.as_bytes(), received_us, seq, shard];
        let bytes: Option<Vec<u8>> = find.query_row(key, |row| row.get(0)).optional()?;
        if let Some(bytes) = bytes {
            all.insert(*index, decode_refunds(&bytes).map_err(StoreError::Invalid)?);
        }
    }
    Ok(all)
}

pub(super) fn for_rebuild(
    connection: &Connection,
    shard: u16,
    shards: u16,
    pending: &[(PendingBatch, Vec<Charge>)],
) -> Result<Vec<(ProjectId, CounterState)>, StoreError> {
    let mut rebuild = LimitRebuild::default();
    let mut select = connection.prepare_cached(USED)?;
    let mut rows = select.query([now_us() - DAY_US])?;
    while let Some(row) = rows.next()? {
        let (counter, window, amount) = used(row)?;
        rebuild.add(ProjectId(row.get(0)?), counter, window, amount);
    }
    let mut ledger = Ledger::prepare(connection)?;
    for (batch, charges) in pending {
        let written = usage::written(&mut ledger, shard, batch)?;
        let key = [(0, RefundKey::new(batch.batch_id, batch.id, shard))];
        let given_back = match written {
            Some(_) => Some(refunds(connection, &key)?.remove(&0).unwrap_or_default()),
            None => None,
        };
        rebuild.add_pending(batch, charges, given_back);
    }
    Ok(rebuild.of_shard(shard, shards))
}

fn used(row: &Row<'_>) -> Result<(Counter, u64, Amount), StoreError> {
    let period = period_of(&row.get::<_, String>(2)?)?;
    let counter = Counter { meter: MeterId(row.get(1)?), period, subject: row.get(3)? };
    let amount = Amount::of_parts(row.get(5)?, row.get(6)?);
    Ok((counter, row.get::<_, i64>(4)?.unsigned_abs(), amount))
}
