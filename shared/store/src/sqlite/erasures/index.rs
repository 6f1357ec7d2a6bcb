//! The index that leads to the events of a subject, which operators create when they need it.

use rusqlite::{Connection, Error};

/// Any index that begins with these columns, and has all rows.
const EXISTS: &str = "
    SELECT EXISTS (
        SELECT 1 FROM pragma_index_list('events') l
         WHERE NOT l.partial AND (SELECT name FROM pragma_index_info(l.name) WHERE seqno = 0) = 'project_id'
           AND (SELECT name FROM pragma_index_info(l.name) WHERE seqno = 1) = 'subject')";

pub(super) fn exists(connection: &Connection) -> Result<bool, Error> {
    connection.prepare_cached(EXISTS)?.query_row([], |row| row.get(0))
}

pub(super) fn create(connection: &Connection) -> Result<bool, Error> {
    if exists(connection)? {
        return Ok(false);
    }
    connection.execute_batch("CREATE INDEX events_subject ON events (project_id, subject, timestamp)")?;
    Ok(true)
}

pub(super) fn drop(connection: &Connection) -> Result<bool, Error> {
    let exists =
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = 'events_subject')";
    if !connection.query_row(exists, [], |row| row.get::<_, bool>(0))? {
        return Ok(false);
    }
    connection.execute_batch("DROP INDEX events_subject")?;
    Ok(true)
}
