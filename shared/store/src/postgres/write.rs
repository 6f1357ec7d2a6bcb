//! A lane's writer: entries into events, ledger, usage and dead letters, in one transaction, once.
//!
//! The fast path takes three round trips: `BEGIN` with the start of the COPY; the rows with the ledger behind them;
//! usage with `COMMIT`. It is optimistic. Whatever it meets that it did not expect (a duplicate, an entry written before,
//! a row the database refuses) rolls everything back, is looked up or noted in the [`Draft`], and the transaction is
//! done anew. Each such setback teaches something, so the loop ends; where it does not end soon, [`super::poison`] goes
//! on in small steps that cannot be set back.
//!
//! Locks that others wait for (ledger, undated ids, usage) are taken only when the last byte of the COPY has arrived: a
//! lane that falls silent inside a COPY holds nothing but its own new rows.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::{Config, CopyInSink};

use super::copy::Chunks;
use super::draft::{Death, Draft, State, Usage};
use super::error::{Cause, Failure, Refusal, cause, cause_in_copy};
use super::partitions;
use super::recent::Recent;
use super::session::Session;
use super::statements::Statements;
use crate::metrics::{self, Phase};
use crate::{WriteError, WriteOutcome, WriteRequest, Writer};
use millrace_failpoint::{self as failpoint, Point};

/// What a session of a writer is called in the list of sessions, followed by its name. The janitor goes by it.
pub(super) const APPLICATION_PREFIX: &str = "millrace-worker:";
/// For one write with all its repetitions.
const WRITE_DEADLINE: Duration = Duration::from_secs(60);
/// Timeouts of the server, all well below [`WRITE_DEADLINE`]. Every statement but the COPY finds rows by their keys; a
/// plan that scans would only ever be chosen for statistics that are out of date.
const SETTINGS: &str = "
    SET lock_timeout = '5s'; SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '15s';
    SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
    SET plan_cache_mode = force_generic_plan; SET jit = off;
";
/// Transactions begun for one write, at most.
const ATTEMPTS_MAX: u32 = 32;
/// Setbacks by rows (duplicates met, rows refused) before the rest is copied carefully.
const ROW_SETBACKS_MAX: u32 = 6;
/// After a duplicate that was not suspected, this many transactions look up every row first.
const WARY_TRANSACTIONS: u32 = 8;

/// One lane's connection.
pub(super) struct PostgresWriter {
    pub(super) session: Session,
    pub(super) statements: Statements,
    recent: Arc<Recent>,
    wary: u32,
}

/// Why a transaction was rolled back.
#[derive(Debug)]
pub(super) enum Setback {
    /// The COPY met rows that are in the store.
    DuplicateRows,
    /// An undated id was claimed before.
    DuplicateUndated,
    /// The database refuses a row.
    Refused(Refusal),
    /// At least one entry is in the ledger.
    Redelivered,
    /// These entries' batches were written before, from other entries.
    AdmittedBefore(Vec<usize>),
    /// Lost against another transaction.
    Race(Failure),
    /// A day of the ledger has no partition.
    NoPartition(Failure),
    /// Not to be mended here.
    Environment(Failure),
}

impl From<Cause> for Setback {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Duplicate => Self::DuplicateRows,
            Cause::Data(refusal) => Self::Refused(refusal),
            Cause::Race(failure) => Self::Race(failure),
            Cause::NoPartition(failure) => Self::NoPartition(failure),
            Cause::Environment(failure) => Self::Environment(failure),
        }
    }
}

impl From<tokio_postgres::Error> for Setback {
    fn from(error: tokio_postgres::Error) -> Self {
        cause(&error).into()
    }
}

impl PostgresWriter {
    pub(super) async fn open(config: &Config, name: &str, recent: Arc<Recent>) -> Result<Self, Failure> {
        let session = Session::open(config, &format!("{APPLICATION_PREFIX}{name}"), SETTINGS).await?;
        check_server(&session).await?;
        let statements = Statements::prepare(&session).await?;
        Ok(Self { session, statements, recent, wary: 0 })
    }

    async fn write_all(&mut self, works: &[WriteRequest]) -> Result<Vec<WriteOutcome>, Failure> {
        let mut draft = Draft::new(works)?;
        let mut row_setbacks = 0;
        let mut asked_for_partitions = false;
        let mut last_race = None;
        for _ in 0..ATTEMPTS_MAX {
            if draft.live_entries().next().is_none() {
                return Ok(draft.outcomes(&[]));
            }
            let attempt = if row_setbacks > ROW_SETBACKS_MAX {
                self.write_carefully(&mut draft).await
            } else {
                self.write_at_once(&mut draft, row_setbacks).await
            };
            let setback = match attempt {
                Ok(written) => return Ok(written),
                Err(Setback::Environment(failure)) => return Err(failure),
                Err(setback) => setback,
            };
            self.session.batch_execute("ROLLBACK").await?;
            match setback {
                Setback::DuplicateRows | Setback::DuplicateUndated => {
                    row_setbacks += 1;
                    self.wary = WARY_TRANSACTIONS;
                }
                Setback::Refused(refusal) => match refusal.line {
                    Some(line) => {
                        row_setbacks += 1;
                        self.condemn(&mut draft, line, refusal).await?;
                    }
                    // Only small steps will tell which row it is.
                    None => row_setbacks = ROW_SETBACKS_MAX + 1,
                },
                Setback::Redelivered => self.recall(&mut draft).await?,
                Setback::AdmittedBefore(entries) => {
                    entries.into_iter().for_each(|place| draft.entries[place].admit_again());
                }
                Setback::Race(failure) => last_race = Some(failure),
                Setback::NoPartition(failure) if asked_for_partitions => return Err(failure),
                Setback::NoPartition(failure) => {
                    asked_for_partitions = true;
                    self.make_ledger_days(&draft, failure).await?;
                }
                Setback::Environment(failure) => return Err(failure),
            }
        }
        Err(last_race.unwrap_or_else(|| Failure::new("40001", "too many transactions met the same rows")))
    }

    /// The fast path.
    async fn write_at_once(
        &mut self,
        draft: &mut Draft<'_>,
        row_setbacks: u32,
    ) -> Result<Vec<WriteOutcome>, Setback> {
        self.look_ahead(draft, row_setbacks).await?;
        let chosen = draft.chosen();
        if chosen.is_empty() {
            self.session.batch_execute("BEGIN").await?;
            return self.settle_accounts(draft, &chosen, async { Ok(()) }).await;
        }
        let (begun, sink) = tokio::join!(
            biased;
            self.session.batch_execute("BEGIN"),
            self.session.copy_in(&self.statements.copy),
        );
        begun?;
        let mut sink = Box::pin(sink?);
        let sent = send_rows(sink.as_mut(), draft, &chosen).await?;
        let copied = async { check_copied(sent, sink.as_mut().finish().await) };
        self.settle_accounts(draft, &chosen, copied).await
    }

    /// Looks up rows that are probably known: all of them when duplicates were met unexpectedly, otherwise suspects.
    async fn look_ahead(&mut self, draft: &mut Draft<'_>, row_setbacks: u32) -> Result<(), Setback> {
        let mut asked = draft.chosen();
        let looks_at_all = self.wary > 0;
        if looks_at_all {
            // Setbacks repeat the look within one write; only a new write wears the wariness off.
            self.wary -= u32::from(row_setbacks == 0);
        } else {
            let suspects =
                |at: &usize| draft.items[*at].hash().is_some_and(|hash| self.recent.suspects(hash));
            asked.retain(suspects);
        }
        if asked.is_empty() {
            return Ok(());
        }
        let known = self.statements.known(&self.session, draft, &asked).await?;
        known.into_iter().for_each(|at| draft.mark_known(at));
        Ok(())
    }

    /// Everything after the rows: the gates, the letters, the meters, the commit. `copied` ends the COPY; the
    /// statements behind it are on their way before it answers, and fail with it.
    pub(super) async fn settle_accounts(
        &self,
        draft: &Draft<'_>,
        chosen: &[usize],
        copied: impl Future<Output = Result<(), Setback>>,
    ) -> Result<Vec<WriteOutcome>, Setback> {
        let client: &tokio_postgres::Client = &self.session;
        let outcomes = draft.outcomes(chosen);
        let copied = failpoint::reach_after(Point::AfterCopy, copied).await;
        let (copied, admitted_before, entered, claimed, buried) = tokio::join!(
            biased;
            copied,
            self.statements.admitted_before(client, draft),
            self.statements.add_ledger(client, draft, &outcomes),
            self.statements.claim_undated(client, draft, chosen),
            self.statements.add_dead_letters(client, draft),
        );
        copied?;
        let admitted_before = admitted_before?;
        if !admitted_before.is_empty() {
            return Err(Setback::AdmittedBefore(admitted_before));
        }
        if !entered? {
            return Err(Setback::Redelivered);
        }
        if !claimed? {
            return Err(Setback::DuplicateUndated);
        }
        if buried? > 0 {
            failpoint::reach(Point::DeadLetterWritten);
        }
        failpoint::reach(Point::AfterLedger);
        let (ready, usage) = (Instant::now(), draft.usage(chosen, &outcomes));
        self.meter_and_commit(&usage).await?;
        metrics::lane_phase(Phase::Copy, ready - draft.began);
        metrics::lane_phase(Phase::Commit, ready.elapsed());
        for hash in chosen.iter().filter_map(|&at| draft.items[at].hash()) {
            self.recent.note(hash);
        }
        Ok(outcomes)
    }

    /// The end of a transaction. Its last two statements are on their way together.
    async fn meter_and_commit(&self, usage: &BTreeMap<(i64, i64), Usage>) -> Result<(), Setback> {
        let client: &tokio_postgres::Client = &self.session;
        let metered = self.statements.add_usage(client, usage);
        let metered = failpoint::reach_after(Point::BeforeCommit, metered).await;
        // Should the first fail, the second rolls back, whatever it is called.
        let (metered, committed) = tokio::join!(biased; metered, client.batch_execute("COMMIT"));
        metered?;
        committed?;
        failpoint::reach(Point::AfterCommit);
        Ok(())
    }

    /// Marks the row that was refused, the `line`-th that was sent. Had it been looked up before, it might have been found
    /// to be a duplicate; what it ends as must not depend on that.
    async fn condemn(&self, draft: &mut Draft<'_>, line: u64, refusal: Refusal) -> Result<(), Failure> {
        let sent = draft.chosen();
        let at = sent[usize::try_from(line).unwrap_or(0).clamp(1, sent.len()) - 1];
        if self.statements.known(&self.session, draft, &[at]).await?.is_empty() {
            draft.mark_dead(at, Death { sqlstate: refusal.sqlstate, reason: refusal.reason });
        } else {
            draft.mark_known(at);
        }
        Ok(())
    }

    /// Finds out which entries the ledger knows, under either of the keys they could have.
    async fn recall(&self, draft: &mut Draft<'_>) -> Result<(), Failure> {
        let mut asked = Vec::new();
        for (place, entry) in draft.live_entries() {
            asked.push((place, entry.ledger));
            if entry.state == State::Fresh && entry.is_keyed() {
                asked.push((place, entry.ledger.admitted_again()));
            }
        }
        for (place, outcome) in self.statements.written_before(&self.session, &asked).await? {
            draft.entries[place].state = State::WriteOutcome(outcome);
        }
        Ok(())
    }

    async fn make_ledger_days(&mut self, draft: &Draft<'_>, missing: Failure) -> Result<(), Failure> {
        let mut days: Vec<_> =
            draft.live_entries().map(|(_, entry)| partitions::Day::of(entry.ledger.received_us)).collect();
        days.sort_unstable();
        days.dedup();
        for day in days {
            let kept = partitions::make_ledger_day(self.session.client_mut(), day).await?;
            if !kept.is_there() {
                let message = format!("{}; the ledger of {day} is retired", missing.message);
                return Err(Failure::new(&missing.sqlstate, message));
            }
        }
        Ok(())
    }
}

/// Sends these rows of the draft, stamped, and the end of the COPY's data. Returns how many were sent.
pub(super) async fn send_rows(
    mut sink: Pin<&mut CopyInSink<Bytes>>,
    draft: &Draft<'_>,
    rows: &[usize],
) -> Result<u64, tokio_postgres::Error> {
    let mut chunks = Chunks::new();
    for &at in rows {
        let item = &draft.items[at];
        let received_us = draft.entries[item.entry as usize].ledger.received_us;
        if let Some(chunk) = chunks.push(item.row, received_us) {
            sink.send(chunk).await?;
        }
    }
    let (last, sent) = chunks.finish();
    sink.send(last).await?;
    failpoint::reach_once_sent(Point::InsideCopy).await;
    Ok(sent)
}

/// A COPY that took another number of rows than were sent must not be committed.
pub(super) fn check_copied(sent: u64, reported: Result<u64, tokio_postgres::Error>) -> Result<(), Setback> {
    let reported = reported.map_err(|error| cause_in_copy(&error))?;
    metrics::rows_copied(sent, reported);
    if reported != sent {
        let message = format!("COPY took {reported} rows of {sent}");
        return Err(Setback::Environment(Failure::new("XX000", message)));
    }
    Ok(())
}

/// Refuses a database that could not store what was accepted, and warns of one that could lose it.
async fn check_server(session: &Session) -> Result<(), Failure> {
    let settings = "SELECT current_setting('server_encoding'), current_setting('fsync'),
                           current_setting('full_page_writes'), current_setting('synchronous_commit')";
    let row = session.query_one(settings, &[]).await?;
    let encoding: &str = row.get(0);
    if encoding != "UTF8" {
        let message = format!("the database has the encoding {encoding}; events need UTF8");
        return Err(Failure::new("22P05", message));
    }
    for (at, setting) in [(1, "fsync"), (2, "full_page_writes"), (3, "synchronous_commit")] {
        let value: &str = row.get(at);
        if value == "off" {
            tracing::warn!(
                setting,
                "PostgreSQL runs with {setting}=off: a crash of it can lose stored events"
            );
        }
    }
    Ok(())
}

#[async_trait]
impl Writer for PostgresWriter {
    async fn write(&mut self, works: &[WriteRequest]) -> Result<Vec<WriteOutcome>, WriteError> {
        if self.session.busy {
            let message = "an earlier write of this writer did not end; open a new one";
            return Err(Failure::new(super::error::CONNECTION, message).into());
        }
        if works.is_empty() {
            return Ok(Vec::new());
        }
        // Stays so after an error and when this future is dropped: what the server is doing then is not known.
        self.session.busy = true;
        let written = match tokio::time::timeout(WRITE_DEADLINE, self.write_all(works)).await {
            Ok(written) => written?,
            Err(_) => return Err(Failure::new("57014", "the write took longer than 60 s").into()),
        };
        self.session.busy = false;
        Ok(written)
    }
}
