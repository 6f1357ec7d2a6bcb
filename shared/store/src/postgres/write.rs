//! A lane's writer: stores entries in events, ledger, usage and dead letters, in one transaction, exactly
//! once.
//!
//! A write is a loop of attempts. Each attempt runs forward: select the rows of the [`Draft`], COPY them,
//! ledger, usage, commit. It is optimistic and takes three round trips: `BEGIN` with the start of the COPY;
//! the rows with the ledger after them; usage with `COMMIT`. Anything unexpected (a duplicate, an entry
//! written before, a row the database rejects) rolls the transaction back, is recorded in the draft, and the
//! next attempt starts. Every setback adds a fact to the draft, so the loop ends. After too many setbacks by
//! rows, [`write_carefully`] continues in small steps.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::attempt::Attempt;
use super::careful::write_carefully;
use super::connector::Connector;
use super::draft::{Draft, EntryState};
use super::error::{CONNECTION, Failure};
use super::ledger_rows::LedgerKeys;
use super::limits;
use super::lineage::Lineage;
use super::on_demand::EventDays;
use super::partitions::{self, Day};
use super::recent::RecentKeys;
use super::replication;
use super::required_epoch::RequiredEpoch;
use super::selection::Selection;
use super::setback::Setback;
use super::writer_session::WriterSession;
use crate::dead_reason::DeadReason;
use crate::ledger::LedgerKey;
use crate::limit_tally::refunding;
use crate::{
    ReplicationProgress, RequestCharges, RequestRefunds, WriteError, WriteOutcome, WriteRequest, Writer,
};
use millrace_event::{EntryId, Epoch};

/// The application name of a writer's session, followed by the name of the writer. Upkeep finds stuck
/// sessions by it.
pub(super) const APPLICATION_PREFIX: &str = "millrace-worker:";
/// For one write with all its attempts.
const WRITE_DEADLINE: Duration = Duration::from_secs(60);
/// For the question how far the standbys are.
const REPLICATION_DEADLINE: Duration = Duration::from_secs(5);
/// Attempts for one write, at most.
const ATTEMPTS_MAX: u32 = 32;
/// Setbacks by rows (duplicates, rejected rows) before the write continues carefully.
const ROW_SETBACKS_MAX: u32 = 6;
/// After a duplicate that this process does not remember, this many writes look up every row first.
const FULL_LOOKUPS: u32 = 8;

/// One lane's connection.
pub(super) struct PostgresWriter {
    connection: WriterSession,
    event_days: Arc<EventDays>,
    lineage: Arc<Lineage>,
    /// The timeline of the server, if it says so.
    timeline: Option<u32>,
    /// Writes left that look up every row first.
    full_lookups: u32,
    /// The entry, and its shard, that the last write ended with.
    last_entry: Option<(EntryId, u16)>,
}

/// The setbacks of one write.
#[derive(Default)]
struct Setbacks {
    by_rows: u32,
    /// Whether a duplicate was met that the lookup before had not found.
    met_duplicate: bool,
    has_made_partitions: bool,
    last_race: Option<Failure>,
}

impl PostgresWriter {
    pub(super) async fn open(
        connector: &Connector,
        name: &str,
        recent: Arc<RecentKeys>,
        event_days: Arc<EventDays>,
    ) -> Result<Self, Failure> {
        let connector = connector.named(&format!("{APPLICATION_PREFIX}{name}"));
        let connection = WriterSession::open(&connector, recent).await?;
        let (lineage, timeline) = (Arc::clone(connector.lineage()), connection.session.timeline);
        Ok(Self { connection, event_days, lineage, timeline, full_lookups: 0, last_entry: None })
    }

    async fn write_all(
        &mut self,
        requests: &[WriteRequest],
        charges: &RequestCharges,
    ) -> Result<Vec<WriteOutcome>, WriteError> {
        let mut draft = Draft::new(requests)?;
        draft.charges = Some(charges);
        if draft.first_and_last_day().is_some_and(|(first, last)| self.event_days.may_need(first, last)) {
            self.event_days.make(self.connection.session.client_mut(), &draft.days()).await;
        }
        let continued = requests.first().filter(|first| self.last_entry == Some((first.entry, first.shard)));
        if let Some(first) = continued {
            // The rows for its groups were probably written with the part before.
            self.mark_written_entries(&mut draft, |key| key.is_of(first.entry, first.shard)).await?;
        }
        let mut setbacks = Setbacks::default();
        for _ in 0..ATTEMPTS_MAX {
            if draft.live_entries().next().is_none() {
                return Ok(Attempt::new(&draft).into_outcomes());
            }
            let result = if setbacks.by_rows > ROW_SETBACKS_MAX {
                write_carefully(&self.connection, &mut draft).await
            } else {
                self.write_optimistically(&mut draft, &setbacks).await
            };
            match result {
                Ok(outcomes) => return Ok(outcomes),
                Err(Setback::Environment(failure)) => return Err(failure.into()),
                Err(Setback::EpochReplaced { shard }) => return Err(WriteError::EpochReplaced { shard }),
                Err(setback) => {
                    self.connection.client().batch_execute("ROLLBACK").await?;
                    self.learn(&mut draft, &mut setbacks, setback).await?;
                }
            }
        }
        let lost = || Failure::new("40001", "too many transactions met the same rows");
        Err(setbacks.last_race.unwrap_or_else(lost).into())
    }

    async fn write_optimistically(
        &mut self,
        draft: &mut Draft<'_>,
        setbacks: &Setbacks,
    ) -> Result<Vec<WriteOutcome>, Setback> {
        self.look_up_suspects(draft, setbacks).await?;
        let attempt = Attempt::new(draft);
        if attempt.rows().is_empty() {
            self.connection.client().batch_execute("BEGIN").await?;
            self.connection.commit(&attempt, async { Ok(()) }).await?;
        } else {
            let mut sink = self.connection.begin_with_copy().await?;
            let sent = self.connection.send_rows(&mut sink, draft, attempt.rows()).await?;
            let copied = self.connection.finish_copy(sink, attempt.rows(), sent);
            self.connection.commit(&attempt, copied).await?;
        }
        Ok(attempt.into_outcomes())
    }

    /// Looks up rows that are probably stored: the suspects, or all rows when an unexpected duplicate is none
    /// of them.
    async fn look_up_suspects(&mut self, draft: &mut Draft<'_>, setbacks: &Setbacks) -> Result<(), Setback> {
        let rows = Selection::of(draft).lookups(draft);
        if self.full_lookups > 0 {
            // Setbacks repeat the lookup within one write. Only a new write counts down.
            self.full_lookups -= u32::from(setbacks.by_rows == 0);
        } else {
            let recent = &self.connection.recent;
            let is_suspect =
                |row: &usize| draft.rows[*row].hash().is_some_and(|hash| recent.may_contain(hash));
            let suspects: Vec<_> = rows.iter().copied().filter(is_suspect).collect();
            let found = self.connection.mark_known(draft, &suspects).await?;
            // Usually another lane was storing the duplicate, has committed, and the suspects have it now.
            if found > 0 || !setbacks.met_duplicate {
                return Ok(());
            }
            self.full_lookups = FULL_LOOKUPS;
        }
        self.connection.mark_known(draft, &rows).await?;
        Ok(())
    }

    /// Records the cause of a rolled-back attempt in the draft.
    async fn learn(
        &mut self,
        draft: &mut Draft<'_>,
        setbacks: &mut Setbacks,
        setback: Setback,
    ) -> Result<(), WriteError> {
        match setback {
            Setback::DuplicateRow | Setback::DuplicateId => {
                setbacks.by_rows += 1;
                setbacks.met_duplicate = true;
            }
            Setback::RejectedRow { index: Some(row), rejection } => {
                setbacks.by_rows += 1;
                self.mark_rejected(draft, row, rejection).await?;
            }
            // Only the careful copy finds out which row it is.
            Setback::RejectedRow { index: None, .. } => setbacks.by_rows = ROW_SETBACKS_MAX + 1,
            Setback::Redelivered => self.mark_written_entries(draft, |_| true).await?,
            Setback::ReusedKeys(entries) => {
                entries.into_iter().for_each(|entry| draft.entries[entry].mark_reused_key());
            }
            Setback::Race(failure) => setbacks.last_race = Some(failure),
            Setback::NoPartition(_) if !setbacks.has_made_partitions => {
                setbacks.has_made_partitions = true;
                self.make_ledger_days(draft).await?;
            }
            Setback::NoPartition(failure) | Setback::Environment(failure) => return Err(failure.into()),
            Setback::EpochReplaced { shard } => return Err(WriteError::EpochReplaced { shard }),
        }
        Ok(())
    }

    /// Marks a row that the database rejected. Had it been looked up before, it might have been found to be a
    /// duplicate; its outcome must not depend on that.
    async fn mark_rejected(
        &self,
        draft: &mut Draft<'_>,
        row: usize,
        rejection: DeadReason,
    ) -> Result<(), tokio_postgres::Error> {
        self.connection.mark_known(draft, &[row]).await?;
        let known = &draft.rows[row];
        if !known.is_stored() && !known.is_claimed() {
            draft.mark_rejected(row, rejection);
        }
        Ok(())
    }

    /// Finds out which of these entries are in the ledger, under any of the keys they can have. One that the
    /// row for its group lacks gets a row of its own.
    async fn mark_written_entries(
        &self,
        draft: &mut Draft<'_>,
        is_wanted: impl Fn(&LedgerKey) -> bool,
    ) -> Result<(), tokio_postgres::Error> {
        let mut keys = Vec::new();
        for (index, entry) in draft.live_entries().filter(|(_, entry)| is_wanted(&entry.ledger)) {
            keys.push((index, entry.ledger));
            if entry.ledger.group().is_some() {
                keys.push((index, entry.ledger.alone()));
            }
            if entry.state == EntryState::New && entry.has_client_key() {
                keys.push((index, entry.ledger.of_reused_key()));
            }
        }
        let (keys, connection) = (LedgerKeys::new(&keys), &self.connection);
        for found in connection.statements.ledger.written_before(connection.client(), &keys).await? {
            let entry = &mut draft.entries[found.index];
            match found.outcome {
                Some(outcome) => entry.state = EntryState::InLedger(outcome),
                None => entry.ledger = entry.ledger.alone(),
            }
        }
        Ok(())
    }

    async fn make_ledger_days(&mut self, draft: &Draft<'_>) -> Result<(), WriteError> {
        let mut days: Vec<_> =
            draft.live_entries().map(|(_, entry)| Day::of(entry.ledger.received_us)).collect();
        days.sort_unstable();
        days.dedup();
        for day in days {
            let client = self.connection.session.client_mut();
            if partitions::make_ledger_day(client, day).await? == partitions::DayPartition::Retired {
                return Err(WriteError::LedgerRetired);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Writer for PostgresWriter {
    fn require_epoch(&mut self, shard: u16, epoch: Epoch) {
        self.connection.required_epoch = Some(RequiredEpoch { shard, epoch });
    }

    async fn write_charged(
        &mut self,
        requests: &[WriteRequest],
        charges: &RequestCharges,
    ) -> Result<(Vec<WriteOutcome>, RequestRefunds), WriteError> {
        if self.connection.session.busy {
            let message = "an earlier write of this writer did not end; open a new writer";
            return Err(Failure::new(CONNECTION, message).into());
        }
        if requests.is_empty() {
            return Ok((Vec::new(), RequestRefunds::new()));
        }
        self.lineage.refuse_outdated(self.timeline)?;
        // Stays true after an error and when this future is dropped: the state of the server is unknown then.
        self.connection.session.busy = true;
        let write = async {
            let written = self.write_all(requests, charges).await?;
            let refunding = refunding(requests, &written, charges);
            let refunds = limits::refunds(self.connection.client(), &refunding).await?;
            Ok::<_, WriteError>((written, refunds))
        };
        let written = match tokio::time::timeout(WRITE_DEADLINE, write).await {
            Ok(written) => written?,
            Err(_) => return Err(Failure::new("57014", "the write took longer than 60 s").into()),
        };
        self.connection.session.busy = false;
        self.last_entry = requests.last().map(|last| (last.entry, last.shard));
        Ok(written)
    }

    async fn replication(&mut self, standbys: u16) -> Result<ReplicationProgress, WriteError> {
        self.lineage.refuse_outdated(self.timeline)?;
        self.connection.session.busy = true;
        let asked = replication::progress(&self.connection.session, standbys);
        let progress = match tokio::time::timeout(REPLICATION_DEADLINE, asked).await {
            Ok(progress) => progress?,
            Err(_) => return Err(Failure::new("57014", "no answer about the standbys within 5 s").into()),
        };
        self.connection.session.busy = false;
        Ok(progress)
    }
}
