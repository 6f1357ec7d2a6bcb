//! Inserts events: a row that the key of `events` or `undated_ids` refuses is a duplicate. Its payload is
//! then compared with that of the stored event.

use std::borrow::Cow;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, Error, OptionalExtension, Row as SqlRow, ToSql, params};

use crate::payload::PayloadDigest;
use millrace_event::json::with_last_of_equal_names;
use millrace_event::row::{EventTime, Row};

const ADD_EVENT: &str = "
    INSERT INTO events (project_id, timestamp, event_id, received_at, name, subject, client_id, properties, context)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING";
const CLAIM_ID: &str = "
    INSERT INTO undated_ids (project_id, event_id, timestamp, received_at) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT DO NOTHING";
/// Keeps a claim that was made for some days as long as the ledger.
const KEEP_CLAIM: &str = "
    UPDATE undated_ids SET received_at = ?3 WHERE project_id = ?1 AND event_id = ?2 AND received_at IS NULL";
const CLAIMED: &str = "SELECT timestamp FROM undated_ids WHERE project_id = ?1 AND event_id = ?2";
const STORED: &str =
    "SELECT name, subject, properties FROM events WHERE project_id = ?1 AND timestamp = ?2 AND event_id = ?3";

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Insertion {
    Stored,
    Duplicate {
        /// The fields of its payload that differ from the stored event, if any do.
        difference: Option<&'static str>,
    },
}

pub(super) struct EventTable<'c> {
    add: CachedStatement<'c>,
    claim_id: CachedStatement<'c>,
    keep_claim: CachedStatement<'c>,
    claimed: CachedStatement<'c>,
    stored: CachedStatement<'c>,
}

impl<'c> EventTable<'c> {
    pub(super) fn prepare(connection: &'c Connection) -> Result<Self, Error> {
        Ok(Self {
            add: connection.prepare_cached(ADD_EVENT)?,
            claim_id: connection.prepare_cached(CLAIM_ID)?,
            keep_claim: connection.prepare_cached(KEEP_CLAIM)?,
            claimed: connection.prepare_cached(CLAIMED)?,
            stored: connection.prepare_cached(STORED)?,
        })
    }

    /// Stores an event, unless it is a duplicate. A claim of its id is kept as long as the ledger when the id
    /// alone identifies it, counted from `kept_from_us`; with `is_redrive` any claim is.
    pub(super) fn store(
        &mut self,
        event: &Row<'_>,
        received_us: i64,
        kept_from_us: i64,
        is_redrive: bool,
    ) -> Result<Insertion, Error> {
        let (project, event_id) = (event.project.0, event.event_id.as_bytes());
        let (timestamp_us, claims_id) = match event.time {
            EventTime::At(us) => (us, event.by_id),
            EventTime::Anonymous | EventTime::Undeliverable => (received_us, false),
            EventTime::Undated => (received_us, true),
        };
        if claims_id {
            let kept_from_us = (event.by_id || is_redrive).then_some(kept_from_us);
            if self.claim_id.execute(params![project, event_id, timestamp_us, kept_from_us])? == 0 {
                if event.by_id {
                    self.keep_claim.execute(params![project, event_id, kept_from_us])?;
                }
                let claimed_us = self.claimed.query_row(params![project, event_id], |row| row.get(0))?;
                return self.duplicate(event, claimed_us);
            }
        }
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
        if added == 1 { Ok(Insertion::Stored) } else { self.duplicate(event, timestamp_us) }
    }

    /// Compares a duplicate with the event stored at this time, if it is still there.
    fn duplicate(&mut self, event: &Row<'_>, timestamp_us: i64) -> Result<Insertion, Error> {
        let digest = |row: &SqlRow<'_>| {
            let text = |column| -> Result<_, Error> { Ok(row.get_ref(column)?.as_bytes_or_null()?) };
            Ok(PayloadDigest::new(text(0)?.unwrap_or_default(), text(1)?, text(2)?))
        };
        let key = params![event.project.0, timestamp_us, event.event_id.as_bytes()];
        let stored = self.stored.query_row(key, digest).optional()?;
        let subject = event.subject.map(str::as_bytes);
        let payload = PayloadDigest::new(event.name.as_bytes(), subject, event.properties);
        Ok(Insertion::Duplicate { difference: stored.and_then(|stored| payload.difference(stored)) })
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
