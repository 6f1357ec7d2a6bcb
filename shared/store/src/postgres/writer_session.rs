//! The connection of a writer and the steps of its transactions, each with its round trips.
//!
//! Locks that other lanes need (ledger, undated ids, usage) are taken only when the last byte of the COPY has
//! been sent: a lane that stops responding inside a COPY holds nothing but its own new rows.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::{Client, CopyInSink, Statement};

use super::attempt::{Attempt, row_keys};
use super::connector::Connector;
use super::copy::Chunks;
use super::distribution;
use super::draft::{Claim, Draft, Identity};
use super::error::Failure;
use super::json_columns;
use super::limits;
use super::parameters::{RowKeys, number};
use super::recent::RecentKeys;
use super::required_epoch::RequiredEpoch;
use super::session::Session;
use super::setback::Setback;
use super::statements::{ClaimedId, Statements};
use super::thresholds;
use crate::JsonColumns;
use crate::metrics::{self, Phase};
use crate::payload::PayloadDigest;
use millrace_failpoint::{self as failpoint, Point};

/// Timeouts of the server, all well below the deadline of a write. Every statement but the COPY finds rows by
/// their keys; only outdated statistics could make a plan that scans look cheaper.
const SETTINGS: &str = "
    SET lock_timeout = '5s'; SET statement_timeout = '30s'; SET idle_in_transaction_session_timeout = '15s';
    SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
    SET plan_cache_mode = force_generic_plan; SET jit = off;
";

type CopySink = Pin<Box<CopyInSink<Bytes>>>;

pub(super) struct WriterSession {
    pub(super) session: Session,
    pub(super) statements: Statements,
    json_columns: JsonColumns,
    pub(super) recent: Arc<RecentKeys>,
    require_epoch: Statement,
    /// Checked in each transaction.
    pub(super) required_epoch: Option<RequiredEpoch>,
}

impl WriterSession {
    pub(super) async fn open(connector: &Connector, recent: Arc<RecentKeys>) -> Result<Self, Failure> {
        let session = Session::open(connector, SETTINGS).await?;
        check_server(&session).await?;
        let statements = Statements::prepare(&session).await?;
        let json_columns = json_columns::installed(&*session).await?.unwrap_or_default();
        if statements.is_distributed() && distribution::has_undurable_node(&session).await? {
            tracing::warn!(
                "fsync or full_page_writes is off on a worker node: a crash of it can lose stored events"
            );
        }
        let require_epoch = RequiredEpoch::prepare(&session).await?;
        Ok(Self { session, statements, json_columns, recent, require_epoch, required_epoch: None })
    }

    pub(super) fn client(&self) -> &Client {
        &self.session
    }

    /// Finds out which of these rows of the draft are stored or have a claimed id, and marks them. Returns
    /// how many were found.
    pub(super) async fn mark_known(
        &self,
        draft: &mut Draft<'_>,
        rows: &[usize],
    ) -> Result<usize, tokio_postgres::Error> {
        if rows.is_empty() {
            return Ok(0);
        }
        let keys_of = |is_wanted: fn(Identity) -> bool| {
            let wanted = rows.iter().copied().filter(|&row| is_wanted(draft.rows[row].identity));
            row_keys(draft, &wanted.collect::<Vec<_>>())
        };
        let by_key = keys_of(|identity| identity != Identity::UndatedId);
        let by_id = keys_of(|identity| matches!(identity, Identity::UndatedId | Identity::Id));
        let (stored, claimed) = tokio::join!(
            biased;
            self.statements.stored_events(self.client(), &by_key),
            self.statements.claimed_ids(self.client(), &by_id),
        );
        let (stored, claimed) = (stored?, claimed?);
        // The events that claimed the ids, for comparison.
        let claimants = RowKeys {
            indices: claimed.iter().map(|claim| number(claim.row)).collect(),
            projects: claimed.iter().map(|claim| draft.rows[claim.row].key.project.0).collect(),
            times: claimed.iter().map(|claim| claim.timestamp).collect(),
            ids: claimed.iter().map(|claim| draft.rows[claim.row].key.event_id).collect(),
        };
        let payloads = self.statements.stored_events(self.client(), &claimants).await?;
        let payloads: HashMap<usize, PayloadDigest> = payloads.into_iter().collect();
        let found = stored.len() + claimed.len();
        for (row, payload) in stored {
            draft.mark_stored(row, Some(payload));
        }
        for ClaimedId { row, is_short, .. } in claimed {
            draft.mark_claimed(row, Claim { is_short, payload: payloads.get(&row).copied() });
        }
        Ok(found)
    }

    /// Marks a row of which the COPY has found the key in `events`.
    pub(super) async fn mark_stored(
        &self,
        draft: &mut Draft<'_>,
        row: usize,
    ) -> Result<(), tokio_postgres::Error> {
        let stored = self.statements.stored_events(self.client(), &row_keys(draft, &[row])).await?;
        draft.mark_stored(row, stored.first().map(|(_, payload)| *payload));
        Ok(())
    }

    /// `BEGIN` and the start of the COPY, in one round trip.
    pub(super) async fn begin_with_copy(&self) -> Result<CopySink, Setback> {
        let (begun, sink) = tokio::join!(
            biased;
            self.client().batch_execute("BEGIN"),
            self.client().copy_in(&self.statements.copy),
        );
        begun?;
        Ok(Box::pin(sink?))
    }

    /// Starts a COPY in an open transaction.
    pub(super) async fn start_copy(&self) -> Result<CopySink, Setback> {
        Ok(Box::pin(self.client().copy_in(&self.statements.copy).await?))
    }

    /// Sends these rows of the draft with their receive times, and the end of the COPY's data. Returns the
    /// number of rows.
    pub(super) async fn send_rows(
        &self,
        sink: &mut CopySink,
        draft: &Draft<'_>,
        rows: &[usize],
    ) -> Result<u64, tokio_postgres::Error> {
        let mut chunks = Chunks::new(self.json_columns);
        for row in rows.iter().map(|&row| &draft.rows[row]) {
            let received_us = draft.entries[row.entry as usize].ledger.received_us;
            if let Some(chunk) = chunks.push(row.bytes, received_us) {
                sink.send(chunk).await?;
            }
        }
        let (last, sent) = chunks.finish();
        sink.send(last).await?;
        failpoint::reach_once_sent(Point::InsideCopy).await;
        Ok(sent)
    }

    /// Ends the COPY that sent these rows. A COPY that took another number of rows must not be committed.
    pub(super) async fn finish_copy(
        &self,
        mut sink: CopySink,
        rows: &[usize],
        sent: u64,
    ) -> Result<(), Setback> {
        let in_copy = match self.statements.is_distributed() {
            true => Setback::in_distributed_copy,
            false => Setback::in_copy,
        };
        let reported = sink.as_mut().finish().await.map_err(|error| in_copy(&error, rows))?;
        metrics::rows_copied(sent, reported);
        if reported != sent {
            let message = format!("COPY took {reported} rows of {sent}");
            return Err(Setback::Environment(Failure::new("XX000", message)));
        }
        Ok(())
    }

    /// Everything after the rows: ledger, dead letters, meters, usage, commit. `copied` ends the COPY. The
    /// statements after it are sent before it returns, and fail with it.
    pub(super) async fn commit(
        &self,
        attempt: &Attempt<'_>,
        copied: impl Future<Output = Result<(), Setback>>,
    ) -> Result<(), Setback> {
        let meters_version = self.commit_ledger(attempt, copied).await?;
        self.add_to_meters(attempt, meters_version).await?;
        self.add_to_limits(attempt).await?;
        failpoint::reach(Point::AfterLedger);
        let ready = Instant::now();
        // Before the COMMIT: a lane that waits for this transaction, because it has one of the rows, looks
        // for it as soon as it ends.
        attempt.hashes().for_each(|hash| self.recent.insert(hash));
        self.commit_usage(attempt).await?;
        metrics::lane_phase(Phase::Copy, ready - attempt.began());
        metrics::lane_phase(Phase::Commit, ready.elapsed());
        attempt.refusals().log_dead();
        Ok(())
    }

    /// Returns the version of the definitions of meters.
    async fn commit_ledger(
        &self,
        attempt: &Attempt<'_>,
        copied: impl Future<Output = Result<(), Setback>>,
    ) -> Result<i64, Setback> {
        let (client, statements) = (self.client(), &self.statements);
        let (letters, refusals) = (attempt.letters(), attempt.refusals());
        let copied = failpoint::reach_after(Point::AfterCopy, copied).await;
        // The parameters are made when their statement is polled, which is after the end of the COPY was
        // sent.
        let (copied, reused, added, claimed, kept, lettered, refused, meters_version) = tokio::join!(
            biased;
            copied,
            async { statements.ledger.written_by_another_entry(client, &attempt.keys_used_first()).await },
            async { statements.ledger.add(client, &attempt.ledger_rows()).await },
            async { statements.claim_ids(client, &attempt.claims()).await },
            async { statements.keep_claims(client, &attempt.claims_to_keep()).await },
            async { statements.add_dead_letters(client, &letters).await },
            async { statements.add_refusals(client, &refusals).await },
            // Last, because the definitions of meters cannot change from then on until the transaction ends.
            async { statements.meters.version(client).await },
        );
        copied?;
        let reused = reused?;
        if !reused.is_empty() {
            return Err(Setback::ReusedKeys(reused));
        }
        if !added? {
            return Err(Setback::Redelivered);
        }
        if !claimed? {
            return Err(Setback::DuplicateId);
        }
        kept?;
        lettered?;
        refused?;
        if !letters.is_empty() {
            failpoint::reach(Point::DeadLetterWritten);
        }
        Ok(meters_version?)
    }

    /// Adds the stored events to the meters of this version.
    async fn add_to_meters(&self, attempt: &Attempt<'_>, version: i64) -> Result<(), Setback> {
        let (client, meters) = (self.client(), &self.statements.meters);
        let added = meters.tally(client, version, |set, tally| attempt.add_to_meters(set, tally)).await?;
        Ok(meters.add(client, &added).await?)
    }

    /// Records what the stored events use of limits.
    async fn add_to_limits(&self, attempt: &Attempt<'_>) -> Result<(), Setback> {
        let tally = limits::tally(attempt);
        limits::add(self.client(), &tally).await?;
        if self.statements.meters.has_watched_limits(&tally) {
            thresholds::compare_limits(self.client(), &tally).await?;
        }
        Ok(())
    }

    /// Usage, the position in the stream, the check of the epoch and `COMMIT`, in one round trip.
    async fn commit_usage(&self, attempt: &Attempt<'_>) -> Result<(), Setback> {
        let (usage, positions) = (attempt.usage(), attempt.positions());
        let added = self.statements.add_usage(self.client(), &usage);
        let advanced = self.statements.advance_positions(self.client(), &positions);
        let epoch_checked = async {
            match self.required_epoch {
                Some(required) => required.check(self.client(), &self.require_epoch).await,
                None => Ok(()),
            }
        };
        let (client, quotas) = (self.client(), &self.statements.quotas);
        let is_watched = self.statements.meters.has_watched(&usage.projects);
        let added = failpoint::reach_after(Point::BeforeCommit, added).await;
        // Should one of the first fail, the COMMIT rolls back.
        let (added, locked, compared, advanced, epoch_checked, committed) = tokio::join!(
            biased;
            added,
            async { if is_watched { quotas.lock(client, &usage).await } else { Ok(()) } },
            async { if is_watched { quotas.compare(client, &usage).await } else { Ok(()) } },
            advanced,
            epoch_checked,
            client.batch_execute("COMMIT"),
        );
        added?;
        locked?;
        compared?;
        advanced?;
        epoch_checked?;
        committed?;
        failpoint::reach(Point::AfterCommit);
        Ok(())
    }
}

/// Refuses a database that cannot store every accepted event, and warns of one that can lose events.
async fn check_server(session: &Session) -> Result<(), Failure> {
    let settings = "SELECT current_setting('server_encoding'), current_setting('fsync'),
                           current_setting('full_page_writes'), current_setting('synchronous_commit')";
    let row = session.query_one(settings, &[]).await?;
    let encoding: &str = row.get(0);
    if encoding != "UTF8" {
        let message = format!("the database has the encoding {encoding}; create it with the encoding UTF8");
        return Err(Failure::new("22P05", message));
    }
    for (column, setting) in [(1, "fsync"), (2, "full_page_writes"), (3, "synchronous_commit")] {
        let value: &str = row.get(column);
        if value == "off" {
            tracing::warn!(
                setting,
                "this setting of PostgreSQL is off: a crash of the server can lose stored events"
            );
        }
    }
    Ok(())
}
