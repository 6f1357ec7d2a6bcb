//! A lane's writer: entries into events, ledger, usage and dead letters, in one transaction, once.
//!
//! Whoever writes is alone, so nothing can be lost against anybody and each event is judged when its turn comes: what
//! the key of `events` (or `undated_ids`) refuses is a duplicate. The ledger is asked first, and an entry that it knows
//! changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{CachedStatement, Connection, Error, ToSql, Transaction, TransactionBehavior, params};

use super::clock::HOUR_US;
use super::database::Database;
use super::error::{NOT_TEXT, no_time, too_late, writer_is_spent};
use super::ledger::{Known, Ledger};
use crate::ledger::LedgerKey;
use crate::metrics::{self, Phase};
use crate::{Payload, WriteError, WriteOutcome, WriteRequest, Writer};
use millrace_event::Outcome;
use millrace_event::row::{self, EventTime, Row};
use millrace_failpoint::{self as failpoint, Point};

const ADD_EVENT: &str = "
    INSERT INTO events (project_id, timestamp, event_id, received_at, name, subject, client_id, properties, context)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING";
const CLAIM_UNDATED: &str = "
    INSERT INTO undated_ids (project_id, event_id, timestamp) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
const ADD_LETTER: &str = "
    INSERT INTO dead_letters
           (project_id, batch_id, received_at, event_index, event_count, sqlstate, reason, payload, worker_version)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const ADD_USAGE: &str = "
    INSERT INTO usage_hourly AS u (project_id, hour, events, bytes, duplicates, dead) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (project_id, hour) DO UPDATE
       SET events = u.events + excluded.events, bytes = u.bytes + excluded.bytes,
           duplicates = u.duplicates + excluded.duplicates, dead = u.dead + excluded.dead";

/// One lane's way to the file.
pub(super) struct SqliteWriter {
    database: Arc<Database>,
    busy: bool,
}

impl SqliteWriter {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database, busy: false }
    }
}

#[async_trait]
impl Writer for SqliteWriter {
    async fn write(&mut self, works: &[WriteRequest]) -> Result<Vec<WriteOutcome>, WriteError> {
        if self.busy {
            return Err(writer_is_spent());
        }
        if works.is_empty() {
            return Ok(Vec::new());
        }
        // Stays so after an error and when this future is dropped: what became of the write is then not known.
        self.busy = true;
        // Rows are shared, not copied.
        let works = works.to_vec();
        let began = Instant::now();
        let written = self.database.write(move |connection| write(connection, &works, began)).await?;
        self.busy = false;
        Ok(written)
    }
}

fn write(
    connection: &mut Connection,
    works: &[WriteRequest],
    began: Instant,
) -> Result<Vec<WriteOutcome>, WriteError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut page = Page::new(&transaction)?;
    let written = works.iter().map(|work| page.write(work)).collect::<Result<_, _>>()?;
    failpoint::reach(Point::AfterLedger);
    if page.any_letters {
        failpoint::reach(Point::DeadLetterWritten);
    }
    let usage = std::mem::take(&mut page.usage);
    drop(page);
    add_usage(&transaction, &usage)?;
    failpoint::reach(Point::BeforeCommit);
    let ready = Instant::now();
    transaction.commit()?;
    metrics::lane_phase(Phase::Copy, ready - began);
    metrics::lane_phase(Phase::Commit, ready.elapsed());
    failpoint::reach(Point::AfterCommit);
    Ok(written)
}

fn add_usage(connection: &Connection, usage: &BTreeMap<(i64, i64), Usage>) -> Result<(), Error> {
    let mut add = connection.prepare_cached(ADD_USAGE)?;
    for ((project, hour_us), sum) in usage {
        let Usage { events, bytes, duplicates, dead } = sum;
        add.execute(params![project, hour_us, events, bytes, duplicates, dead])?;
    }
    Ok(())
}

/// One row of `usage_hourly` to be added.
#[derive(Default)]
struct Usage {
    events: i64,
    bytes: i64,
    duplicates: i64,
    dead: i64,
}

/// An entry that the ledger does not know.
struct Entry<'a> {
    work: &'a WriteRequest,
    ledger: LedgerKey,
    /// Its batch was written before. A row that nothing but its batch tells apart is then a repetition; one with an id or
    /// a time of its own need not be: a client may have used its key for something else, long after.
    is_repeated: bool,
}

/// A transaction that is being filled.
struct Page<'t> {
    transaction: &'t Transaction<'t>,
    ledger: Ledger<'t>,
    events: EventTable<'t>,
    /// What was received before is retired from the ledger.
    ledger_begins_us: i64,
    usage: BTreeMap<(i64, i64), Usage>,
    any_letters: bool,
}

impl<'t> Page<'t> {
    fn new(transaction: &'t Transaction<'t>) -> Result<Self, Error> {
        let watermark = "SELECT first_time FROM ledger_watermark";
        Ok(Self {
            transaction,
            ledger: Ledger::of(transaction)?,
            events: EventTable::of(transaction)?,
            ledger_begins_us: transaction.prepare_cached(watermark)?.query_row([], |row| row.get(0))?,
            usage: BTreeMap::new(),
            any_letters: false,
        })
    }

    fn write(&mut self, work: &WriteRequest) -> Result<WriteOutcome, WriteError> {
        let first =
            LedgerKey::new(work.batch_id, work.entry, work.shard).ok_or_else(|| no_time(work.entry))?;
        let (ledger, is_repeated) = match self.ledger.look_up(first)? {
            Known::Entry(outcome) => return Ok(WriteOutcome { outcome, redelivered: true }),
            Known::Nothing(key) => (key, false),
            Known::Batch(key) => (key, true),
        };
        if ledger.received_us < self.ledger_begins_us {
            return Err(too_late());
        }
        let entry = Entry { work, ledger, is_repeated };
        let (outcome, bytes) = match &work.body {
            Payload::DeadLetter { reason, raw } => (self.bury_entry(&entry, reason, raw)?, 0),
            Payload::Rows(rows) => match whole_rows(rows, work.count) {
                Ok(rows) => self.store_rows(&entry, &rows)?,
                Err(reason) => (self.bury_entry(&entry, &reason, rows)?, 0),
            },
        };
        self.ledger.enter(&entry.ledger, work.project, work.count, outcome)?;
        self.meter(&entry, outcome, bytes);
        Ok(WriteOutcome { outcome, redelivered: false })
    }

    /// Returns the bytes of the rows stored, too.
    fn store_rows(&mut self, entry: &Entry<'_>, rows: &[&[u8]]) -> Result<(Outcome, i64), Error> {
        let (mut outcome, mut bytes) = (Outcome::default(), 0);
        let received_us = entry.ledger.received_us;
        for (index, row) in rows.iter().enumerate() {
            if entry.is_repeated && row::time(row) == EventTime::Anonymous {
                outcome.duplicate += 1;
                continue;
            }
            match Row::read(row) {
                Ok(event) if self.events.store(&event, received_us, received_us)? => {
                    outcome.stored += 1;
                    bytes += row.len() as i64;
                }
                Ok(_) => outcome.duplicate += 1,
                Err(refused) => {
                    outcome.dead += 1;
                    let reason = refused.to_string();
                    self.add_letter(entry, Some(index), 1, Some(NOT_TEXT), &reason, row)?;
                }
            }
        }
        Ok((outcome, bytes))
    }

    fn bury_entry(&mut self, entry: &Entry<'_>, reason: &str, raw: &[u8]) -> Result<Outcome, Error> {
        let count = entry.work.count;
        if entry.is_repeated {
            // The letter of a batch admitted again was written with the first.
            return Ok(Outcome { duplicate: count, ..Outcome::default() });
        }
        self.add_letter(entry, None, count, None, reason, raw)?;
        Ok(Outcome { dead: count, ..Outcome::default() })
    }

    fn add_letter(
        &mut self,
        entry: &Entry<'_>,
        index: Option<usize>,
        count: u32,
        sqlstate: Option<&str>,
        reason: &str,
        payload: &[u8],
    ) -> Result<(), Error> {
        self.any_letters = true;
        self.transaction.prepare_cached(ADD_LETTER)?.execute(params![
            entry.work.project.0,
            // As the ledger has it, so that it is found from here.
            entry.ledger.batch_id.as_bytes(),
            entry.ledger.received_us,
            index.map(|index| index as i64),
            count,
            sqlstate,
            reason,
            payload,
            env!("CARGO_PKG_VERSION"),
        ])?;
        Ok(())
    }

    fn meter(&mut self, entry: &Entry<'_>, outcome: Outcome, bytes: i64) {
        let hour_us = entry.ledger.received_us.div_euclid(HOUR_US) * HOUR_US;
        let sum = self.usage.entry((entry.work.project.0, hour_us)).or_default();
        sum.events += i64::from(outcome.stored);
        sum.bytes += bytes;
        sum.duplicates += i64::from(outcome.duplicate);
        sum.dead += i64::from(outcome.dead);
    }
}

/// The table of events, with what tells a new one from a repetition.
pub(super) struct EventTable<'c> {
    add: CachedStatement<'c>,
    claim_undated: CachedStatement<'c>,
}

impl<'c> EventTable<'c> {
    pub(super) fn of(connection: &'c Connection) -> Result<Self, Error> {
        Ok(Self {
            add: connection.prepare_cached(ADD_EVENT)?,
            claim_undated: connection.prepare_cached(CLAIM_UNDATED)?,
        })
    }

    /// Returns whether it is new. An undated id is remembered as long as if it had been sent at `claimed_us`.
    pub(super) fn store(
        &mut self,
        event: &Row<'_>,
        received_us: i64,
        claimed_us: i64,
    ) -> Result<bool, Error> {
        let (project, event_id) = (event.project.0, event.event_id.as_bytes());
        let timestamp_us = match event.time {
            EventTime::At(us) => us,
            EventTime::Anonymous => received_us,
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
            event.properties.map(Json),
            event.context.map(Json),
        ])?;
        Ok(added == 1)
    }
}

/// The rows of an entry, if they are as many as were promised. Whoever unpacked the entry has checked this; to store some
/// rows and count others would be worse.
fn whole_rows(rows: &[u8], promised: u32) -> Result<Vec<&[u8]>, String> {
    let whole: Vec<_> = row::split(rows).map_while(Result::ok).collect();
    if whole.len() == promised as usize {
        return Ok(whole);
    }
    Err(format!("{} whole rows, {promised} promised", whole.len()))
}

/// JSON as a row has it, bound as text without being looked at again.
struct Json<'a>(&'a [u8]);

impl ToSql for Json<'_> {
    fn to_sql(&self) -> Result<ToSqlOutput<'_>, Error> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0)))
    }
}
