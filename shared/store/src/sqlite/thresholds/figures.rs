//! Compares figures of meters with thresholds, in the transaction that adds to the figures.
//!
//! `threshold_values` has a value for each subject that is never less than its figure, and only when that
//! value reaches the threshold, all figures of the period are read.

use std::collections::{BTreeMap, HashMap};

use bigdecimal::BigDecimal;
use millrace_event::meter::{Addition, Aggregation, MeterId, MeterKey, MeterTally};
use rusqlite::{Connection, Error, OptionalExtension, params};
use uuid::Uuid;

use super::super::number::decimal;
use super::period::{around, is_open};
use crate::thresholds::period_of;
use crate::{MeterInfo, StoreError, ThresholdPeriod};

const THRESHOLDS: &str = "
    SELECT threshold_id, name, subject, period, value, created_at FROM thresholds
     WHERE meter_id = ?1 AND kind = 'meter'";
const IS_WRITTEN: &str =
    "SELECT 1 FROM notifications WHERE threshold_id = ?1 AND subject = ?2 AND period_start = ?3";
const VALUE: &str =
    "SELECT value FROM threshold_values WHERE threshold_id = ?1 AND subject = ?2 AND period_start = ?3";
const SET_VALUE: &str = "
    INSERT INTO threshold_values (threshold_id, subject, period_start, value) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (threshold_id, subject, period_start) DO UPDATE SET value = excluded.value";
const REMOVE_VALUE: &str =
    "DELETE FROM threshold_values WHERE threshold_id = ?1 AND subject = ?2 AND period_start = ?3";
const FIGURES: &str = "
    SELECT events, value FROM meter_usage WHERE meter_id = ?1 AND subject = ?2 AND bucket >= ?3 AND bucket < ?4";
const UNIQUES: &str = "
    SELECT count(DISTINCT value) FROM meter_uniques
     WHERE meter_id = ?1 AND subject = ?2 AND bucket >= ?3 AND bucket < ?4";
const WRITE: &str = "
    INSERT INTO notifications (threshold_id, project_id, name, kind, percent, meter, subject, period, period_start,
                               period_end, threshold, value, webhook_id)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
    ON CONFLICT (threshold_id, subject, period_start) DO NOTHING";

/// A threshold that is reached.
pub(super) struct Reached<'a> {
    pub(super) threshold_id: i64,
    pub(super) project: i64,
    pub(super) name: &'a str,
    pub(super) kind: &'static str,
    /// `None` if it is about a figure.
    pub(super) percent: Option<i64>,
    pub(super) meter: Option<&'a str>,
    pub(super) subject: &'a str,
    pub(super) period: ThresholdPeriod,
    pub(super) bounds: (i64, i64),
    pub(super) threshold: String,
    pub(super) value: String,
}

/// Writes a notification, unless the threshold was reached before in this period.
pub(super) fn write(transaction: &Connection, reached: &Reached<'_>) -> Result<(), Error> {
    let Reached { threshold_id, project, name, kind, percent, meter, subject, bounds, .. } = reached;
    let (period, id) = (<&str>::from(reached.period), Uuid::new_v4());
    transaction.prepare_cached(WRITE)?.execute(params![
        threshold_id,
        project,
        name,
        kind,
        percent,
        meter,
        subject,
        period,
        bounds.0,
        bounds.1,
        reached.threshold,
        reached.value,
        id.as_bytes(),
    ])?;
    Ok(())
}

/// A threshold of a meter.
struct MeterThreshold {
    threshold_id: i64,
    name: String,
    subject: Option<String>,
    period: ThresholdPeriod,
    value: BigDecimal,
    created_us: i64,
}

/// Writes notifications of thresholds that these additions reach. The figures have them already.
pub(in super::super) fn compare(
    transaction: &Connection,
    meters: &[MeterInfo],
    tally: &MeterTally,
) -> Result<(), StoreError> {
    for info in meters {
        let Some(additions) = tally.additions.get(&info.meter.id) else { continue };
        for threshold in thresholds(transaction, info.meter.id)? {
            let aggregation = info.meter.definition.aggregation;
            for ((subject, bounds), amount) in amounts(&threshold, aggregation, additions) {
                compare_one(transaction, info, &threshold, (subject, bounds), amount)?;
            }
        }
    }
    Ok(())
}

fn thresholds(transaction: &Connection, meter: MeterId) -> Result<Vec<MeterThreshold>, StoreError> {
    let mut statement = transaction.prepare_cached(THRESHOLDS)?;
    let mut rows = statement.query([meter.0])?;
    let mut thresholds = Vec::new();
    while let Some(row) = rows.next()? {
        thresholds.push(MeterThreshold {
            threshold_id: row.get(0)?,
            name: row.get(1)?,
            subject: row.get(2)?,
            period: period_of(&row.get::<_, String>(3)?)?,
            value: decimal(&row.get::<_, String>(4)?),
            created_us: row.get(5)?,
        });
    }
    Ok(thresholds)
}

/// What is added for each subject and period that the threshold is about. Never less than what the figure
/// grows by: a value of a unique count may be there already.
fn amounts<'a>(
    threshold: &MeterThreshold,
    aggregation: Aggregation,
    additions: impl IntoIterator<Item = (&'a MeterKey, &'a Vec<Addition>)>,
) -> BTreeMap<(&'a str, (i64, i64)), BigDecimal> {
    let mut periods = HashMap::new();
    let mut amounts = BTreeMap::new();
    for (key, additions) in additions {
        let subject = key.subject.as_str();
        if subject.is_empty() || threshold.subject.as_ref().is_some_and(|only| only != subject) {
            continue;
        }
        let bounds = *periods.entry(key.bucket_us).or_insert_with(|| around(threshold.period, key.bucket_us));
        if !is_open(bounds.1, threshold.created_us) {
            continue;
        }
        for addition in additions {
            let amount = match aggregation {
                Aggregation::Sum | Aggregation::Max => decimal(&addition.value.to_string()),
                Aggregation::UniqueCount => BigDecimal::from(1),
                _ => BigDecimal::from(addition.events),
            };
            let amounts = amounts.entry((subject, bounds));
            amounts
                .and_modify(|old: &mut BigDecimal| *old = together(aggregation, old, &amount))
                .or_insert(amount);
        }
    }
    amounts
}

fn together(aggregation: Aggregation, first: &BigDecimal, second: &BigDecimal) -> BigDecimal {
    if aggregation == Aggregation::Max { first.max(second).clone() } else { first + second }
}

fn compare_one(
    transaction: &Connection,
    info: &MeterInfo,
    threshold: &MeterThreshold,
    (subject, bounds): (&str, (i64, i64)),
    amount: BigDecimal,
) -> Result<(), StoreError> {
    let (id, aggregation) = (threshold.threshold_id, info.meter.definition.aggregation);
    let place = params![id, subject, bounds.0];
    if transaction.prepare_cached(IS_WRITTEN)?.exists(place)? {
        return Ok(());
    }
    let mut value = transaction.prepare_cached(VALUE)?;
    let before: Option<String> = value.query_row(place, |row| row.get(0)).optional()?;
    let mut value = before.map(|before| together(aggregation, &decimal(&before), &amount));
    // Without a row, the figures have events that were counted before.
    if value.as_ref().is_none_or(|value| *value >= threshold.value) {
        let exact = figure(transaction, info.meter.id, aggregation, (subject, bounds))?;
        if exact >= threshold.value {
            transaction.prepare_cached(REMOVE_VALUE)?.execute(place)?;
            let (project, meter) = (info.meter.project.0, Some(info.meter.definition.slug.as_str()));
            let reached = Reached {
                threshold_id: id,
                project,
                name: &threshold.name,
                kind: "meter",
                percent: None,
                meter,
                subject,
                period: threshold.period,
                bounds,
                threshold: shown(&threshold.value),
                value: shown(&exact),
            };
            return Ok(write(transaction, &reached)?);
        }
        value = Some(exact);
    }
    let value = value.map(|value| shown(&value)).unwrap_or_default();
    transaction.prepare_cached(SET_VALUE)?.execute(params![id, subject, bounds.0, value])?;
    Ok(())
}

pub(super) fn shown(value: &BigDecimal) -> String {
    value.normalized().to_plain_string()
}

/// The figure of a subject in a period.
fn figure(
    transaction: &Connection,
    meter: MeterId,
    aggregation: Aggregation,
    (subject, (start_us, end_us)): (&str, (i64, i64)),
) -> Result<BigDecimal, Error> {
    let place = params![meter.0, subject, start_us, end_us];
    if aggregation == Aggregation::UniqueCount {
        let count: i64 = transaction.prepare_cached(UNIQUES)?.query_row(place, |row| row.get(0))?;
        return Ok(count.into());
    }
    let mut statement = transaction.prepare_cached(FIGURES)?;
    let mut rows = statement.query(place)?;
    let mut whole: Option<BigDecimal> = None;
    while let Some(row) = rows.next()? {
        let value = match aggregation {
            Aggregation::Sum | Aggregation::Max => decimal(&row.get::<_, String>(1)?),
            _ => BigDecimal::from(row.get::<_, i64>(0)?),
        };
        whole = Some(match whole {
            Some(whole) => together(aggregation, &whole, &value),
            None => value,
        });
    }
    Ok(whole.unwrap_or_default())
}
