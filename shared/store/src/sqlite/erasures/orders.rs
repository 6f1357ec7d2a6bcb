//! Records of erasures.

use millrace_event::plan::ProjectId;
use rusqlite::{Connection, Row, params};

use super::super::clock::{micros, moment, now_us};
use crate::erasures::{check, check_kind, kind_of, new_pseudonym, not_open};
use crate::{Erasure, ErasureOrder, StoreError};

const COLUMNS: &str =
    "erasure_id, project_id, kind, subject, pseudonym, received_before, events, dead_letters, samples,
    done_by, started_at, finished_at";
const BEGIN: &str = "
    INSERT INTO erasures AS e (project_id, kind, subject, pseudonym, received_before, done_by)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (project_id, subject) WHERE subject IS NOT NULL DO UPDATE
       SET received_before = iif(e.kind = excluded.kind, max(e.received_before, excluded.received_before),
                                 e.received_before)";
const ADD: &str = "
    UPDATE erasures SET events = events + ?2, cancelled = cancelled + ?3, dead_letters = dead_letters + ?4,
           samples = samples + ?5
     WHERE erasure_id = ?1 AND subject IS NOT NULL";

/// What a transaction adds to the record.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counted {
    pub(super) events: u64,
    /// Events that were cancelled and deleted.
    pub(super) cancelled: u64,
    pub(super) dead_letters: u64,
    pub(super) samples: u64,
}

pub(super) fn begin(connection: &Connection, order: &ErasureOrder) -> Result<Erasure, StoreError> {
    check(order)?;
    let parameters = params![
        order.project.0,
        <&str>::from(order.kind),
        order.subject,
        new_pseudonym(),
        micros(order.received_before),
        order.by,
    ];
    let begun = connection.query_row(&format!("{BEGIN} RETURNING {COLUMNS}"), parameters, erasure)?;
    check_kind(order, &begun.1)?;
    with_kind(begun)
}

/// Adds to the record, and fails when the erasure was finished meanwhile.
pub(super) fn add(transaction: &Connection, erasure: &Erasure, counted: Counted) -> Result<(), StoreError> {
    let Counted { events, cancelled, dead_letters, samples } = counted;
    let count = |number: u64| number.cast_signed();
    let added = transaction.execute(
        ADD,
        params![erasure.id, count(events), count(cancelled), count(dead_letters), count(samples)],
    )?;
    if added == 0 { Err(not_open()) } else { Ok(()) }
}

pub(super) fn finish(transaction: &Connection, open: &Erasure) -> Result<Erasure, StoreError> {
    let finish = format!(
        "UPDATE erasures SET subject = NULL, finished_at = ?2 WHERE erasure_id = ?1 AND subject IS NOT NULL
         RETURNING {COLUMNS}"
    );
    match transaction.query_row(&finish, [open.id, now_us()], erasure) {
        Err(rusqlite::Error::QueryReturnedNoRows) => Err(not_open()),
        finished => with_kind(finished?),
    }
}

pub(super) fn list(
    connection: &Connection,
    project: Option<ProjectId>,
    limit: u32,
) -> Result<Vec<Erasure>, StoreError> {
    let select = format!(
        "SELECT {COLUMNS} FROM erasures WHERE ?1 IS NULL OR project_id = ?1 ORDER BY erasure_id DESC LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&select)?;
    let rows = statement.query_map(params![project.map(|project| project.0), limit], erasure)?;
    rows.map(|row| with_kind(row?)).collect()
}

/// An erasure, and its kind as it is stored.
fn erasure(row: &Row<'_>) -> Result<(Erasure, String), rusqlite::Error> {
    let count = |column: &str| row.get::<_, i64>(column).map(i64::unsigned_abs);
    let erasure = Erasure {
        id: row.get("erasure_id")?,
        project: ProjectId(row.get("project_id")?),
        kind: crate::ErasureKind::Erase,
        subject: row.get("subject")?,
        pseudonym: row.get("pseudonym")?,
        received_before: moment(row.get("received_before")?),
        events: count("events")?,
        dead_letters: count("dead_letters")?,
        samples: count("samples")?,
        by: row.get("done_by")?,
        started_at: moment(row.get("started_at")?),
        finished_at: row.get::<_, Option<i64>>("finished_at")?.map(moment),
    };
    Ok((erasure, row.get("kind")?))
}

fn with_kind((erasure, kind): (Erasure, String)) -> Result<Erasure, StoreError> {
    Ok(Erasure { kind: kind_of(&kind)?, ..erasure })
}

/// The subject of an erasure that is not finished.
pub(super) fn subject(erasure: &Erasure) -> Result<&str, StoreError> {
    erasure.subject.as_deref().ok_or_else(not_open)
}
