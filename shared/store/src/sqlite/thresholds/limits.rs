//! Compares what customers have used of limits with thresholds of limits, in the transaction that adds to it.
//! The limit is the one that is set at this moment.

use std::collections::BTreeSet;

use bigdecimal::BigDecimal;
use millrace_event::limit::{Amount, Counter};
use rusqlite::{Connection, Error, OptionalExtension, Params, Row, params};

use super::figures::{Reached, shown, write};
use super::period::{around, is_open};
use crate::StoreError;
use crate::limit_tally::LimitTally;
use crate::thresholds::period_of;

const WATCHED: &str = "SELECT DISTINCT meter_id FROM thresholds WHERE kind = 'limit'";
const THRESHOLDS: &str = "
    SELECT t.threshold_id, t.project_id, t.percent, t.created_at, t.name, m.slug
      FROM thresholds t JOIN meters m USING (meter_id)
     WHERE t.meter_id = ?1 AND t.kind = 'limit' AND t.period = ?2 AND (t.subject IS NULL OR t.subject = ?3)
       AND NOT EXISTS (SELECT 1 FROM notifications n
                        WHERE n.threshold_id = t.threshold_id AND n.subject = ?3 AND n.period_start = ?4)";
const USED: &str = "
    SELECT units, billionths FROM limit_usage
     WHERE meter_id = ?1 AND period = ?2 AND subject = ?3 AND window_number = ?4";
/// A subject is not empty, so the limit of the subject comes before that of every other one.
const LIMIT: &str = "
    SELECT units, billionths FROM customer_limits
     WHERE meter_id = ?1 AND period = ?2 AND subject IN (?3, '') ORDER BY subject = '' LIMIT 1";

/// The meters whose limits have thresholds.
pub(in super::super) fn watched(connection: &Connection) -> Result<BTreeSet<i64>, Error> {
    let mut statement = connection.prepare_cached(WATCHED)?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.collect()
}

/// A threshold that this period has not reached yet.
struct LimitThreshold {
    threshold_id: i64,
    project: i64,
    percent: i64,
    created_us: i64,
    name: String,
    slug: String,
}

/// Writes notifications of thresholds that these counters reach. Their rows are written already.
pub(in super::super) fn compare(
    transaction: &Connection,
    watched: &BTreeSet<i64>,
    tally: &LimitTally,
) -> Result<(), StoreError> {
    for ((counter, window), used) in &tally.used {
        if !watched.contains(&counter.meter.0) {
            continue;
        }
        let period = period_of(counter.period.as_ref())?;
        let bounds = around(period, used.ends_us - 1);
        let open = thresholds(transaction, counter, bounds.0)?;
        if open.is_empty() {
            continue;
        }
        let Counter { meter, period: per, subject } = counter;
        let key = params![meter.0, per.as_ref(), subject, window.cast_signed()];
        let used = billionths(transaction, USED, key)?.unwrap_or_default();
        let key = params![meter.0, per.as_ref(), subject];
        let Some(limit) = billionths(transaction, LIMIT, key)? else { continue };
        for LimitThreshold { threshold_id, project, percent, created_us, name, slug } in &open {
            let share = limit * i128::from(*percent);
            if used * 100 < share || !is_open(bounds.1, *created_us) {
                continue;
            }
            let reached = Reached {
                threshold_id: *threshold_id,
                project: *project,
                name,
                kind: "limit",
                percent: Some(*percent),
                meter: Some(slug),
                subject,
                period,
                bounds,
                threshold: shown(&BigDecimal::new(share.into(), 11)),
                value: shown(&BigDecimal::new(used.into(), 9)),
            };
            write(transaction, &reached)?;
        }
    }
    Ok(())
}

fn thresholds(
    transaction: &Connection,
    counter: &Counter,
    start_us: i64,
) -> Result<Vec<LimitThreshold>, Error> {
    let threshold = |row: &Row<'_>| {
        Ok(LimitThreshold {
            threshold_id: row.get(0)?,
            project: row.get(1)?,
            percent: row.get(2)?,
            created_us: row.get(3)?,
            name: row.get(4)?,
            slug: row.get(5)?,
        })
    };
    let Counter { meter, period, subject } = counter;
    let mut statement = transaction.prepare_cached(THRESHOLDS)?;
    let rows = statement.query_map(params![meter.0, period.as_ref(), subject, start_us], threshold)?;
    rows.collect()
}

/// An amount in billionths of one.
fn billionths(transaction: &Connection, select: &str, key: impl Params) -> Result<Option<i128>, Error> {
    let amount = |row: &Row<'_>| {
        let (units, billionths) = Amount::of_parts(row.get(0)?, row.get(1)?).parts();
        Ok(i128::from(units) * 1_000_000_000 + i128::from(billionths))
    };
    transaction.prepare_cached(select)?.query_row(key, amount).optional()
}
