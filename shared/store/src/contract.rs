//! The traits that every store implements, one for each kind of caller.

use std::time::Duration;

use async_trait::async_trait;
use millrace_event::meter::{Meter, MeterDefinition, MeterId};
use millrace_event::plan::{Account, Plan, ProjectId};
use millrace_event::{AcknowledgedBatch, BatchId, Epoch, Outcome, PendingBatch, ProjectCounters};
use time::OffsetDateTime;

use crate::account_changes::{AccountChanges, ChangeMark};
use crate::admin::{
    KeyInfo, KeyOptions, KeyRotation, KeyUse, NewKey, PlanChange, PlanUpdate, PolicyChange, PolicyUpdate,
    ProjectInfo, ProjectUsage,
};
use crate::admin_keys::AdminKeys;
use crate::cancellations::Cancellations;
use crate::erasures::Erasures;
use crate::error::{StoreError, WriteError};
use crate::json_columns::JsonColumns;
use crate::letters::{DeadLetter, LetterFilter, LetterPayload};
use crate::limits::Limits;
use crate::lost::{LostHour, StreamRecord};
use crate::meters::{BackfillStep, MeterCheck, MeterFaultCount, MeterInfo, MeterQuery, MeterRow, MeterStart};
use crate::redrive::{RedriveOrder, RedriveRecord, RedriveResult};
use crate::rejections::{RejectionCount, RejectionKind, RejectionReport, RejectionSample, RejectionSum};
use crate::replication::ServerState;
use crate::thresholds::Thresholds;
use crate::totals::{ProjectTotals, UsageRow, UsageWindow};
use crate::upkeep::{UpkeepPolicy, UpkeepReport};
use crate::writer::Writer;

/// For API processes: accounts, and queries about batches and usage. No request waits for these calls to
/// accept a batch.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// One account for each live key.
    async fn accounts(&self) -> Result<Vec<Account>, StoreError>;

    /// The accounts of these projects, as [`Accounts::accounts`] returns them.
    async fn accounts_of(&self, projects: &[ProjectId]) -> Result<Vec<Account>, StoreError>;

    /// What has changed after this mark. Waits for a change, at most this long; may also return early. The
    /// accounts that are read after it returned have every change that it names, and the next call names
    /// every change that they do not have. A store that cannot tell returns
    /// [`crate::ChangedAccounts::All`].
    async fn accounts_changed(&self, after: ChangeMark, at_most: Duration) -> AccountChanges;

    /// Records when keys were last used. A time older than the recorded one changes nothing.
    async fn touch_keys(&self, uses: &[KeyUse]) -> Result<(), StoreError>;

    /// The outcome of a batch of this project, if it is in the ledger.
    async fn batch(&self, project: ProjectId, batch_id: BatchId) -> Result<Option<Outcome>, StoreError>;

    /// Usage from `from` (inclusive) to `to` (exclusive), oldest first. Both must be at a full hour
    /// ([`crate::full_hour`]): usage is kept by the hour. A window that begins before `from` or ends after
    /// `to` is cut to the period. Windows without usage have no row.
    async fn usage(
        &self,
        project: ProjectId,
        from: OffsetDateTime,
        to: OffsetDateTime,
        window: UsageWindow,
    ) -> Result<Vec<UsageRow>, StoreError>;
}

/// For workers, and for every process that checks the stream against the store: writing, totals, epochs,
/// upkeep.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Opens a writer for one lane. PostgreSQL shows `name` in its list of sessions.
    async fn writer(&self, name: &str) -> Result<Box<dyn Writer>, WriteError>;

    /// Totals of every project, in one snapshot. `count_rows` also counts the tables and sums the ledger,
    /// which takes long; without it `event_rows`, `cancelled_rows`, `dead_rows`, `ledger` and `ledger_hours`
    /// are 0.
    async fn totals(&self, count_rows: bool) -> Result<Vec<ProjectTotals>, StoreError>;

    /// The recorded epoch of a shard.
    async fn epoch(&self, shard: u16) -> Result<Option<Epoch>, StoreError>;

    /// The recorded epoch of a shard, and the highest entry of the shard that was written.
    async fn stream_record(&self, shard: u16) -> Result<StreamRecord, StoreError>;

    /// Those of these batches that are not in the ledger. A batch of the same id that was received earlier
    /// does not count: a client may have used its key again.
    async fn not_in_ledger(
        &self,
        batches: &[AcknowledgedBatch],
    ) -> Result<Vec<AcknowledgedBatch>, StoreError>;

    /// Records batches that the stream has lost. Returns those that were not on record.
    async fn record_lost(
        &self,
        shard: u16,
        batches: &[AcknowledgedBatch],
    ) -> Result<Vec<BatchId>, StoreError>;

    /// The number of shards with a recorded epoch, which is the number of shards of the installation.
    async fn shards_recorded(&self) -> Result<u16, StoreError>;

    /// Replaces a shard's recorded epoch if it is still `old`. Returns whether it was replaced.
    async fn replace_epoch(&self, shard: u16, old: Option<Epoch>, new: Epoch) -> Result<bool, StoreError>;

    /// The shards whose Redis had replicas when that was last recorded, in their order.
    async fn shards_with_replicas(&self) -> Result<Vec<u16>, StoreError>;

    /// Records that the Redis of a shard has replicas. False for a shard without a recorded epoch: nothing is
    /// recorded then. Only an operator takes the record back.
    async fn record_replicas(&self, shard: u16) -> Result<bool, StoreError>;

    /// Records that the installation has `shards` shards, each with an epoch that no stream holds, and
    /// forgets what was recorded of the old ones. Only if `recorded` are still the epochs of all shards;
    /// returns whether they were.
    async fn replace_shards(&self, recorded: &[Option<Epoch>], shards: u16) -> Result<bool, StoreError>;

    /// Recomputes the counters of a shard's projects from the store and the batches in the shard's stream:
    /// all-time accepted, pending, and this month's use, in one snapshot. A pending batch that is in the
    /// ledger is counted once.
    async fn counters_for_rebuild(
        &self,
        shard: u16,
        shards: u16,
        pending: &[PendingBatch],
    ) -> Result<Vec<ProjectCounters>, StoreError>;

    /// The timeline and the standbys of the server. `None` for a store that is a file.
    async fn servers(&self) -> Result<Option<ServerState>, StoreError>;

    /// Replaces the recorded timeline if it is still `old`. Returns whether it was replaced: of several
    /// processes that see a failover, one.
    async fn record_timeline(&self, old: Option<u32>, new: u32) -> Result<bool, StoreError>;

    /// Creates partitions ahead, moves rows into days made on demand, removes data past its retention, prunes
    /// the ledger, and terminates stuck sessions. Returns `None` immediately while another process does this.
    /// The store's writers make days on demand only after a first call, which tells them the retention.
    async fn upkeep(&self, policy: &UpkeepPolicy) -> Result<Option<UpkeepReport>, StoreError>;
}

/// For operators: schema, projects, keys, plans, dead letters.
#[async_trait]
pub trait Operators: Send + Sync {
    /// Checks that the server can be used at all: its version, and that no pooler breaks sessions. Every
    /// other call does this, too, until it succeeds once.
    ///
    /// # Errors
    /// [`StoreError::Unusable`]; any other error when the server cannot be asked.
    async fn check_server(&self) -> Result<(), StoreError>;

    /// Applies the missing migrations. Returns their names.
    async fn migrate(&self) -> Result<Vec<String>, StoreError>;

    /// As [`Operators::migrate`]. A new database gets JSON columns of this type.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when the database was installed with another type, and on files.
    async fn migrate_with(&self, columns: JsonColumns) -> Result<Vec<String>, StoreError>;

    /// The type of the JSON columns; `None` when there are no tables, and on files, which have JSON as text.
    async fn json_columns(&self) -> Result<Option<JsonColumns>, StoreError>;

    /// Distributes the table `events` over the worker nodes of Citus, by project. Returns whether it was not
    /// before.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] where that is not possible.
    async fn distribute(&self) -> Result<bool, StoreError>;

    /// Waits for a migration that is under way in another process, and checks that none is missing.
    ///
    /// # Errors
    /// [`StoreError::SchemaOutdated`], with the names of the missing migrations.
    async fn check_schema(&self) -> Result<(), StoreError>;

    /// Creates a project with a first key. `policy` changes the policy of a new project.
    async fn create_project(
        &self,
        name: &str,
        plan: &str,
        policy: &PolicyChange,
        key: &KeyOptions,
    ) -> Result<(ProjectId, NewKey), StoreError>;

    /// Creates another key for a project.
    async fn create_key(&self, project: &str, key: &KeyOptions) -> Result<NewKey, StoreError>;

    /// False when there is no such key or it is revoked already.
    async fn revoke_key(&self, key_id: i64) -> Result<bool, StoreError>;

    /// Replaces a live key with a new one of the same kind: `key`, or a random one. The old key expires after
    /// `overlap`.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] for a key that is revoked, expired, or was rotated before.
    async fn rotate_key(
        &self,
        key_id: i64,
        overlap: Duration,
        key: Option<&str>,
    ) -> Result<KeyRotation, StoreError>;

    /// Every key of one project, or of all projects, including revoked keys; oldest first.
    async fn keys(&self, project: Option<ProjectId>) -> Result<Vec<KeyInfo>, StoreError>;

    /// The project of this name.
    async fn project(&self, name: &str) -> Result<Option<ProjectInfo>, StoreError>;

    /// The first `limit` projects whose name comes after this one, ordered by name.
    async fn projects_after(&self, name: &str, limit: u32) -> Result<Vec<ProjectInfo>, StoreError>;

    /// Every project, ordered by name.
    async fn projects(&self) -> Result<Vec<ProjectInfo>, StoreError>;

    /// Moves a project to another plan.
    async fn move_project(&self, project: ProjectId, plan: &str) -> Result<(), StoreError>;

    /// Changes the policy of a project, for events that are received from then on.
    async fn set_policy(&self, project: ProjectId, change: &PolicyChange)
    -> Result<PolicyUpdate, StoreError>;

    /// Dead letters that match the filter, newest first: at most `limit`, with an id below `before`.
    async fn dead_letters(
        &self,
        filter: &LetterFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError>;

    /// The payloads of these letters, ordered by id. Letters that do not exist are left out.
    async fn letter_payloads(&self, ids: &[i64]) -> Result<Vec<LetterPayload>, StoreError>;

    /// Stores the events of those letters that are not redriven yet. One transaction covers the events, all
    /// their counts, and the audit row of the order. Events that are rejected again stay dead, with the new
    /// reason. No quota is charged. An error changes nothing, and a repetition finds only the letters that
    /// are left.
    async fn redrive(&self, order: &RedriveOrder, ids: &[i64]) -> Result<RedriveResult, StoreError>;

    /// The lost batches, as far as the ledger is kept, by project and hour. One that was stored after all is
    /// left out.
    async fn lost_batches(&self) -> Result<Vec<LostHour>, StoreError>;

    /// Marks every lost batch on record as seen by an operator. Returns how many were not.
    async fn review_lost_batches(&self) -> Result<u64, StoreError>;

    /// The latest redrives, newest first.
    async fn redrives(&self, limit: u32) -> Result<Vec<RedriveRecord>, StoreError>;

    /// Every plan, ordered by requests per minute.
    async fn plans(&self) -> Result<Vec<Plan>, StoreError>;

    /// Changes or creates a plan.
    async fn set_plan(&self, name: &str, change: &PlanChange) -> Result<PlanUpdate, StoreError>;

    /// Usage of every project, ordered by name, from `from` (inclusive) to `to` (exclusive), both at a full
    /// hour. Zeros for a project without usage.
    async fn usage_of_all(
        &self,
        from: OffsetDateTime,
        to: OffsetDateTime,
    ) -> Result<Vec<ProjectUsage>, StoreError>;
}

/// What was refused: API processes add it, owners and operators read it. Workers add dead letters and
/// conflicts themselves, in the transactions that write them.
#[async_trait]
pub trait Rejections: Send + Sync {
    /// Adds a report in one transaction, and deletes all but the last [`crate::SAMPLES_KEPT`] samples of each
    /// project and kind. A report that was added before changes nothing, so one whose answer was lost can be
    /// sent again.
    async fn add_rejections(&self, report: &RejectionReport) -> Result<(), StoreError>;

    /// The counts of one project, or of all projects, from `from` (inclusive) to `to` (exclusive), which must
    /// be full hours. Ordered by hour, project, kind and code.
    async fn rejections(
        &self,
        project: Option<ProjectId>,
        from: OffsetDateTime,
        to: OffsetDateTime,
    ) -> Result<Vec<RejectionCount>, StoreError>;

    /// The counts of all projects over this period, the largest first: at most `limit`.
    async fn rejection_sums(
        &self,
        from: OffsetDateTime,
        to: OffsetDateTime,
        limit: u32,
    ) -> Result<Vec<RejectionSum>, StoreError>;

    /// The last samples of one project, or of all projects, of one of these kinds; newest first, at most
    /// `limit`.
    async fn rejection_samples(
        &self,
        project: Option<ProjectId>,
        kinds: &[RejectionKind],
        limit: u32,
    ) -> Result<Vec<RejectionSample>, StoreError>;
}

/// Figures of customers: their definitions, which operators change, and what they are, which owners read.
/// Writers add to them in the transactions of the events.
#[async_trait]
pub trait Meters: Send + Sync {
    /// Creates a meter of a project.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a definition that is not usable, a project that does not exist, and a slug
    /// that is taken.
    async fn create_meter(
        &self,
        project: &str,
        definition: &MeterDefinition,
        start: MeterStart,
    ) -> Result<MeterInfo, StoreError>;

    /// The meters of one project, or of all projects, ordered by project and slug.
    async fn meters(&self, project: Option<ProjectId>) -> Result<Vec<MeterInfo>, StoreError>;

    /// Deletes a meter with its figures. False when the project has no such meter.
    async fn delete_meter(&self, project: &str, slug: &str) -> Result<bool, StoreError>;

    /// Counts about `events_max` events of the project that were stored before the meter, oldest first, in
    /// one transaction. Repeat it until the step is the last; an error or a killed process loses nothing.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when there is no such meter.
    async fn backfill(&self, meter: MeterId, events_max: u32) -> Result<BackfillStep, StoreError>;

    /// Moves what writers added to the figures, and removes figures of deleted meters. Returns how many rows
    /// it moved or removed; 0 when there is nothing to do. Readers see no difference.
    async fn move_additions(&self) -> Result<u64, StoreError>;

    /// The figures of a meter, ordered by window, subject and groups.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a time zone that is not known.
    async fn meter_usage(&self, meter: &Meter, query: &MeterQuery) -> Result<Vec<MeterRow>, StoreError>;

    /// What a meter does not count, the most frequent first.
    async fn meter_faults(&self, meter: MeterId) -> Result<Vec<MeterFaultCount>, StoreError>;

    /// Compares the figures of every meter with the events that are kept, which takes long.
    async fn check_meters(&self) -> Result<Vec<MeterCheck>, StoreError>;

    /// The number of figures of a meter that differ from the events that are kept, in the quarters of an hour
    /// from `from_us` (inclusive) to `to_us` (exclusive), in microseconds since 1970. Days of which retention
    /// has removed events are left out.
    async fn wrong_figures(&self, meter: &Meter, from_us: i64, to_us: i64) -> Result<u64, StoreError>;
}

/// A store for all kinds of callers.
pub trait Store:
    Accounts
    + AdminKeys
    + Cancellations
    + Erasures
    + Ledger
    + Limits
    + Meters
    + Operators
    + Rejections
    + Thresholds
{
}

impl<T> Store for T where
    T: Accounts
        + AdminKeys
        + Cancellations
        + Erasures
        + Ledger
        + Limits
        + Meters
        + Operators
        + Rejections
        + Thresholds
{
}

pub type SharedStore = std::sync::Arc<dyn Store>;
