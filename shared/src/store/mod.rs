//! The second place an event can be: the store, where it stays.
//!
//! This module is the contract, [`postgres`] and [`sqlite`] its implementations. The conformance suite in `shared/tests/store/` is
//! written against the traits alone; every implementation must pass it.
//!
//! What an implementation must never do: store or meter an entry twice, however often it is written; dead-letter an
//! event because of its environment; return from [`Writer::write`] before everything is on disk.

mod admin;
mod creating;
mod ledger;
mod letters;
pub mod postgres;
mod rebuild;
mod redrive;
pub mod sqlite;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use time::OffsetDateTime;

pub use self::admin::{KeyInfo, PlanChange, ProjectInfo, ProjectUsage, Rotated};
pub use self::letters::{DeadLetter, LetterFilter};
pub use self::redrive::{RedriveOrder, RedriveRecord, Redriven, rows_of_letter};
use crate::plan::{Account, Plan, ProjectId};
use crate::stream::{BatchId, EntryId, Epoch, Outcome, PendingBatch};

/// One stream entry to be stored.
#[derive(Clone, Debug)]
pub struct Work {
    /// Its place in the stream; `entry.ms` is when it was received.
    pub entry: EntryId,
    /// The shard it came from.
    pub shard: u16,
    /// The batch. For an entry too damaged to tell: [`crate::entry::id_of_damaged`].
    pub batch_id: BatchId,
    /// The project that is metered. `ProjectId(0)` when the entry was too damaged to tell.
    pub project: ProjectId,
    /// Events in the batch, as admitted.
    pub count: u32,
    /// What to store.
    pub body: Body,
}

/// The contents of a [`Work`].
#[derive(Clone, Debug)]
pub enum Body {
    /// Rows as [`crate::row`] writes them, exactly `count` of them, checked by [`crate::entry::Packed::unpack`].
    Rows(Bytes),
    /// The whole entry goes to the dead letters: one letter, counting `count` events.
    Dead {
        /// Why, for operators.
        reason: String,
        /// What stood in the entry, as far as it could be read.
        raw: Bytes,
    },
}

/// What became of one [`Work`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// How its events ended, now or when the same entry was first written.
    pub outcome: Outcome,
    /// The ledger knew this very entry already: this write has changed nothing.
    pub redelivered: bool,
}

/// Why a write did not happen. Data is never the reason: what the database refuses becomes a dead letter.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The connection, the disk, a lock, a shutdown, a missing partition: try the same write again later, on a new
    /// writer. Whether the transaction committed may be unknown; the ledger will tell.
    #[error("the store cannot write now ({sqlstate}): {message}")]
    Environment {
        /// SQLSTATE, or `connection`.
        sqlstate: String,
        /// What the database said, without data of events.
        message: String,
    },
}

impl WriteError {
    /// Whether an entry comes too late: its day of the ledger is retired, which happens only after it was settled. Whoever
    /// holds it was asleep for days and must look again at what is pending. (23514 is what PostgreSQL says of a row without
    /// a partition.)
    pub fn is_too_late(&self) -> bool {
        matches!(self, Self::Environment { sqlstate, .. } if sqlstate == "23514")
    }
}

/// Why a read or an administrative statement failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not reachable, or too slow.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The database answered with an error.
    #[error("the store refused ({sqlstate}): {message}")]
    Refused {
        /// SQLSTATE.
        sqlstate: String,
        /// What it said.
        message: String,
    },
    /// The caller asked for something that is not there or already there; the text tells what to do.
    #[error("{0}")]
    Invalid(String),
}

/// A row of `usage_hourly`, summed over a window.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsageRow {
    /// Start of the window.
    pub start: OffsetDateTime,
    /// Events stored.
    pub events: u64,
    /// Bytes of their rows.
    pub bytes: u64,
    /// Events that were stored before.
    pub duplicates: u64,
    /// Events dead-lettered.
    pub dead: u64,
}

/// The width of a usage window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UsageWindow {
    /// An hour.
    Hour,
    /// A day, UTC.
    Day,
    /// A calendar month, UTC.
    Month,
}

/// All-time totals of one project in the store, and what is left of them in the tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProjectTotals {
    /// The project.
    pub project: i64,
    /// Σ `usage_hourly`.events: stored, ever.
    pub stored: u64,
    /// Σ `usage_hourly`.duplicates, ever.
    pub duplicate: u64,
    /// Σ `usage_hourly`.dead, ever.
    pub dead: u64,
    /// Σ `usage_hourly`.events of the current month.
    pub stored_this_month: u64,
    /// Rows counted in `events` now, plus rows that retention has removed (`retired`).
    pub event_rows: u64,
    /// Events counted in `dead_letters` now, plus what retention has removed.
    pub dead_rows: u64,
    /// Over the ledger rows still kept: Σ stored, Σ duplicate, Σ dead.
    pub ledger: (u64, u64, u64),
    /// Over the same hours, Σ of `usage_hourly`: stored, duplicate, dead. Equal to `ledger`, or something is wrong.
    pub ledger_hours: (u64, u64, u64),
}

/// Everything the request path needs to know of keys and plans.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    /// One account for each key that is neither revoked nor expired.
    pub accounts: Vec<Account>,
}

/// Settings of [`Store::upkeep`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UpkeepPolicy {
    /// Event partitions (and dead letters) older than this are retired; `None` keeps them for ever.
    pub retention_days: Option<u32>,
    /// Ledger partitions older than this are retired, unless an entry as old is still in the stream. At least 2.
    pub ledger_days: u32,
    /// Receive time of the oldest entry in any stream, milliseconds since 1970; `None` when all are empty or unknown
    /// (`Some(0)` when unknown: then nothing of the ledger is retired).
    pub oldest_pending_ms: Option<u64>,
    /// Our own transactions older than this are terminated.
    pub transaction_age_max: Duration,
}

/// What one round of upkeep did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct UpkeepReport {
    /// Partitions made.
    pub partitions_made: u64,
    /// Partitions dropped.
    pub partitions_retired: u64,
    /// Days ahead of today for which a partition of `events` and of the ledger exists.
    pub days_ahead: u32,
}

/// A newly created key. The only moment its text exists.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct NewKey {
    /// Its number, to revoke it by.
    pub key_id: i64,
    /// The key itself.
    pub key: String,
    /// The signing secret, as Standard Webhooks writes it (`whsec_…`), when the key demands signatures.
    pub signing_secret: Option<String>,
}

/// The store, as API processes, workers and operators see it.
#[async_trait]
pub trait Store: Send + Sync {
    /// Every account, one per live key.
    async fn accounts(&self) -> Result<Accounts, StoreError>;

    /// Returns when keys, projects or plans have changed, or after `at_most`. May return early for no reason.
    async fn accounts_changed(&self, at_most: Duration);

    /// Notes when keys were last used. Older times than what is there change nothing.
    async fn touch_keys(&self, used: &[(i64, OffsetDateTime)]) -> Result<(), StoreError>;

    /// Opens a writer of its own for one lane. `name` shows up in the database's list of sessions, where it has one.
    async fn writer(&self, name: &str) -> Result<Box<dyn Writer>, WriteError>;

    /// What the ledger knows of a batch of this project.
    async fn batch(&self, project: ProjectId, batch_id: BatchId) -> Result<Option<Outcome>, StoreError>;

    /// Usage from `from` (inclusive) to `to` (exclusive), one row per window that has any, oldest first.
    async fn usage(
        &self,
        project: ProjectId,
        from: OffsetDateTime,
        to: OffsetDateTime,
        window: UsageWindow,
    ) -> Result<Vec<UsageRow>, StoreError>;

    /// Totals of every project, in one snapshot. `count_rows` also counts the tables and adds up the ledger, which takes
    /// long; without it `event_rows`, `dead_rows`, `ledger` and `ledger_hours` are 0.
    async fn totals(&self, count_rows: bool) -> Result<Vec<ProjectTotals>, StoreError>;

    /// The recorded epoch of a shard.
    async fn epoch(&self, shard: u16) -> Result<Option<Epoch>, StoreError>;

    /// How many shards have an epoch on record: as many as the installation has.
    async fn shards_recorded(&self) -> Result<u16, StoreError>;

    /// Records a shard's epoch, if the recorded one is still `old`. Returns whether it did.
    async fn replace_epoch(&self, shard: u16, old: Option<Epoch>, new: Epoch) -> Result<bool, StoreError>;

    /// What the counters of a shard's projects must be, given what stands in its stream: all-time accepted, pending,
    /// and this month's use, in one snapshot. Pending batches that the ledger already holds are counted once.
    async fn counters_for_rebuild(
        &self,
        shard: u16,
        shards: u16,
        pending: &[PendingBatch],
    ) -> Result<Vec<crate::stream::ProjectCounters>, StoreError>;

    /// Partitions ahead, retention, ledger pruning, zombies. One process at a time does it; the others return at once.
    async fn upkeep(&self, policy: &UpkeepPolicy) -> Result<Option<UpkeepReport>, StoreError>;

    /// Brings the schema up to date. Returns the names of the migrations that were applied.
    async fn migrate(&self) -> Result<Vec<String>, StoreError>;

    /// Creates a project with a first key. `key` is the operator's own choice of key; `None` makes a random one.
    async fn create_project(
        &self,
        name: &str,
        plan: &str,
        key: Option<&str>,
        signed: bool,
    ) -> Result<(ProjectId, NewKey), StoreError>;

    /// One more key for a project.
    async fn create_key(&self, project: &str, key: Option<&str>, signed: bool) -> Result<NewKey, StoreError>;

    /// Revokes a key by its number. False when there is no such live key.
    async fn revoke_key(&self, key_id: i64) -> Result<bool, StoreError>;

    /// Replaces a live key by a new one of the same kind; the old one is refused from `overlap` from now on. `key` as in
    /// [`Store::create_project`]. [`StoreError::Invalid`] for a key that is revoked, expired, or was rotated before.
    async fn rotate_key(
        &self,
        key_id: i64,
        overlap: Duration,
        key: Option<&str>,
    ) -> Result<Rotated, StoreError>;

    /// Every key of one project, or of all, also those that are revoked; oldest first.
    async fn keys(&self, project: Option<ProjectId>) -> Result<Vec<KeyInfo>, StoreError>;

    /// Every project, by name.
    async fn projects(&self) -> Result<Vec<ProjectInfo>, StoreError>;

    /// Moves a project to another plan.
    async fn move_project(&self, project: ProjectId, plan: &str) -> Result<(), StoreError>;

    /// Dead letters that the filter lets through, newest first: `limit` of those with a number below `before`.
    async fn dead_letters(
        &self,
        filter: &LetterFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError>;

    /// What stands in these letters, by their numbers. Those that are not there are left out.
    async fn letter_payloads(&self, ids: &[i64]) -> Result<Vec<(i64, Vec<u8>)>, StoreError>;

    /// Stores the events of those of these letters that are still dead, all in one transaction with everything that counts
    /// them and the audit row of the order. What is refused again stays dead, with the new reason. No quota is charged. An
    /// error has changed nothing; the same again finds only what is left to do.
    async fn redrive(&self, order: &RedriveOrder, ids: &[i64]) -> Result<Redriven, StoreError>;

    /// The latest redrives, newest first.
    async fn redrives(&self, limit: u32) -> Result<Vec<RedriveRecord>, StoreError>;

    /// Every plan.
    async fn plans(&self) -> Result<Vec<Plan>, StoreError>;

    /// Changes a plan, or makes it. Returns what it was and what it has become.
    async fn set_plan(&self, name: &str, change: &PlanChange) -> Result<(Option<Plan>, Plan), StoreError>;

    /// Usage of every project, by name, from `from` (inclusive) to `to` (exclusive); zeros for those without.
    async fn usage_of_all(
        &self,
        from: OffsetDateTime,
        to: OffsetDateTime,
    ) -> Result<Vec<ProjectUsage>, StoreError>;
}

/// One lane's own connection to the store.
#[async_trait]
pub trait Writer: Send {
    /// Stores these entries in one transaction: events, ledger, usage, dead letters. One [`Written`] per work, in
    /// order. After an error the writer must be dropped and a new one opened.
    async fn write(&mut self, works: &[Work]) -> Result<Vec<Written>, WriteError>;
}

/// A shared [`Store`] of any kind.
pub type SharedStore = std::sync::Arc<dyn Store>;
