//! Redrives dead letters in one transaction: the events, their letters, ledger, usage, and the audit row.
//!
//! Workers keep writing meanwhile. The letters are locked, so two redrives cannot store the same letter. If a
//! worker is writing the same event, the redrive waits; after the worker's commit, the event is a duplicate.
//! As in `write`, usage comes last.

use deadpool_postgres::{Client, Transaction};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Statement};

use super::add_event::{ADD_EVENT, add_event};
use super::copy::Instant;
use super::distribution;
use super::error::{Cause, EventsCause, Failure, cause, cause_in_events};
use super::meters;
use crate::dead_reason::DeadReason;
use crate::payload::PayloadDigest;
use crate::redrive::{
    Correction, Corrections, Letter, LetterOutcome, RowOutcome, counts_differ, payload_of_rejected,
    rejection_of_call,
};
use crate::{RedriveOrder, RedriveResult, StoreError};
use millrace_event::plan::ProjectId;
use millrace_event::row::{self, EventTime, Row};
use millrace_event::{BatchGroup, BatchId};

/// Attempts at a transaction that other transactions win against.
const ATTEMPTS_MAX: u32 = 5;
/// SQLSTATE of a text that is not UTF-8.
const NOT_TEXT: &str = "22021";
/// Longer than those of the pool: the transaction may wait for a worker that writes the same event.
const SETTINGS: &str =
    "SET LOCAL lock_timeout = '30s'; SET LOCAL statement_timeout = '60s'; SET LOCAL enable_seqscan = off";

const BEGIN_ORDER: &str = "
    INSERT INTO redrives (redrive_id, os_user, host, filter) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
const ADD_TO_ORDER: &str = "
    UPDATE redrives SET letters = letters + $2, stored = stored + $3, duplicate = duplicate + $4, refused = refused + $5
     WHERE redrive_id = $1";
const LOCK_LETTERS: &str = "
    SELECT dead_letter_id, project_id, batch_id, received_at, event_index, event_count, payload, code
      FROM dead_letters WHERE dead_letter_id = ANY ($1) AND redriven_at IS NULL ORDER BY dead_letter_id FOR UPDATE";
/// The id is remembered from now on, not from the time of receipt: other letters with this id may be redriven
/// soon. It is kept as long as the ledger.
const CLAIM_ID: &str = "
    INSERT INTO undated_ids (project_id, event_id, timestamp, received_at) VALUES ($1, $2, $3, now())
    ON CONFLICT DO NOTHING";
const KEEP_CLAIM: &str = "
    UPDATE undated_ids SET received_at = now()
     WHERE project_id = $1 AND event_id = $2 AND received_at IS NULL";
const MARK_REDRIVEN: &str =
    "UPDATE dead_letters SET redriven_at = now(), redrive_id = $2 WHERE dead_letter_id = $1";
const MARK_REJECTED: &str = "
    UPDATE dead_letters SET attempted_at = now(), sqlstate = $2, reason = $3 WHERE dead_letter_id = $1";
const MARK_UNREADABLE: &str = "UPDATE dead_letters SET attempted_at = now() WHERE dead_letter_id = $1";
const ADD_LETTER: &str = "
    INSERT INTO dead_letters (project_id, batch_id, received_at, event_index, event_count, sqlstate, code, reason,
                              payload, worker_version, attempted_at)
    SELECT project_id, batch_id, received_at, $2, 1, $3, $4, $5, $6, worker_version, now()
      FROM dead_letters WHERE dead_letter_id = $1";
/// The ledger row of the batch, or its place in the row for its group. Of several rows with one batch id and
/// receive time, the first with enough dead events.
const CORRECT_LEDGER: &str = "
    UPDATE batches SET stored = stored + $4, redriven = redriven + $4, duplicate = duplicate + $5, dead = dead - $4 - $5,
           conflict = conflict + $6
     WHERE (batch_id, received_at, entry_seq, shard) = (
               SELECT batch_id, received_at, entry_seq, shard FROM batches
                WHERE batch_id = $1 AND received_at = $2 AND project_id = $3 AND dead >= $4::bigint + $5::bigint
                ORDER BY entry_seq, shard LIMIT 1)";
const CORRECT_GROUP: &str = "
    UPDATE batches SET stored = stored + $4, redriven = redriven + $4, duplicate = duplicate + $5, dead = dead - $4 - $5,
           conflict = conflict + $6,
           group_redriven[array_position(group_places, $7)] = group_redriven[array_position(group_places, $7)] + $4,
           group_duplicate[array_position(group_places, $7)] = group_duplicate[array_position(group_places, $7)] + $5,
           group_dead[array_position(group_places, $7)] = group_dead[array_position(group_places, $7)] - $4 - $5,
           group_conflict[array_position(group_places, $7)] = group_conflict[array_position(group_places, $7)] + $6
     WHERE (batch_id, received_at, entry_seq, shard) = (
               SELECT batch_id, received_at, entry_seq, shard FROM batches
                WHERE batch_id = $1 AND received_at = $2 AND group_projects[array_position(group_places, $7)] = $3
                  AND group_dead[array_position(group_places, $7)] >= $4::bigint + $5::bigint
                ORDER BY entry_seq, shard LIMIT 1)";
const IS_RETIRED: &str = "SELECT $1 < first_day::timestamp AT TIME ZONE 'UTC' FROM ledger_watermark";
const CORRECT_USAGE: &str = "
    UPDATE usage_hourly
       SET events = events + $3, redriven = redriven + $3, duplicates = duplicates + $4, dead = dead - $3 - $4,
           bytes = bytes + $5, conflicts = conflicts + $6
     WHERE project_id = $1 AND hour = $2";
const ADD_CONFLICTS: &str = "
    INSERT INTO rejections_hourly AS r (project_id, hour, kind, code, count)
    VALUES ($1, $2, 'conflict', 'conflict', $3)
    ON CONFLICT (project_id, hour, kind, code) DO UPDATE SET count = r.count + excluded.count";
const CLAIMED: &str = "SELECT timestamp FROM undated_ids WHERE project_id = $1 AND event_id = $2";
const STORED: &str = "
    SELECT name, subject, properties::text FROM events WHERE project_id = $1 AND timestamp = $2 AND event_id = $3";

/// Why an attempt changed nothing.
enum AttemptError {
    Statement(Cause),
    Counts(StoreError),
}

impl From<Cause> for AttemptError {
    fn from(cause: Cause) -> Self {
        Self::Statement(cause)
    }
}

impl From<Error> for AttemptError {
    fn from(error: Error) -> Self {
        Self::Statement(cause(&error))
    }
}

/// Redrives those letters that are not redriven yet.
pub(super) async fn redrive(
    client: &mut Client,
    order: &RedriveOrder,
    ids: &[i64],
) -> Result<RedriveResult, StoreError> {
    let mut last_race = None;
    for _ in 0..ATTEMPTS_MAX {
        match attempt(client, order, ids).await {
            Ok(redriven) => return Ok(redriven),
            Err(AttemptError::Statement(Cause::Race(failure))) => last_race = Some(failure),
            Err(AttemptError::Statement(cause)) => return Err(unavailable(cause)),
            Err(AttemptError::Counts(error)) => return Err(error),
        }
    }
    Err(unavailable(Cause::Race(last_race.unwrap_or_else(|| Failure::new("40001", "no attempt was made")))))
}

/// The data is not the cause, so a repetition can succeed later.
fn unavailable(cause: Cause) -> StoreError {
    match cause {
        Cause::Environment(failure) | Cause::Race(failure) | Cause::NoPartition(failure) => {
            StoreError::Unavailable(format!("{} ({})", failure.message, failure.sqlstate))
        }
    }
}

async fn attempt(
    client: &mut Client,
    order: &RedriveOrder,
    ids: &[i64],
) -> Result<RedriveResult, AttemptError> {
    let transaction = client.transaction().await?;
    transaction.batch_execute(SETTINGS).await?;
    if distribution::is_distributed(transaction.client()).await? {
        distribution::use_two_phases(transaction.client()).await?;
    }
    let letters = lock(&transaction, ids).await?;
    if letters.is_empty() {
        return Ok(RedriveResult::default());
    }
    let begin: [&(dyn ToSql + Sync); 4] = [&order.id, &order.os_user, &order.host, &order.filter];
    transaction.execute(BEGIN_ORDER, &begin).await?;
    let redrive = RedriveTransaction::prepare(&transaction, order).await?;
    let mut corrections = Corrections::default();
    for letter in &letters {
        redrive.redrive_letter(letter, &mut corrections).await?;
    }
    meters::add_redriven(transaction.client(), &corrections).await.map_err(AttemptError::Counts)?;
    redrive.correct(&corrections).await?;
    transaction.commit().await?;
    Ok(corrections.result)
}

async fn lock(transaction: &Transaction<'_>, ids: &[i64]) -> Result<Vec<Letter>, Error> {
    let rows = transaction.query(LOCK_LETTERS, &[&ids]).await?;
    let letter = |row: &tokio_postgres::Row| Letter {
        id: row.get(0),
        project: ProjectId(row.get(1)),
        batch_id: row.get(2),
        received_us: row.get::<_, Instant>(3).0,
        event_index: row.get::<_, Option<i32>>(4).map(i32::cast_unsigned),
        event_count: row.get::<_, i64>(5).unsigned_abs(),
        payload: row.get(6),
        code: row.get(7),
    };
    Ok(rows.iter().map(letter).collect())
}

struct RedriveTransaction<'t> {
    transaction: &'t Transaction<'t>,
    order: &'t RedriveOrder,
    add_event: Statement,
    claim_id: Statement,
}

impl<'t> RedriveTransaction<'t> {
    async fn prepare(transaction: &'t Transaction<'t>, order: &'t RedriveOrder) -> Result<Self, Error> {
        Ok(Self {
            transaction,
            order,
            add_event: transaction.prepare_cached(ADD_EVENT).await?,
            claim_id: transaction.prepare_cached(CLAIM_ID).await?,
        })
    }

    async fn redrive_letter(
        &self,
        letter: &Letter,
        corrections: &mut Corrections,
    ) -> Result<(), AttemptError> {
        let Ok(payload) = letter.rows() else {
            corrections.add_unreadable(letter);
            self.transaction.execute(MARK_UNREADABLE, &[&letter.id]).await?;
            return Ok(());
        };
        let rows: Vec<&[u8]> = row::split(&payload).map_while(Result::ok).collect();
        let outcomes = self.store(&rows, letter.received_us).await?;
        match corrections.add(letter, &rows, &outcomes) {
            LetterOutcome::Dead(rejection) => {
                let sqlstate = rejection.sqlstate();
                self.transaction.execute(MARK_REJECTED, &[&letter.id, &sqlstate, &rejection.reason]).await?;
            }
            LetterOutcome::Redriven(rejected) => {
                for (index, rejection) in rejected {
                    let event_index = i32::try_from(index).expect("rows of one entry fit 31 bits");
                    let (sqlstate, code) = (rejection.sqlstate(), rejection.code());
                    let payload = payload_of_rejected(rows[index]);
                    self.transaction
                        .execute(
                            ADD_LETTER,
                            &[&letter.id, &event_index, &sqlstate, &code, &rejection.reason, &payload],
                        )
                        .await?;
                }
                self.transaction.execute(MARK_REDRIVEN, &[&letter.id, &self.order.id]).await?;
            }
        }
        Ok(())
    }

    /// Stores the rows of a letter together or, when one of them is rejected, each by itself.
    async fn store(&self, rows: &[&[u8]], received_us: i64) -> Result<Vec<RowOutcome>, AttemptError> {
        if let Ok(outcomes) = self.store_together(rows, received_us).await? {
            return Ok(outcomes);
        }
        let mut outcomes = Vec::with_capacity(rows.len());
        for row in rows {
            match self.store_together(&[row], received_us).await? {
                Ok(outcome) => outcomes.extend(outcome),
                Err(rejection) => outcomes.push(RowOutcome::Rejected(rejection)),
            }
        }
        Ok(outcomes)
    }

    /// Stores all of these rows or none of them, and leaves the transaction usable.
    async fn store_together(
        &self,
        rows: &[&[u8]],
        received_us: i64,
    ) -> Result<Result<Vec<RowOutcome>, DeadReason>, AttemptError> {
        self.transaction.batch_execute("SAVEPOINT letter").await?;
        let mut outcomes = Vec::with_capacity(rows.len());
        for row in rows {
            match self.add_event(row, received_us).await? {
                RowOutcome::Rejected(rejection) => {
                    let undo = "ROLLBACK TO SAVEPOINT letter; RELEASE SAVEPOINT letter";
                    self.transaction.batch_execute(undo).await?;
                    return Ok(Err(rejection));
                }
                outcome => outcomes.push(outcome),
            }
        }
        self.transaction.batch_execute("RELEASE SAVEPOINT letter").await?;
        Ok(Ok(outcomes))
    }

    async fn add_event(&self, row: &[u8], received_us: i64) -> Result<RowOutcome, AttemptError> {
        if let Some(rejection) = rejection_of_call(row) {
            return Ok(RowOutcome::Rejected(rejection));
        }
        let event = match Row::read(row) {
            Ok(event) => event,
            Err(error) => {
                return Ok(RowOutcome::Rejected(DeadReason::by_database(NOT_TEXT, error.to_string())));
            }
        };
        match self.insert(&event, received_us).await {
            Ok(outcome) => Ok(outcome),
            Err(error) => match cause_in_events(&error) {
                EventsCause::Rejected { rejection, .. } => Ok(RowOutcome::Rejected(rejection)),
                EventsCause::Other(cause) => Err(cause.into()),
                // ON CONFLICT DO NOTHING leaves no duplicate to report.
                EventsCause::Duplicate => Err(Cause::Environment(error.into()).into()),
            },
        }
    }

    /// Stores the event, unless it is a duplicate.
    async fn insert(&self, event: &Row<'_>, received_us: i64) -> Result<RowOutcome, Error> {
        let (project, received_at) = (event.project.0, Instant(received_us));
        let (timestamp, claims_id) = match event.time {
            EventTime::At(us) => (Instant(us), event.by_id),
            EventTime::Anonymous | EventTime::Undeliverable => (received_at, false),
            EventTime::Undated => (received_at, true),
        };
        if claims_id {
            let id = event.event_id;
            if self.transaction.execute(&self.claim_id, &[&project, &id, &timestamp]).await? == 0 {
                if event.by_id {
                    self.transaction.execute(KEEP_CLAIM, &[&project, &id]).await?;
                }
                let claimed = self.transaction.query_one(CLAIMED, &[&project, &id]).await?;
                return self.duplicate(event, claimed.get(0)).await;
            }
        }
        let added = add_event(&**self.transaction, &self.add_event, event, received_at).await?;
        if added { Ok(RowOutcome::Stored) } else { self.duplicate(event, timestamp).await }
    }

    /// Compares a duplicate with the event stored at this time, if it is still there.
    async fn duplicate(&self, event: &Row<'_>, timestamp: Instant) -> Result<RowOutcome, Error> {
        let key: [&(dyn ToSql + Sync); 3] = [&event.project.0, &timestamp, &event.event_id];
        let stored = self.transaction.query_opt(STORED, &key).await?.map(|row| {
            let text = |column| row.get::<_, Option<&str>>(column).map(str::as_bytes);
            PayloadDigest::new(text(0).unwrap_or_default(), text(1), text(2))
        });
        let subject = event.subject.map(str::as_bytes);
        let payload = PayloadDigest::new(event.name.as_bytes(), subject, event.properties);
        let is_conflict = stored.is_some_and(|stored| payload.difference(stored).is_some());
        Ok(RowOutcome::Duplicate { is_conflict })
    }

    /// Corrects the audit row, the ledger and, last, usage: every lane needs its rows.
    async fn correct(&self, corrections: &Corrections) -> Result<(), AttemptError> {
        let RedriveResult { letters, stored, duplicate, refused } = corrections.result;
        let [letters, stored, duplicate, refused] =
            [letters, stored, duplicate, refused].map(u64::cast_signed);
        self.transaction
            .execute(ADD_TO_ORDER, &[&self.order.id, &letters, &stored, &duplicate, &refused])
            .await?;
        for ((batch_id, received_us, project), correction) in &corrections.ledger {
            let received_at = Instant(*received_us);
            let corrected = self.correct_ledger(*batch_id, received_at, *project, correction).await?;
            // Queried afterwards: the day may be retired while the correction waits.
            if corrected == 0
                && !self.transaction.query_one(IS_RETIRED, &[&received_at]).await?.get::<_, bool>(0)
            {
                return Err(AttemptError::Counts(counts_differ("the ledger")));
            }
        }
        for ((project, hour_us), correction) in &corrections.usage {
            let hour = Instant(*hour_us);
            if correction.conflict > 0 {
                self.transaction.execute(ADD_CONFLICTS, &[project, &hour, &correction.conflict]).await?;
            }
            let corrected = self
                .transaction
                .execute(
                    CORRECT_USAGE,
                    &[
                        project,
                        &hour,
                        &correction.stored,
                        &correction.duplicate,
                        &correction.bytes,
                        &correction.conflict,
                    ],
                )
                .await?;
            if corrected == 0 {
                return Err(AttemptError::Counts(counts_differ("usage")));
            }
        }
        Ok(())
    }

    /// Returns the number of rows that were corrected.
    async fn correct_ledger(
        &self,
        batch_id: BatchId,
        received_at: Instant,
        project: i64,
        correction: &Correction,
    ) -> Result<u64, Error> {
        let Correction { stored, duplicate, conflict, .. } = correction;
        if let Some(BatchGroup { id, place }) = BatchGroup::of(batch_id) {
            let place = i16::from(place);
            let parameters: [&(dyn ToSql + Sync); 7] =
                [&id, &received_at, &project, stored, duplicate, conflict, &place];
            let corrected = self.transaction.execute(CORRECT_GROUP, &parameters).await?;
            if corrected > 0 {
                return Ok(corrected);
            }
        }
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&batch_id, &received_at, &project, stored, duplicate, conflict];
        self.transaction.execute(CORRECT_LEDGER, &parameters).await
    }
}
