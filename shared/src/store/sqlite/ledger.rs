//! What the ledger knows.

use rusqlite::{Connection, Error, OptionalExtension, Row, params};

use crate::store::ledger::LedgerKey;
use crate::stream::Outcome;

/// What the ledger says of an entry that is to be written.
pub(super) enum Known {
    /// Nothing: it goes under this key.
    Nothing(LedgerKey),
    /// Its batch was written from another entry: an `Idempotency-Key` used again after the stream had forgotten it. It
    /// goes under this key.
    Batch(LedgerKey),
    /// This very entry was written.
    Entry(Outcome),
}

/// Looks an entry up under both of the keys it could have.
pub(super) fn look_up(connection: &Connection, first: LedgerKey) -> Result<Known, Error> {
    let of_batch = "SELECT stored, duplicate, dead, received_at = ?2 AND entry_seq = ?3 AND shard = ?4
                      FROM batches WHERE batch_id = ?1 ORDER BY 4 DESC LIMIT 1";
    let mut statement = connection.prepare_cached(of_batch)?;
    let known = statement
        .query_row(parameters(&first), |row| Ok((outcome(row, 0)?, row.get::<_, bool>(3)?)))
        .optional()?;
    match known {
        None => Ok(Known::Nothing(first)),
        Some((outcome, true)) => Ok(Known::Entry(outcome)),
        Some((_, false)) => {
            let again = first.admitted_again();
            Ok(outcome_of(connection, &again)?.map_or(Known::Batch(again), Known::Entry))
        }
    }
}

/// The outcome that stands under this key.
pub(super) fn outcome_of(connection: &Connection, key: &LedgerKey) -> Result<Option<Outcome>, Error> {
    let of_entry = "SELECT stored, duplicate, dead FROM batches
                     WHERE batch_id = ?1 AND received_at = ?2 AND entry_seq = ?3 AND shard = ?4";
    let mut statement = connection.prepare_cached(of_entry)?;
    statement.query_row(parameters(key), |row| outcome(row, 0)).optional()
}

fn parameters(key: &LedgerKey) -> impl rusqlite::Params + use<> {
    (*key.batch_id.as_bytes(), key.received_us, key.seq, key.shard)
}

/// Enters an entry that the ledger does not know.
pub(super) fn enter(
    connection: &Connection,
    key: &LedgerKey,
    project: i64,
    accepted: u32,
    outcome: Outcome,
) -> Result<(), Error> {
    let insert = "
        INSERT INTO batches (batch_id, received_at, entry_seq, shard, project_id, accepted, stored, duplicate, dead)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    connection.prepare_cached(insert)?.execute(params![
        key.batch_id.as_bytes(),
        key.received_us,
        key.seq,
        key.shard,
        project,
        accepted,
        outcome.stored,
        outcome.duplicate,
        outcome.dead,
    ])?;
    Ok(())
}

/// Reads stored, duplicate and dead from this column on.
pub(super) fn outcome(row: &Row<'_>, first_column: usize) -> Result<Outcome, Error> {
    Ok(Outcome {
        stored: row.get(first_column)?,
        duplicate: row.get(first_column + 1)?,
        dead: row.get(first_column + 2)?,
    })
}
