//! Compares the stored events of a month with thresholds of quotas, in the transaction that adds to usage.

use std::collections::BTreeSet;

use rusqlite::{Connection, Error, params};

use super::figures::{Reached, write};
use super::period::{around, is_open};
use crate::ThresholdPeriod;

const WATCHED: &str = "SELECT DISTINCT project_id FROM thresholds WHERE kind = 'quota'";
const QUOTAS: &str = "
    SELECT t.threshold_id, t.name, t.percent, t.created_at, l.events_per_month
      FROM thresholds t JOIN projects p USING (project_id) JOIN plans l ON l.name = p.plan
     WHERE t.project_id = ?1 AND t.kind = 'quota' AND l.events_per_month IS NOT NULL
       AND NOT EXISTS (SELECT 1 FROM notifications n
                        WHERE n.threshold_id = t.threshold_id AND n.subject = '' AND n.period_start = ?2)";
const USED: &str = "
    SELECT coalesce(sum(events - redriven), 0) FROM usage_hourly
     WHERE project_id = ?1 AND hour >= ?2 AND hour < ?3";

/// The projects that have thresholds of their quota.
pub(in super::super) fn watched(connection: &Connection) -> Result<BTreeSet<i64>, Error> {
    let mut statement = connection.prepare_cached(WATCHED)?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.collect()
}

/// Writes notifications of thresholds that usage of these projects and hours reaches.
pub(in super::super) fn compare<'a>(
    transaction: &Connection,
    watched: &BTreeSet<i64>,
    changed: impl Iterator<Item = &'a (i64, i64)>,
) -> Result<(), Error> {
    let mut months = BTreeSet::new();
    for (project, hour_us) in changed.filter(|(project, _)| watched.contains(project)) {
        months.insert((*project, around(ThresholdPeriod::Month, *hour_us)));
    }
    for (project, (start_us, end_us)) in months {
        let mut statement = transaction.prepare_cached(QUOTAS)?;
        let columns = |row: &rusqlite::Row<'_>| {
            let numbers: [i64; 4] = [row.get(0)?, row.get(2)?, row.get(3)?, row.get(4)?];
            Ok((numbers, row.get::<_, String>(1)?))
        };
        let quotas = statement.query_map([project, start_us], columns)?;
        let quotas: Vec<_> = quotas.collect::<Result<_, _>>()?;
        if quotas.is_empty() {
            continue;
        }
        let mut used = transaction.prepare_cached(USED)?;
        let used: i64 = used.query_row(params![project, start_us, end_us], |row| row.get(0))?;
        for ([threshold_id, percent, created_us, quota], name) in quotas {
            // The products of 64 bits and a percentage do not fit 64 bits.
            let (reached, share) = (i128::from(used) * 100, i128::from(quota) * i128::from(percent));
            if reached >= share && is_open(end_us, created_us) {
                write(
                    transaction,
                    &Reached {
                        threshold_id,
                        project,
                        name: &name,
                        kind: "quota",
                        percent: Some(percent),
                        meter: None,
                        subject: "",
                        period: ThresholdPeriod::Month,
                        bounds: (start_us, end_us),
                        threshold: ((share + 99) / 100).to_string(),
                        value: used.to_string(),
                    },
                )?;
            }
        }
    }
    Ok(())
}
