//! Reads and changes the definitions of meters.

use millrace_event::meter::{Meter, MeterDefinition, MeterId, MeterSet};
use millrace_event::plan::ProjectId;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior, params};

use super::super::clock::moment;
use super::super::thresholds;
use crate::meters::{StoredDefinition, no_project, slug_taken};
use crate::{MeterInfo, MeterStart, StoreError};

const METERS: &str = "
    SELECT m.meter_id, m.project_id, m.slug, m.event_name, m.aggregation, m.value_path, m.group_names, m.group_paths,
           m.received_from, m.counted_until, m.created_at, p.name
      FROM meters m JOIN projects p USING (project_id)
     WHERE m.deleted_at IS NULL AND (?1 IS NULL OR m.project_id = ?1) ORDER BY p.name, m.slug";
/// An event that is not stored yet is received later than every entry that was written.
const CREATE: &str = "
    INSERT INTO meters (project_id, slug, event_name, aggregation, value_path, group_names, group_paths,
                        received_from, counted_until)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7,
            CASE WHEN ?8 THEN ?9 ELSE coalesce((SELECT (max(entry_ms) + 1) * 1000 FROM stream_positions), ?9) END,
            CASE WHEN ?8 THEN ?9 ELSE ?10 END)
    ON CONFLICT (project_id, slug) WHERE deleted_at IS NULL DO NOTHING";
const DELETE: &str = "
    UPDATE meters SET deleted_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER)
     WHERE slug = ?2 AND deleted_at IS NULL AND project_id = (SELECT project_id FROM projects WHERE name = ?1)";

/// The columns of a row, before its texts are read.
struct MeterColumns {
    aggregation: String,
    value: Option<String>,
    names: String,
    paths: String,
    slug: String,
    event: String,
    numbers: [i64; 5],
    project_name: String,
}

fn columns(row: &Row<'_>) -> Result<MeterColumns, rusqlite::Error> {
    Ok(MeterColumns {
        slug: row.get(2)?,
        event: row.get(3)?,
        aggregation: row.get(4)?,
        value: row.get(5)?,
        names: row.get(6)?,
        paths: row.get(7)?,
        numbers: [row.get(0)?, row.get(1)?, row.get(8)?, row.get(9)?, row.get(10)?],
        project_name: row.get(11)?,
    })
}

/// The meters of a project, or of all projects.
pub(in super::super) fn meters(
    connection: &Connection,
    project: Option<ProjectId>,
) -> Result<Vec<MeterInfo>, StoreError> {
    let mut statement = connection.prepare_cached(METERS)?;
    let rows = statement.query_map([project.map(|project| project.0)], columns)?;
    rows.map(|row| info(row?)).collect()
}

/// The meters by which a writer counts.
pub(super) fn meter_set(connection: &Connection) -> Result<MeterSet, StoreError> {
    Ok(MeterSet::new(meters(connection, None)?.into_iter().map(|info| info.meter)))
}

/// The meter with this number.
pub(super) fn meter(connection: &Connection, id: MeterId) -> Result<Meter, StoreError> {
    let found = meters(connection, None)?.into_iter().find(|info| info.meter.id == id);
    let none = || StoreError::Invalid(format!("there is no meter {}", id.0));
    found.map(|info| info.meter).ok_or_else(none)
}

fn info(columns: MeterColumns) -> Result<MeterInfo, StoreError> {
    let list = |json: &str| {
        serde_json::from_str::<Vec<String>>(json).map_err(|error| {
            StoreError::Invalid(format!("a list in the table meters is not usable: {error}"))
        })
    };
    let group_paths = list(&columns.paths)?;
    let definition = StoredDefinition {
        slug: columns.slug,
        event: columns.event,
        aggregation: &columns.aggregation,
        value: columns.value.as_deref(),
        group_names: list(&columns.names)?,
        group_paths: &group_paths,
    }
    .read()?;
    let [id, project, received_from_us, counted_until_us, created_us] = columns.numbers;
    let (id, project) = (MeterId(id), ProjectId(project));
    Ok(MeterInfo {
        meter: Meter { id, project, definition, received_from_us, counted_until_us },
        created_at: moment(created_us),
        project_name: columns.project_name,
    })
}

pub(in super::super) fn create(
    connection: &mut Connection,
    project: &str,
    definition: &MeterDefinition,
    start: MeterStart,
) -> Result<MeterInfo, StoreError> {
    definition.check().map_err(|error| StoreError::Invalid(error.to_string()))?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let find = "SELECT project_id FROM projects WHERE name = ?1";
    let found: Option<i64> = transaction.query_row(find, [project], |row| row.get(0)).optional()?;
    let Some(found) = found else {
        return Err(no_project(project));
    };
    let MeterDefinition { slug, event, aggregation, value, groups } = definition;
    let json = |texts: Vec<String>| serde_json::Value::from(texts).to_string();
    let names = json(groups.iter().map(|group| group.name.clone()).collect());
    let paths = json(groups.iter().map(|group| group.path.to_string()).collect());
    let (aggregation, value) = (aggregation.as_ref(), value.as_ref().map(ToString::to_string));
    let is_backfill = start == MeterStart::FirstEvent;
    let created = transaction.execute(
        CREATE,
        params![found, slug, event, aggregation, value, names, paths, is_backfill, i64::MIN, i64::MAX],
    )?;
    if created == 0 {
        return Err(slug_taken(project, slug));
    }
    let id = MeterId(transaction.last_insert_rowid());
    let new = meters(&transaction, Some(ProjectId(found)))?.into_iter().find(|info| info.meter.id == id);
    transaction.commit()?;
    new.ok_or_else(|| StoreError::Unavailable("the new meter was deleted at once".to_owned()))
}

/// Marks a meter as deleted: it counts nothing more, and its figures are removed later.
pub(in super::super) fn delete(
    connection: &mut Connection,
    project: &str,
    slug: &str,
) -> Result<bool, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    thresholds::delete_of_meter(&transaction, project, slug)?;
    let deleted = transaction.execute(DELETE, [project, slug])?;
    transaction.commit()?;
    Ok(deleted == 1)
}
