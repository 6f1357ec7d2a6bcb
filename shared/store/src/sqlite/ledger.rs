//! What the ledger knows, and how it learns.

use rusqlite::{CachedStatement, Connection, Error, OptionalExtension, Params, Row, params};

use crate::ledger::LedgerKey;
use millrace_event::Outcome;
use millrace_event::plan::ProjectId;

/// Both tell how an entry was written: whoever settles late must refund what had died, though it may have been redriven
/// since.
const OF_BATCH: &str = "
    SELECT stored - redriven, duplicate, dead + redriven, received_at = ?2 AND entry_seq = ?3 AND shard = ?4
      FROM batches WHERE batch_id = ?1";
const OF_ENTRY: &str = "
    SELECT stored - redriven, duplicate, dead + redriven FROM batches
     WHERE batch_id = ?1 AND received_at = ?2 AND entry_seq = ?3 AND shard = ?4";
const ENTER: &str = "
    INSERT INTO batches (batch_id, received_at, entry_seq, shard, project_id, accepted, stored, duplicate, dead)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

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

/// The ledger, as one transaction sees it.
pub(super) struct Ledger<'c> {
    of_batch: CachedStatement<'c>,
    of_entry: CachedStatement<'c>,
    enter: CachedStatement<'c>,
}

impl<'c> Ledger<'c> {
    pub(super) fn of(connection: &'c Connection) -> Result<Self, Error> {
        Ok(Self {
            of_batch: connection.prepare_cached(OF_BATCH)?,
            of_entry: connection.prepare_cached(OF_ENTRY)?,
            enter: connection.prepare_cached(ENTER)?,
        })
    }

    /// Looks an entry up under both of the keys it could have.
    pub(super) fn look_up(&mut self, first: LedgerKey) -> Result<Known, Error> {
        let mut is_batch_known = false;
        let mut rows = self.of_batch.query(parameters(&first))?;
        while let Some(row) = rows.next()? {
            if row.get(3)? {
                return Ok(Known::Entry(outcome(row)?));
            }
            is_batch_known = true;
        }
        drop(rows);
        if !is_batch_known {
            return Ok(Known::Nothing(first));
        }
        let again = first.admitted_again();
        Ok(self.outcome(&again)?.map_or(Known::Batch(again), Known::Entry))
    }

    /// The outcome that stands under this key.
    pub(super) fn outcome(&mut self, key: &LedgerKey) -> Result<Option<Outcome>, Error> {
        self.of_entry.query_row(parameters(key), outcome).optional()
    }

    /// Enters an entry that is not known.
    pub(super) fn enter(
        &mut self,
        key: &LedgerKey,
        project: ProjectId,
        accepted: u32,
        outcome: Outcome,
    ) -> Result<(), Error> {
        let Outcome { stored, duplicate, dead } = outcome;
        let LedgerKey { batch_id, received_us, seq, shard } = key;
        let id = batch_id.as_bytes();
        self.enter.execute(params![
            id,
            received_us,
            seq,
            shard,
            project.0,
            accepted,
            stored,
            duplicate,
            dead
        ])?;
        Ok(())
    }
}

fn parameters(key: &LedgerKey) -> impl Params + use<> {
    (*key.batch_id.as_bytes(), key.received_us, key.seq, key.shard)
}

/// Reads stored, duplicate and dead from the first three columns.
pub(super) fn outcome(row: &Row<'_>) -> Result<Outcome, Error> {
    Ok(Outcome { stored: row.get(0)?, duplicate: row.get(1)?, dead: row.get(2)? })
}
