//! Looks entries up in the ledger, and adds them.

use rusqlite::{CachedStatement, Connection, Error, OptionalExtension, Params, Row, params};

use crate::ledger::LedgerKey;
use millrace_event::Outcome;
use millrace_event::plan::ProjectId;

/// Both lookups return the outcome as it was when the entry was written: a late settlement must refund the
/// events that were dead then, even if they have been redriven since.
const OF_BATCH: &str = "
    SELECT stored - redriven, duplicate, dead + redriven, conflict, received_at = ?2 AND entry_seq = ?3 AND shard = ?4
      FROM batches WHERE batch_id = ?1";
const OF_ENTRY: &str = "
    SELECT stored - redriven, duplicate, dead + redriven, conflict FROM batches
     WHERE batch_id = ?1 AND received_at = ?2 AND entry_seq = ?3 AND shard = ?4";
const INSERT: &str = "
    INSERT INTO batches (batch_id, received_at, entry_seq, shard, project_id, accepted, stored, duplicate, dead, conflict)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";

/// The result of looking up an entry that is to be written.
pub(super) enum LedgerMatch {
    /// Neither the entry nor its batch was written. The entry gets this key.
    None(LedgerKey),
    /// The batch was written from another entry: the client used its `Idempotency-Key` again after the stream
    /// had forgotten it. The entry gets this key.
    Batch(LedgerKey),
    /// This very entry was written, with this outcome.
    Entry(Outcome),
}

pub(super) struct Ledger<'c> {
    of_batch: CachedStatement<'c>,
    of_entry: CachedStatement<'c>,
    insert: CachedStatement<'c>,
}

impl<'c> Ledger<'c> {
    pub(super) fn prepare(connection: &'c Connection) -> Result<Self, Error> {
        Ok(Self {
            of_batch: connection.prepare_cached(OF_BATCH)?,
            of_entry: connection.prepare_cached(OF_ENTRY)?,
            insert: connection.prepare_cached(INSERT)?,
        })
    }

    /// Looks an entry up under both keys it can have.
    pub(super) fn look_up(&mut self, first: LedgerKey) -> Result<LedgerMatch, Error> {
        let mut has_batch = false;
        let mut rows = self.of_batch.query(parameters(&first))?;
        while let Some(row) = rows.next()? {
            if row.get(4)? {
                return Ok(LedgerMatch::Entry(outcome(row)?));
            }
            has_batch = true;
        }
        drop(rows);
        if !has_batch {
            return Ok(LedgerMatch::None(first));
        }
        let again = first.of_reused_key();
        Ok(self.outcome(&again)?.map_or(LedgerMatch::Batch(again), LedgerMatch::Entry))
    }

    pub(super) fn outcome(&mut self, key: &LedgerKey) -> Result<Option<Outcome>, Error> {
        self.of_entry.query_row(parameters(key), outcome).optional()
    }

    pub(super) fn insert(
        &mut self,
        key: &LedgerKey,
        project: ProjectId,
        accepted: u32,
        outcome: Outcome,
    ) -> Result<(), Error> {
        let Outcome { stored, duplicate, dead, conflict } = outcome;
        let LedgerKey { batch_id, received_us, seq, shard, .. } = key;
        let id = batch_id.as_bytes();
        self.insert.execute(params![
            id,
            received_us,
            seq,
            shard,
            project.0,
            accepted,
            stored,
            duplicate,
            dead,
            conflict,
        ])?;
        Ok(())
    }
}

fn parameters(key: &LedgerKey) -> impl Params + use<> {
    (*key.batch_id.as_bytes(), key.received_us, key.seq, key.shard)
}

/// Reads stored, duplicate, dead and conflict from the first four columns.
pub(super) fn outcome(row: &Row<'_>) -> Result<Outcome, Error> {
    Ok(Outcome { stored: row.get(0)?, duplicate: row.get(1)?, dead: row.get(2)?, conflict: row.get(3)? })
}
