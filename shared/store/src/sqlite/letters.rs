//! Reads dead letters for operators. Changes nothing.

use rusqlite::types::Value;
use rusqlite::{Connection, Error, OptionalExtension, Row, params, params_from_iter};
use uuid::Uuid;

use super::clock::{micros, moment};
use crate::letters::no_such_project;
use crate::{DeadLetter, LetterFilter, LetterPayload, StoreError};
use millrace_event::plan::ProjectId;

const LETTERS: &str = "
    SELECT d.dead_letter_id, d.project_id, p.name, d.batch_id, d.received_at, d.event_index, d.event_count, d.sqlstate,
           d.reason, length(d.payload), d.worker_version, d.created_at, d.attempted_at, d.redriven_at, d.redrive_id,
           d.code
      FROM dead_letters d LEFT JOIN projects p ON p.project_id = d.project_id";

pub(super) fn letters(
    connection: &Connection,
    filter: &LetterFilter,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<DeadLetter>, StoreError> {
    let mut conditions: Vec<String> = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    let mut require = |condition: &str, value: Value| {
        values.push(value);
        conditions.push(condition.replace('?', &format!("?{}", values.len())));
    };
    if let Some(name) = &filter.project {
        require("d.project_id = ?", project_named(connection, name)?.into());
    }
    if let Some(since) = filter.since {
        require("d.created_at >= ?", micros(since).into());
    }
    if let Some(until) = filter.until {
        require("d.created_at < ?", micros(until).into());
    }
    if let Some(sqlstate) = &filter.sqlstate {
        require("d.sqlstate = ?", sqlstate.clone().into());
    }
    if let Some(code) = &filter.code {
        require("d.code = ?", code.clone().into());
    }
    if let Some(reason) = &filter.reason {
        require("instr(lower(d.reason), lower(?)) > 0", reason.clone().into());
    }
    if !filter.ids.is_empty() {
        require("d.dead_letter_id IN (SELECT value FROM json_each(?))", numbers(&filter.ids).into());
    }
    if let Some(before) = before {
        require("d.dead_letter_id < ?", before.into());
    }
    if !filter.also_redriven {
        conditions.push("d.redriven_at IS NULL".to_owned());
    }
    let mut sql = LETTERS.to_owned();
    for (index, condition) in conditions.iter().enumerate() {
        sql.push_str(if index == 0 { " WHERE " } else { " AND " });
        sql.push_str(condition);
    }
    sql.push_str(&format!(" ORDER BY d.dead_letter_id DESC LIMIT {limit}"));
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map(params_from_iter(values), letter)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Ids as one parameter, for `json_each`.
pub(super) fn numbers(ids: &[i64]) -> String {
    format!("[{}]", ids.iter().map(i64::to_string).collect::<Vec<_>>().join(","))
}

fn project_named(connection: &Connection, name: &str) -> Result<i64, StoreError> {
    let id = "SELECT project_id FROM projects WHERE name = ?1";
    let known = connection.query_row(id, [name], |row| row.get(0)).optional()?;
    known.ok_or_else(|| no_such_project(name))
}

fn letter(row: &Row<'_>) -> Result<DeadLetter, Error> {
    let optional_moment = |column| row.get::<_, Option<i64>>(column).map(|us| us.map(moment));
    Ok(DeadLetter {
        id: row.get(0)?,
        project: ProjectId(row.get(1)?),
        project_name: row.get(2)?,
        batch_id: Uuid::from_bytes(row.get(3)?),
        received_at: moment(row.get(4)?),
        event_index: row.get(5)?,
        event_count: row.get::<_, i64>(6)?.unsigned_abs(),
        sqlstate: row.get(7)?,
        reason: row.get(8)?,
        payload_bytes: row.get::<_, i64>(9)?.unsigned_abs(),
        worker_version: row.get(10)?,
        created_at: moment(row.get(11)?),
        attempted_at: optional_moment(12)?,
        redriven_at: optional_moment(13)?,
        redrive_id: row.get::<_, Option<[u8; 16]>>(14)?.map(Uuid::from_bytes),
        code: row.get(15)?,
    })
}

/// In the order of the letters' ids.
pub(super) fn payloads(connection: &Connection, ids: &[i64]) -> Result<Vec<LetterPayload>, StoreError> {
    let payloads = "SELECT dead_letter_id, payload FROM dead_letters
                     WHERE dead_letter_id IN (SELECT value FROM json_each(?1)) ORDER BY 1";
    let mut statement = connection.prepare_cached(payloads)?;
    let rows = statement.query_map(params![numbers(ids)], |row| {
        Ok(LetterPayload { id: row.get(0)?, payload: row.get(1)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
