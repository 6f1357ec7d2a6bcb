//! A lane's writer: stores entries in events, ledger, usage and dead letters, in one transaction, exactly
//! once.
//!
//! There is only one write at a time, so a transaction runs forward without retries: each entry is looked up
//! in the ledger, and an entry found there changes nothing. Each event of the others is inserted, or is a
//! duplicate.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use rusqlite::{Connection, Error, Transaction, TransactionBehavior, params};

use super::clock::HOUR_US;
use super::database::Database;
use super::epochs;
use super::error::{CONNECTION, NO_TIME, NOT_TEXT};
use super::events::{EventTable, Insertion};
use super::ledger::{Ledger, LedgerMatch};
use super::meters::{KnownMeters, MeterDefinitions};
use super::{limits, lost, thresholds};
use crate::ledger::LedgerKey;
use crate::letters::NewLetter;
use crate::limit_tally::{LimitTally, refunding};
use crate::metrics::{self, Phase};
use crate::rejection_tally::RejectionTally;
use crate::rejections::SAMPLES_KEPT;
use crate::{Payload, RequestCharges, RequestRefunds, WriteError, WriteOutcome, WriteRequest, Writer};
use millrace_event::meter::MeterTally;
use millrace_event::row::{self, EventTime, Row};
use millrace_event::undeliverable::UndeliverableCall;
use millrace_event::{EntryId, Epoch, Outcome};
use millrace_failpoint::{self as failpoint, Point};

const ADD_LETTER: &str = "
    INSERT INTO dead_letters
           (project_id, batch_id, received_at, event_index, event_count, sqlstate, code, reason, payload, worker_version)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
const ADD_REFUSALS: &str = "
    INSERT INTO rejections_hourly AS r (project_id, hour, kind, code, count) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (project_id, hour, kind, code) DO UPDATE SET count = r.count + excluded.count";
const ADD_SAMPLE: &str = "
    INSERT INTO rejection_samples (project_id, at, kind, code, message, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
/// Deletes all but the newest samples of a project and kind.
const REMOVE_SAMPLES: &str = "
    DELETE FROM rejection_samples WHERE sample_id IN (
        SELECT sample_id FROM rejection_samples WHERE project_id = ?1 AND kind = ?2
         ORDER BY sample_id DESC LIMIT -1 OFFSET ?3)";
const ADD_USAGE: &str = "
    INSERT INTO usage_hourly AS u (project_id, hour, events, bytes, duplicates, dead, conflicts)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
    ON CONFLICT (project_id, hour) DO UPDATE
       SET events = u.events + excluded.events, bytes = u.bytes + excluded.bytes,
           duplicates = u.duplicates + excluded.duplicates, dead = u.dead + excluded.dead,
           conflicts = u.conflicts + excluded.conflicts";

pub(super) struct SqliteWriter {
    database: Arc<Database>,
    /// The epoch that a shard must have.
    required: Option<(u16, Epoch)>,
    /// The definitions of meters that were read last.
    meters: MeterDefinitions,
    /// A write did not end.
    busy: bool,
}

impl SqliteWriter {
    pub(super) fn new(database: Arc<Database>) -> Self {
        Self { database, required: None, meters: MeterDefinitions::default(), busy: false }
    }
}

#[async_trait]
impl Writer for SqliteWriter {
    fn require_epoch(&mut self, shard: u16, epoch: Epoch) {
        self.required = Some((shard, epoch));
    }

    async fn write_charged(
        &mut self,
        requests: &[WriteRequest],
        charges: &RequestCharges,
    ) -> Result<(Vec<WriteOutcome>, RequestRefunds), WriteError> {
        if self.busy {
            return Err(environment(
                CONNECTION,
                "an earlier write of this writer did not end; open a new writer",
            ));
        }
        if requests.is_empty() {
            return Ok((Vec::new(), RequestRefunds::new()));
        }
        // Stays true after an error and when this future is dropped: the result of the write is unknown then.
        self.busy = true;
        // Rows are shared, not copied.
        let (requests, charges) = (requests.to_vec(), charges.clone());
        let (began, required, meters) = (Instant::now(), self.required, self.meters.clone());
        let write = move |connection: &mut Connection| {
            let outcomes = write(connection, &requests, &charges, required, &meters, began)?;
            let refunds = limits::refunds(connection, &refunding(&requests, &outcomes, &charges))?;
            Ok::<_, WriteError>((outcomes, refunds))
        };
        let written = self.database.write(write).await?;
        self.busy = false;
        Ok(written)
    }
}

fn write(
    connection: &mut Connection,
    requests: &[WriteRequest],
    charges: &RequestCharges,
    required: Option<(u16, Epoch)>,
    meters: &MeterDefinitions,
    began: Instant,
) -> Result<Vec<WriteOutcome>, WriteError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if let Some((shard, epoch)) = required
        && epochs::recorded(&transaction, shard)? != Some(epoch)
    {
        return Err(WriteError::EpochReplaced { shard });
    }
    let mut write = WriteTransaction::begin(&transaction, meters.current(&transaction)?)?;
    let mut written = Vec::with_capacity(requests.len());
    let mut limited = LimitTally::default();
    for (index, request) in requests.iter().enumerate() {
        let charges = charges.get(&index);
        write.stored = charges.map(|_| Vec::new());
        let outcome = write.write(request)?;
        if let (Some(charges), Some(stored), false) = (charges, &write.stored, outcome.redelivered) {
            limited.add(request, charges, |event| stored.binary_search(&event).is_ok());
        }
        written.push(outcome);
    }
    failpoint::reach(Point::AfterLedger);
    if write.any_letters {
        failpoint::reach(Point::DeadLetterWritten);
    }
    let (usage, refusals) = (std::mem::take(&mut write.usage), std::mem::take(&mut write.refusals));
    let (metered, meters) = (std::mem::take(&mut write.metered), Arc::clone(&write.meters));
    drop(write);
    super::meters::add(&transaction, &metered)?;
    limits::add(&transaction, &limited)?;
    thresholds::compare_limits(&transaction, &meters.watched_limits, &limited)?;
    add_refusals(&transaction, &refusals)?;
    add_usage(&transaction, &usage)?;
    thresholds::compare_quotas(&transaction, &meters.watched, usage.keys())?;
    advance_positions(&transaction, requests)?;
    failpoint::reach(Point::BeforeCommit);
    let ready = Instant::now();
    transaction.commit()?;
    metrics::lane_phase(Phase::Copy, ready - began);
    metrics::lane_phase(Phase::Commit, ready.elapsed());
    failpoint::reach(Point::AfterCommit);
    refusals.log_dead();
    Ok(written)
}

/// Counts what the transaction refuses, and replaces the oldest samples.
fn add_refusals(connection: &Connection, refusals: &RejectionTally<'_>) -> Result<(), Error> {
    for (&(project, hour_us, kind, code), count) in &refusals.counts {
        let mut add = connection.prepare_cached(ADD_REFUSALS)?;
        add.execute(params![project, hour_us, <&str>::from(kind), code, count])?;
    }
    for (&(project, kind), samples) in &refusals.samples {
        let kind = <&str>::from(kind);
        for sample in samples {
            let mut add = connection.prepare_cached(ADD_SAMPLE)?;
            let (at, code, message) = (sample.received_us, sample.code, &sample.message);
            add.execute(params![project, at, kind, code, message, sample.payload()])?;
        }
        connection.prepare_cached(REMOVE_SAMPLES)?.execute(params![
            project,
            kind,
            i64::from(SAMPLES_KEPT)
        ])?;
    }
    Ok(())
}

fn add_usage(connection: &Connection, usage: &BTreeMap<(i64, i64), Usage>) -> Result<(), Error> {
    let mut add = connection.prepare_cached(ADD_USAGE)?;
    for ((project, hour_us), sum) in usage {
        let Usage { events, bytes, duplicates, dead, conflicts } = sum;
        add.execute(params![project, hour_us, events, bytes, duplicates, dead, conflicts])?;
    }
    Ok(())
}

/// Records how far each shard is written.
fn advance_positions(connection: &Connection, requests: &[WriteRequest]) -> Result<(), Error> {
    let mut highest = BTreeMap::<u16, EntryId>::new();
    for request in requests {
        let position = highest.entry(request.shard).or_default();
        *position = (*position).max(request.entry);
    }
    highest.into_iter().try_for_each(|(shard, entry)| lost::advance(connection, shard, entry))
}

/// Amounts to add to a row of `usage_hourly`.
#[derive(Default)]
struct Usage {
    events: i64,
    bytes: i64,
    duplicates: i64,
    dead: i64,
    conflicts: i64,
}

/// An entry that is not in the ledger.
struct Entry<'a> {
    request: &'a WriteRequest,
    ledger: LedgerKey,
    /// The batch was written before. A row that only its batch identifies is then a repetition. A row with
    /// its own id or time can be new: a client may use a key for something else, long after.
    is_reused_key: bool,
}

struct WriteTransaction<'t, 'r> {
    transaction: &'t Transaction<'t>,
    ledger: Ledger<'t>,
    events: EventTable<'t>,
    /// Earlier days of the ledger are retired.
    ledger_begins_us: i64,
    usage: BTreeMap<(i64, i64), Usage>,
    refusals: RejectionTally<'r>,
    meters: Arc<KnownMeters>,
    metered: MeterTally,
    any_letters: bool,
    /// The places of the stored events of the entry that is written, in order. `None` when it was not charged
    /// to limits.
    stored: Option<Vec<u32>>,
}

impl<'t, 'r> WriteTransaction<'t, 'r> {
    fn begin(transaction: &'t Transaction<'t>, meters: Arc<KnownMeters>) -> Result<Self, Error> {
        let watermark = "SELECT first_time FROM ledger_watermark";
        Ok(Self {
            transaction,
            ledger: Ledger::prepare(transaction)?,
            events: EventTable::prepare(transaction)?,
            ledger_begins_us: transaction.prepare_cached(watermark)?.query_row([], |row| row.get(0))?,
            usage: BTreeMap::new(),
            refusals: RejectionTally::default(),
            meters,
            metered: MeterTally::default(),
            any_letters: false,
            stored: None,
        })
    }

    fn write(&mut self, request: &'r WriteRequest) -> Result<WriteOutcome, WriteError> {
        let first = LedgerKey::new(request.batch_id, request.entry, request.shard).ok_or_else(|| {
            environment(NO_TIME, &format!("the receive time of entry {} is out of range", request.entry))
        })?;
        let (ledger, is_reused_key) = match self.ledger.look_up(first)? {
            LedgerMatch::Entry(outcome) => return Ok(WriteOutcome { outcome, redelivered: true }),
            LedgerMatch::None(key) => (key, false),
            LedgerMatch::Batch(key) => (key, true),
        };
        if ledger.received_us < self.ledger_begins_us {
            return Err(WriteError::LedgerRetired);
        }
        let entry = Entry { request, ledger, is_reused_key };
        let (outcome, bytes) = match &request.payload {
            Payload::DeadLetter { reason, raw } => (self.dead_letter(&entry, Cow::Borrowed(reason), raw)?, 0),
            Payload::Rows(rows) => match whole_rows(rows, request.count) {
                Ok(rows) => self.store_rows(&entry, &rows)?,
                Err(reason) => (self.dead_letter(&entry, Cow::Owned(reason), rows)?, 0),
            },
        };
        self.ledger.insert(&entry.ledger, request.project, request.count, outcome)?;
        self.add_usage(&entry, outcome, bytes);
        Ok(WriteOutcome { outcome, redelivered: false })
    }

    /// Returns the outcome and the size of the stored rows.
    fn store_rows(&mut self, entry: &Entry<'r>, rows: &[&'r [u8]]) -> Result<(Outcome, i64), Error> {
        let (mut outcome, mut bytes) = (Outcome::default(), 0);
        let received_us = entry.ledger.received_us;
        for (index, &row) in rows.iter().enumerate() {
            let time = row::time(row);
            if entry.is_reused_key && matches!(time, EventTime::Anonymous | EventTime::Undeliverable) {
                outcome.duplicate += 1;
                continue;
            }
            if let Some(UndeliverableCall { code, message, call, .. }) = UndeliverableCall::read(row) {
                outcome.dead += 1;
                let letter = entry.letter(Some(index), Cow::Borrowed(message), call);
                self.add_letter(&NewLetter { code: Some(code), ..letter })?;
                continue;
            }
            let event = match Row::read(row) {
                Ok(event) => event,
                Err(error) => {
                    outcome.dead += 1;
                    let letter = entry.letter(Some(index), Cow::Owned(error.to_string()), row);
                    self.add_letter(&NewLetter { sqlstate: Some(NOT_TEXT), ..letter })?;
                    continue;
                }
            };
            match self.events.store(&event, received_us, received_us, false)? {
                Insertion::Stored => {
                    outcome.stored += 1;
                    bytes += row.len() as i64;
                    if let Some(stored) = &mut self.stored {
                        stored.push(u32::try_from(index).expect("rows of one entry fit 32 bits"));
                    }
                    let timestamp_us = row::key(row, received_us).timestamp_us;
                    self.metered.add(&self.meters.set, &event, timestamp_us, received_us);
                }
                Insertion::Duplicate { difference } => {
                    outcome.duplicate += 1;
                    if let (Some(difference), false) = (difference, time == EventTime::Anonymous) {
                        outcome.conflict += 1;
                        self.refusals.add_conflict(row, received_us, difference);
                    }
                }
            }
        }
        Ok((outcome, bytes))
    }

    fn dead_letter(
        &mut self,
        entry: &Entry<'r>,
        reason: Cow<'r, str>,
        raw: &'r [u8],
    ) -> Result<Outcome, Error> {
        let count = entry.request.count;
        if entry.is_reused_key {
            // The dead letter of a batch that was written before already exists.
            return Ok(Outcome { duplicate: count, ..Outcome::default() });
        }
        self.add_letter(&NewLetter { event_count: count, ..entry.letter(None, reason, raw) })?;
        Ok(Outcome { dead: count, ..Outcome::default() })
    }

    fn add_letter(&mut self, letter: &NewLetter<'r>) -> Result<(), Error> {
        self.any_letters = true;
        self.refusals.add_letter(letter);
        self.transaction.prepare_cached(ADD_LETTER)?.execute(params![
            letter.project.0,
            letter.batch_id.as_bytes(),
            letter.received_us,
            letter.event_index,
            letter.event_count,
            letter.sqlstate,
            letter.code,
            letter.reason,
            letter.payload,
            env!("CARGO_PKG_VERSION"),
        ])?;
        Ok(())
    }

    fn add_usage(&mut self, entry: &Entry<'_>, outcome: Outcome, bytes: i64) {
        let hour_us = entry.ledger.received_us.div_euclid(HOUR_US) * HOUR_US;
        let sum = self.usage.entry((entry.request.project.0, hour_us)).or_default();
        sum.events += i64::from(outcome.stored);
        sum.bytes += bytes;
        sum.duplicates += i64::from(outcome.duplicate);
        sum.dead += i64::from(outcome.dead);
        sum.conflicts += i64::from(outcome.conflict);
    }
}

impl<'r> Entry<'r> {
    /// A letter of one event, with the columns that follow from the entry.
    fn letter(&self, index: Option<usize>, reason: Cow<'r, str>, payload: &'r [u8]) -> NewLetter<'r> {
        NewLetter {
            project: self.request.project,
            batch_id: self.ledger.batch_id,
            received_us: self.ledger.received_us,
            event_index: index.map(|index| u32::try_from(index).expect("rows of one entry fit 32 bits")),
            event_count: 1,
            sqlstate: None,
            code: None,
            reason,
            payload,
        }
    }
}

/// The rows of an entry, if there are `count` of them. Unpacking the entry has checked this. Storing some
/// rows and counting others would be worse.
fn whole_rows(rows: &[u8], count: u32) -> Result<Vec<&[u8]>, String> {
    let whole: Vec<_> = row::split(rows).map_while(Result::ok).collect();
    if whole.len() == count as usize {
        return Ok(whole);
    }
    Err(format!("the entry has {} whole rows instead of {count}", whole.len()))
}

fn environment(sqlstate: &str, message: &str) -> WriteError {
    WriteError::Environment { sqlstate: sqlstate.to_owned(), message: message.to_owned() }
}
