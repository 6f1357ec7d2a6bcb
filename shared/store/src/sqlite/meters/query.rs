//! Reads figures of a meter by window, subject and group.

use bigdecimal::BigDecimal;
use millrace_event::meter::{Meter, MeterId};
use rusqlite::{Connection, Row, params};

use super::super::clock::moment;
use super::super::number::decimal;
use crate::meter_answer::{Figure, MeterAnswer, groups_of};
use crate::meters::{fault_of, is_unique};
use crate::{MeterFaultCount, MeterQuery, MeterRow, StoreError};

const FIGURES: &str = "
    SELECT subject, bucket, groups, events, value, latest_at, latest_id FROM meter_usage
     WHERE meter_id = ?1 AND bucket >= ?2 AND bucket < ?3 AND (?4 IS NULL OR subject IN (SELECT value FROM json_each(?4)))";
const UNIQUES: &str = "
    SELECT subject, bucket, groups, events, value, NULL, NULL FROM meter_uniques
     WHERE meter_id = ?1 AND bucket >= ?2 AND bucket < ?3 AND (?4 IS NULL OR subject IN (SELECT value FROM json_each(?4)))";
const FAULTS: &str =
    "SELECT fault, events, sample, last_at FROM meter_faults WHERE meter_id = ?1 ORDER BY events DESC, fault";

/// The rows that answer a query, ordered by window, subject and groups.
pub(in super::super) fn usage(
    connection: &Connection,
    meter: &Meter,
    query: &MeterQuery,
) -> Result<Vec<MeterRow>, StoreError> {
    let mut answer = MeterAnswer::new(meter, query)?;
    let is_unique = is_unique(meter.definition.aggregation);
    let mut statement = connection.prepare_cached(if is_unique { UNIQUES } else { FIGURES })?;
    let mut rows = statement.query(params![meter.id.0, query.from_us, query.to_us, subjects(query)])?;
    while let Some(row) = rows.next()? {
        answer.add(figure(row, is_unique)?);
    }
    Ok(answer.finish())
}

/// The subjects of a query as a parameter; NULL for all.
pub(super) fn subjects(query: &MeterQuery) -> Option<String> {
    (!query.subjects.is_empty()).then(|| serde_json::Value::from(query.subjects.clone()).to_string())
}

fn figure(row: &Row<'_>, is_unique: bool) -> Result<Figure, StoreError> {
    let value: String = row.get(4)?;
    let (value, text) =
        if is_unique { (BigDecimal::default(), value) } else { (decimal(&value), String::new()) };
    Ok(Figure {
        subject: row.get(0)?,
        bucket_us: row.get(1)?,
        groups: groups_of(&row.get::<_, String>(2)?)?,
        events: row.get(3)?,
        value,
        text,
        latest: row.get::<_, Option<i64>>(5)?.zip(row.get(6)?),
    })
}

/// What a meter does not count, the most frequent first.
pub(in super::super) fn faults(
    connection: &Connection,
    meter: MeterId,
) -> Result<Vec<MeterFaultCount>, StoreError> {
    let mut statement = connection.prepare_cached(FAULTS)?;
    let mut rows = statement.query([meter.0])?;
    let mut counts = Vec::new();
    while let Some(row) = rows.next()? {
        let fault: String = row.get(0)?;
        counts.push(MeterFaultCount {
            fault: fault_of(&fault)?,
            events: row.get::<_, i64>(1)?.unsigned_abs(),
            sample: row.get(2)?,
            last_at: moment(row.get(3)?),
        });
    }
    Ok(counts)
}
