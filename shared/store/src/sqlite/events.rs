//! Inserts events: a row that the key of `events` or `undated_ids` refuses is a duplicate.

use std::borrow::Cow;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, Error, ToSql, params};

use millrace_event::json::with_last_of_equal_names;
use millrace_event::row::{EventTime, Row};

const ADD_EVENT: &str = "
    INSERT INTO events (project_id, timestamp, event_id, received_at, name, subject, client_id, properties, context)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING";
const CLAIM_UNDATED: &str = "
    INSERT INTO undated_ids (project_id, event_id, timestamp) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";

pub(super) struct EventTable<'c> {
    add: CachedStatement<'c>,
    claim_undated: CachedStatement<'c>,
}

impl<'c> EventTable<'c> {
    pub(super) fn prepare(connection: &'c Connection) -> Result<Self, Error> {
        Ok(Self {
            add: connection.prepare_cached(ADD_EVENT)?,
            claim_undated: connection.prepare_cached(CLAIM_UNDATED)?,
        })
    }

    /// Returns whether the event is new. The id of an undated event is remembered from `claimed_us` on.
    pub(super) fn store(
        &mut self,
        event: &Row<'_>,
        received_us: i64,
        claimed_us: i64,
    ) -> Result<bool, Error> {
        let (project, event_id) = (event.project.0, event.event_id.as_bytes());
        let timestamp_us = match event.time {
            EventTime::At(us) => us,
            EventTime::Anonymous | EventTime::Undeliverable => received_us,
            EventTime::Undated => {
                if self.claim_undated.execute(params![project, event_id, claimed_us])? == 0 {
                    return Ok(false);
                }
                received_us
            }
        };
        let added = self.add.execute(params![
            project,
            timestamp_us,
            event_id,
            received_us,
            event.name,
            event.subject,
            event.client_id,
            event.properties.map(Json::of),
            event.context.map(Json::of),
        ])?;
        Ok(added == 1)
    }
}

/// JSON text of a row, bound without being parsed or validated. Of equal names in an object the last is kept,
/// as jsonb does.
struct Json<'a>(Cow<'a, [u8]>);

impl<'a> Json<'a> {
    fn of(text: &'a [u8]) -> Self {
        Self(with_last_of_equal_names(text))
    }
}

impl ToSql for Json<'_> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>, Error> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(&self.0)))
    }
}
