//! The store itself: opens the file and calls the module that does the work.

use super::{
    accounts, admin, clock, epochs, letters, migrate, redrive, rejections, upkeep, usage, watch, write,
};
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use time::OffsetDateTime;
use tokio::sync::Notify;

use super::database::Database;
use super::error::{self, FILE_NAME};
use super::watch::AccountsWatcher;
use crate::{
    Accounts, DeadLetter, KeyInfo, KeyOptions, KeyRotation, KeyUse, Ledger, LetterFilter, LetterPayload,
    NewKey, Operators, PlanChange, PlanUpdate, PolicyChange, PolicyUpdate, ProjectInfo, ProjectTotals,
    ProjectUsage, RedriveOrder, RedriveRecord, RedriveResult, RejectionCount, RejectionKind, RejectionReport,
    RejectionSample, RejectionSum, Rejections, StoreError, UpkeepPolicy, UpkeepReport, UsageRow, UsageWindow,
    WriteError, Writer,
};
use millrace_event::plan::{Account, Plan, ProjectId};
use millrace_event::{BatchId, Epoch, Outcome, PendingBatch, ProjectCounters};

/// The [`crate::Store`] in one file, [`super::FILE_NAME`].
pub struct SqliteStore {
    database: Arc<Database>,
    accounts_changed: Arc<Notify>,
    watch: OnceLock<AccountsWatcher>,
}

impl SqliteStore {
    /// As [`SqliteStore::open`], for the service: a file that does not exist is created with all its tables,
    /// so that no other process ever finds it without them.
    ///
    /// # Errors
    /// As [`SqliteStore::open`].
    pub fn open_or_create(folder: &Path) -> Result<Arc<Self>, StoreError> {
        create_folder(folder)?;
        Database::create(folder, |connection| migrate::migrate(connection).map(drop))?;
        Self::open(folder)
    }

    /// Opens the file in this folder. Creates both if they do not exist; only this user can read a new
    /// folder.
    ///
    /// # Errors
    /// When the folder cannot be created, or the file is not a writable database.
    pub fn open(folder: &Path) -> Result<Arc<Self>, StoreError> {
        create_folder(folder)?;
        let database = Database::open(folder).map_err(|error| match error::is_damage(&error) {
            true => damaged(folder, &error),
            false => error.into(),
        })?;
        Ok(Arc::new(Self {
            database: Arc::new(database),
            accounts_changed: Arc::default(),
            watch: OnceLock::new(),
        }))
    }

    /// Runs a closure that changes accounts. Callers in this process learn of it without waiting for the next
    /// poll.
    async fn change_accounts<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let changed = self.write(work).await?;
        watch::notify(&self.accounts_changed);
        Ok(changed)
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let result = self.database.read(work).await;
        self.name_outdated_schema(result).await
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let result = self.database.write(work).await;
        self.name_outdated_schema(result).await
    }

    /// Replaces an error of the database when missing migrations explain it.
    async fn name_outdated_schema<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        let Err(StoreError::Refused { message, .. }) = &result else { return result };
        match self.database.read(migrate::is_outdated).await {
            Ok(true) => Err(StoreError::SchemaOutdated(message.clone())),
            Ok(false) | Err(_) => result,
        }
    }
}

fn create_folder(folder: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        StoreError::Unavailable(format!("cannot create the folder {}: {error}", folder.display()))
    })
}

fn damaged(folder: &Path, error: &rusqlite::Error) -> StoreError {
    let file = folder.join(FILE_NAME);
    let message = format!(
        "{} is not a usable database: {error}. The file was not changed: restore it from a backup, or move it away \
         together with its -wal file to start without events",
        file.display()
    );
    StoreError::Refused { sqlstate: error::DAMAGED.to_owned(), message }
}

#[async_trait]
impl Accounts for SqliteStore {
    async fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        self.read(accounts::accounts).await
    }

    async fn accounts_changed(&self, at_most: Duration) {
        let start = || AccountsWatcher::start(Arc::clone(&self.database), Arc::clone(&self.accounts_changed));
        self.watch.get_or_init(start);
        tokio::select! {
            () = self.accounts_changed.notified() => {}
            () = tokio::time::sleep(at_most) => {}
        }
    }

    async fn touch_keys(&self, uses: &[KeyUse]) -> Result<(), StoreError> {
        let uses = uses.to_vec();
        self.write(move |connection| accounts::touch_keys(connection, &uses)).await
    }

    async fn batch(&self, project: ProjectId, batch_id: BatchId) -> Result<Option<Outcome>, StoreError> {
        self.read(move |connection| usage::batch(connection, project, batch_id)).await
    }

    async fn usage(
        &self,
        project: ProjectId,
        from: OffsetDateTime,
        to: OffsetDateTime,
        window: UsageWindow,
    ) -> Result<Vec<UsageRow>, StoreError> {
        let period = (clock::micros(from), clock::micros(to));
        self.read(move |connection| usage::usage(connection, project, period, window)).await
    }
}

#[async_trait]
impl Ledger for SqliteStore {
    async fn writer(&self, _name: &str) -> Result<Box<dyn Writer>, WriteError> {
        Ok(Box::new(write::SqliteWriter::new(Arc::clone(&self.database))))
    }

    async fn totals(&self, count_rows: bool) -> Result<Vec<ProjectTotals>, StoreError> {
        self.read(move |connection| usage::totals(connection, count_rows)).await
    }

    async fn epoch(&self, shard: u16) -> Result<Option<Epoch>, StoreError> {
        self.read(move |connection| epochs::epoch(connection, shard)).await
    }

    async fn shards_recorded(&self) -> Result<u16, StoreError> {
        self.read(epochs::shards_recorded).await
    }

    async fn replace_epoch(&self, shard: u16, old: Option<Epoch>, new: Epoch) -> Result<bool, StoreError> {
        self.write(move |connection| epochs::replace(connection, shard, old, new)).await
    }

    async fn replace_shards(&self, recorded: &[Option<Epoch>], shards: u16) -> Result<bool, StoreError> {
        let recorded = recorded.to_vec();
        self.write(move |connection| epochs::replace_shards(connection, &recorded, shards)).await
    }

    async fn counters_for_rebuild(
        &self,
        shard: u16,
        shards: u16,
        pending: &[PendingBatch],
    ) -> Result<Vec<ProjectCounters>, StoreError> {
        let pending = pending.to_vec();
        let count = move |connection: &_| usage::counters_for_rebuild(connection, shard, shards, &pending);
        self.read(count).await
    }

    async fn upkeep(&self, policy: &UpkeepPolicy) -> Result<Option<UpkeepReport>, StoreError> {
        let result = upkeep::round(&self.database, policy).await;
        self.name_outdated_schema(result).await.map(Some)
    }
}

#[async_trait]
impl Operators for SqliteStore {
    async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        self.write(migrate::migrate).await
    }

    async fn distribute(&self) -> Result<bool, StoreError> {
        Err(StoreError::Invalid(
            "--distribute is for PostgreSQL with the extension citus; this installation is on files"
                .to_owned(),
        ))
    }

    async fn check_schema(&self) -> Result<(), StoreError> {
        self.database.read(migrate::check).await
    }

    async fn create_project(
        &self,
        name: &str,
        plan: &str,
        policy: &PolicyChange,
        key: &KeyOptions,
    ) -> Result<(ProjectId, NewKey), StoreError> {
        let (name, plan, policy, key) = (name.to_owned(), plan.to_owned(), *policy, key.clone());
        let create =
            move |connection: &mut _| accounts::create_project(connection, &name, &plan, &policy, &key);
        self.change_accounts(create).await
    }

    async fn create_key(&self, project: &str, key: &KeyOptions) -> Result<NewKey, StoreError> {
        let (project, key) = (project.to_owned(), key.clone());
        let create = move |connection: &mut _| accounts::create_key(connection, &project, &key);
        self.change_accounts(create).await
    }

    async fn revoke_key(&self, key_id: i64) -> Result<bool, StoreError> {
        let revoke = move |connection: &mut _| accounts::revoke_key(connection, key_id);
        self.change_accounts(revoke).await
    }

    async fn rotate_key(
        &self,
        key_id: i64,
        overlap: Duration,
        key: Option<&str>,
    ) -> Result<KeyRotation, StoreError> {
        let key = key.map(str::to_owned);
        let rotate = move |connection: &mut _| admin::rotate_key(connection, key_id, overlap, key.as_deref());
        self.change_accounts(rotate).await
    }

    async fn keys(&self, project: Option<ProjectId>) -> Result<Vec<KeyInfo>, StoreError> {
        self.read(move |connection| admin::keys(connection, project)).await
    }

    async fn projects(&self) -> Result<Vec<ProjectInfo>, StoreError> {
        self.read(admin::projects).await
    }

    async fn move_project(&self, project: ProjectId, plan: &str) -> Result<(), StoreError> {
        let plan = plan.to_owned();
        let update = move |connection: &mut _| admin::move_project(connection, project, &plan);
        self.change_accounts(update).await
    }

    async fn set_policy(
        &self,
        project: ProjectId,
        change: &PolicyChange,
    ) -> Result<PolicyUpdate, StoreError> {
        let change = *change;
        let update = move |connection: &mut _| admin::set_policy(connection, project, &change);
        self.change_accounts(update).await
    }

    async fn dead_letters(
        &self,
        filter: &LetterFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let filter = filter.clone();
        self.read(move |connection| letters::letters(connection, &filter, before, limit)).await
    }

    async fn letter_payloads(&self, ids: &[i64]) -> Result<Vec<LetterPayload>, StoreError> {
        let ids = ids.to_vec();
        self.read(move |connection| letters::payloads(connection, &ids)).await
    }

    async fn redrive(&self, order: &RedriveOrder, ids: &[i64]) -> Result<RedriveResult, StoreError> {
        let (order, ids) = (order.clone(), ids.to_vec());
        self.write(move |connection| redrive::redrive(connection, &order, &ids)).await
    }

    async fn redrives(&self, limit: u32) -> Result<Vec<RedriveRecord>, StoreError> {
        self.read(move |connection| redrive::redrives(connection, limit)).await
    }

    async fn plans(&self) -> Result<Vec<Plan>, StoreError> {
        self.read(accounts::plans).await
    }

    async fn set_plan(&self, name: &str, change: &PlanChange) -> Result<PlanUpdate, StoreError> {
        let (name, change) = (name.to_owned(), *change);
        let set = move |connection: &mut _| admin::set_plan(connection, &name, &change);
        self.change_accounts(set).await
    }

    async fn usage_of_all(
        &self,
        from: OffsetDateTime,
        to: OffsetDateTime,
    ) -> Result<Vec<ProjectUsage>, StoreError> {
        self.read(move |connection| admin::usage_of_all(connection, from, to)).await
    }
}

#[async_trait]
impl Rejections for SqliteStore {
    async fn add_rejections(&self, report: &RejectionReport) -> Result<(), StoreError> {
        let report = report.clone();
        self.write(move |connection| rejections::add(connection, &report)).await
    }

    async fn rejections(
        &self,
        project: Option<ProjectId>,
        from: OffsetDateTime,
        to: OffsetDateTime,
    ) -> Result<Vec<RejectionCount>, StoreError> {
        let period = (clock::micros(from), clock::micros(to));
        self.read(move |connection| rejections::counts(connection, project, period)).await
    }

    async fn rejection_sums(
        &self,
        from: OffsetDateTime,
        to: OffsetDateTime,
        limit: u32,
    ) -> Result<Vec<RejectionSum>, StoreError> {
        let period = (clock::micros(from), clock::micros(to));
        self.read(move |connection| rejections::sums(connection, period, limit)).await
    }

    async fn rejection_samples(
        &self,
        project: Option<ProjectId>,
        kinds: &[RejectionKind],
        limit: u32,
    ) -> Result<Vec<RejectionSample>, StoreError> {
        let kinds = kinds.to_vec();
        self.read(move |connection| rejections::samples(connection, project, &kinds, limit)).await
    }
}
