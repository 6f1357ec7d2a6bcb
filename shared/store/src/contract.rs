//! The traits that every store implements, one for each audience.

use std::time::Duration;

use async_trait::async_trait;
use millrace_event::plan::{Account, Plan, ProjectId};
use millrace_event::{BatchId, Epoch, Outcome, PendingBatch, ProjectCounters};
use time::OffsetDateTime;

use crate::admin::{KeyInfo, KeyRotation, NewKey, PlanChange, ProjectInfo, ProjectUsage};
use crate::error::{StoreError, WriteError};
use crate::letters::{DeadLetter, LetterFilter};
use crate::redrive::{RedriveOrder, RedriveRecord, RedriveResult};
use crate::totals::{ProjectTotals, UsageRow, UsageWindow};
use crate::upkeep::{UpkeepPolicy, UpkeepReport};
use crate::writer::Writer;

/// What an API process asks: accounts, and reports on batches and usage. Never on the path of a batch.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// Every account, one per live key.
    async fn accounts(&self) -> Result<Vec<Account>, StoreError>;

    /// Returns when keys, projects or plans have changed, or after `at_most`. May return early for no reason.
    async fn accounts_changed(&self, at_most: Duration);

    /// Notes when keys were last used. Older times than what is there change nothing.
    async fn touch_keys(&self, used: &[(i64, OffsetDateTime)]) -> Result<(), StoreError>;

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
}

/// What workers and every process that keeps the stream trusted ask: writing, totals, epochs, upkeep.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Opens a writer of its own for one lane. `name` shows up in the database's list of sessions, where it has one.
    async fn writer(&self, name: &str) -> Result<Box<dyn Writer>, WriteError>;

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
    ) -> Result<Vec<ProjectCounters>, StoreError>;

    /// Partitions ahead, retention, ledger pruning, zombies. One process at a time does it; the others return at once.
    async fn upkeep(&self, policy: &UpkeepPolicy) -> Result<Option<UpkeepReport>, StoreError>;
}

/// What operators ask: schema, projects, keys, plans, dead letters.
#[async_trait]
pub trait Operators: Send + Sync {
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
    /// [`Operators::create_project`]. [`StoreError::Invalid`] for a key that is revoked, expired, or was rotated before.
    async fn rotate_key(
        &self,
        key_id: i64,
        overlap: Duration,
        key: Option<&str>,
    ) -> Result<KeyRotation, StoreError>;

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
    async fn redrive(&self, order: &RedriveOrder, ids: &[i64]) -> Result<RedriveResult, StoreError>;

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

/// A store of any kind, for all three audiences.
pub trait Store: Accounts + Ledger + Operators {}

impl<T: Accounts + Ledger + Operators> Store for T {}

/// A shared [`Store`] of any kind.
pub type SharedStore = std::sync::Arc<dyn Store>;
