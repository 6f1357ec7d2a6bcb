//! Redrives dead letters in one transaction: the events, their letters, ledger, usage, and the audit row.
//! Nothing else writes meanwhile.

use rusqlite::{Connection, Error, Row as SqlRow, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::clock::{moment, now_us};
use super::error::NOT_TEXT;
use super::events::{EventTable, Insertion};
use super::letters::numbers;
use super::meters::{self, MeterDefinitions};
use crate::dead_reason::DeadReason;
use crate::redrive::{
    Correction, Corrections, Letter, LetterOutcome, RowOutcome, counts_differ, payload_of_rejected,
    rejection_of_call,
};
use crate::{RedriveOrder, RedriveRecord, RedriveResult, StoreError};
use millrace_event::meter::MeterTally;
use millrace_event::plan::ProjectId;
use millrace_event::row::{self, Row};

const BEGIN_ORDER: &str = "
    INSERT INTO redrives (redrive_id, os_user, host, filter) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
const ADD_TO_ORDER: &str = "
    UPDATE redrives SET letters = letters + ?2, stored = stored + ?3, duplicate = duplicate + ?4, refused = refused + ?5
     WHERE redrive_id = ?1";
const LETTERS: &str = "
    SELECT dead_letter_id, project_id, batch_id, received_at, event_index, event_count, payload, code FROM dead_letters
     WHERE dead_letter_id IN (SELECT value FROM json_each(?1)) AND redriven_at IS NULL ORDER BY dead_letter_id";
const MARK_REDRIVEN: &str =
    "UPDATE dead_letters SET redriven_at = ?2, redrive_id = ?3 WHERE dead_letter_id = ?1";
const MARK_REJECTED: &str =
    "UPDATE dead_letters SET attempted_at = ?2, sqlstate = ?3, reason = ?4 WHERE dead_letter_id = ?1";
const MARK_UNREADABLE: &str = "UPDATE dead_letters SET attempted_at = ?2 WHERE dead_letter_id = ?1";
const ADD_LETTER: &str = "
    INSERT INTO dead_letters (project_id, batch_id, received_at, event_index, event_count, sqlstate, code, reason,
                              payload, worker_version, attempted_at)
    SELECT project_id, batch_id, received_at, ?3, 1, ?4, ?5, ?6, ?7, worker_version, ?2
      FROM dead_letters WHERE dead_letter_id = ?1";
/// The ledger row of the batch. Of several rows with one batch id and receive time, the first with enough
/// dead events.
const CORRECT_LEDGER: &str = "
    UPDATE batches SET stored = stored + ?4, redriven = redriven + ?4, duplicate = duplicate + ?5, dead = dead - ?4 - ?5,
           conflict = conflict + ?6
     WHERE (batch_id, received_at, entry_seq, shard) = (
               SELECT batch_id, received_at, entry_seq, shard FROM batches
                WHERE batch_id = ?1 AND received_at = ?2 AND project_id = ?3 AND dead >= ?4 + ?5
                ORDER BY entry_seq, shard LIMIT 1)";
const CORRECT_USAGE: &str = "
    UPDATE usage_hourly
       SET events = events + ?3, redriven = redriven + ?3, duplicates = duplicates + ?4, dead = dead - ?3 - ?4,
           bytes = bytes + ?5, conflicts = conflicts + ?6
     WHERE project_id = ?1 AND hour = ?2";
const ADD_CONFLICTS: &str = "
    INSERT INTO rejections_hourly AS r (project_id, hour, kind, code, count)
    VALUES (?1, ?2, 'conflict', 'conflict', ?3)
    ON CONFLICT (project_id, hour, kind, code) DO UPDATE SET count = r.count + excluded.count";
const REDRIVES: &str = "
    SELECT redrive_id, os_user, host, filter, started_at, letters, stored, duplicate, refused
      FROM redrives ORDER BY started_at DESC, redrive_id DESC LIMIT ?1";

/// Redrives those letters that are not redriven yet.
pub(super) fn redrive(
    connection: &mut Connection,
    order: &RedriveOrder,
    ids: &[i64],
) -> Result<RedriveResult, StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let letters = letters(&transaction, ids)?;
    if letters.is_empty() {
        return Ok(RedriveResult::default());
    }
    let RedriveOrder { id, os_user, host, filter } = order;
    transaction.execute(BEGIN_ORDER, params![id.as_bytes(), os_user, host, filter])?;
    let corrections = redrive_letters(&transaction, *id, &letters)?;
    let mut metered = MeterTally::default();
    let known = MeterDefinitions::default().current(&transaction)?;
    corrections.add_to_meters(&known.set, &mut metered);
    meters::add(&transaction, &metered)?;
    correct(&transaction, *id, &corrections)?;
    transaction.commit()?;
    Ok(corrections.result)
}

fn redrive_letters(
    transaction: &Transaction<'_>,
    order: Uuid,
    letters: &[Letter],
) -> Result<Corrections, Error> {
    let (events, corrections) = (EventTable::prepare(transaction)?, Corrections::default());
    let mut redrive = RedriveTransaction { transaction, events, order, now_us: now_us(), corrections };
    for letter in letters {
        redrive.redrive_letter(letter)?;
    }
    Ok(redrive.corrections)
}

fn letters(transaction: &Transaction<'_>, ids: &[i64]) -> Result<Vec<Letter>, Error> {
    let letter = |row: &SqlRow<'_>| {
        Ok(Letter {
            id: row.get(0)?,
            project: ProjectId(row.get(1)?),
            batch_id: Uuid::from_bytes(row.get(2)?),
            received_us: row.get(3)?,
            event_index: row.get(4)?,
            event_count: row.get::<_, i64>(5)?.unsigned_abs(),
            payload: row.get(6)?,
            code: row.get(7)?,
        })
    };
    let mut statement = transaction.prepare_cached(LETTERS)?;
    let rows = statement.query_map([numbers(ids)], letter)?;
    rows.collect()
}

struct RedriveTransaction<'t> {
    transaction: &'t Transaction<'t>,
    events: EventTable<'t>,
    order: Uuid,
    now_us: i64,
    corrections: Corrections,
}

impl RedriveTransaction<'_> {
    fn redrive_letter(&mut self, letter: &Letter) -> Result<(), Error> {
        let Ok(payload) = letter.rows() else {
            self.corrections.add_unreadable(letter);
            self.transaction.prepare_cached(MARK_UNREADABLE)?.execute([letter.id, self.now_us])?;
            return Ok(());
        };
        let rows: Vec<&[u8]> = row::split(&payload).map_while(Result::ok).collect();
        let outcomes: Vec<_> =
            rows.iter().map(|row| self.store(row, letter.received_us)).collect::<Result<_, _>>()?;
        match self.corrections.add(letter, &rows, &outcomes) {
            LetterOutcome::Dead(rejection) => {
                let mut mark = self.transaction.prepare_cached(MARK_REJECTED)?;
                mark.execute(params![letter.id, self.now_us, rejection.sqlstate(), rejection.reason])?;
            }
            LetterOutcome::Redriven(rejected) => {
                for (index, rejection) in rejected {
                    let mut add = self.transaction.prepare_cached(ADD_LETTER)?;
                    add.execute(params![
                        letter.id,
                        self.now_us,
                        index as i64,
                        rejection.sqlstate(),
                        rejection.code(),
                        rejection.reason,
                        payload_of_rejected(rows[index]),
                    ])?;
                }
                let mut mark = self.transaction.prepare_cached(MARK_REDRIVEN)?;
                mark.execute(params![letter.id, self.now_us, self.order.as_bytes()])?;
            }
        }
        Ok(())
    }

    fn store(&mut self, row: &[u8], received_us: i64) -> Result<RowOutcome, Error> {
        if let Some(rejection) = rejection_of_call(row) {
            return Ok(RowOutcome::Rejected(rejection));
        }
        match Row::read(row) {
            // An id is remembered from now on, not from the time of receipt: other letters with this id may
            // be redriven soon.
            Ok(event) => Ok(match self.events.store(&event, received_us, self.now_us, true)? {
                Insertion::Stored => RowOutcome::Stored,
                Insertion::Duplicate { difference } => {
                    RowOutcome::Duplicate { is_conflict: difference.is_some() }
                }
            }),
            Err(error) => Ok(RowOutcome::Rejected(DeadReason::by_database(NOT_TEXT, error.to_string()))),
        }
    }
}

fn correct(transaction: &Transaction<'_>, order: Uuid, corrections: &Corrections) -> Result<(), StoreError> {
    let RedriveResult { letters, stored, duplicate, refused } = corrections.result;
    let sums = params![order.as_bytes(), letters as i64, stored as i64, duplicate as i64, refused as i64];
    transaction.execute(ADD_TO_ORDER, sums)?;
    let watermark = "SELECT first_time FROM ledger_watermark";
    let ledger_begins_us: i64 = transaction.query_row(watermark, [], |row| row.get(0))?;
    for ((batch_id, received_us, project), correction) in &corrections.ledger {
        let mut correct = transaction.prepare_cached(CORRECT_LEDGER)?;
        let Correction { stored, duplicate, conflict, .. } = *correction;
        let corrected = correct.execute(params![
            batch_id.as_bytes(),
            received_us,
            project,
            stored,
            duplicate,
            conflict
        ])?;
        if corrected == 0 && *received_us >= ledger_begins_us {
            return Err(counts_differ("the ledger"));
        }
    }
    for ((project, hour_us), correction) in &corrections.usage {
        let mut correct = transaction.prepare_cached(CORRECT_USAGE)?;
        let Correction { stored, duplicate, conflict, bytes } = *correction;
        if conflict > 0 {
            transaction.prepare_cached(ADD_CONFLICTS)?.execute([*project, *hour_us, conflict])?;
        }
        if correct.execute([*project, *hour_us, stored, duplicate, bytes, conflict])? == 0 {
            return Err(counts_differ("usage"));
        }
    }
    Ok(())
}

/// The latest redrives, newest first.
pub(super) fn redrives(connection: &Connection, limit: u32) -> Result<Vec<RedriveRecord>, StoreError> {
    let record = |row: &SqlRow<'_>| {
        let count = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
        Ok(RedriveRecord {
            order: RedriveOrder {
                id: Uuid::from_bytes(row.get(0)?),
                os_user: row.get(1)?,
                host: row.get(2)?,
                filter: row.get(3)?,
            },
            started_at: moment(row.get(4)?),
            redriven: RedriveResult {
                letters: count(5)?,
                stored: count(6)?,
                duplicate: count(7)?,
                refused: count(8)?,
            },
        })
    };
    let mut statement = connection.prepare_cached(REDRIVES)?;
    let rows = statement.query_map([limit], record)?;
    Ok(rows.collect::<Result<_, _>>()?)
}
