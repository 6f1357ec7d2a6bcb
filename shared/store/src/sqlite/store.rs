//! The store itself: opens the file and calls the module that does the work.

use super::{accounts, clock, epochs, lost, migrate, upkeep, usage, watch, write};
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
    AccountChanges, Accounts, ChangeMark, ChangedAccounts, KeyUse, Ledger, ProjectTotals, ServerState,
    StoreError, StreamRecord, UpkeepPolicy, UpkeepReport, UsageRow, UsageWindow, WriteError, Writer,
};
use millrace_event::plan::{Account, ProjectId};
use millrace_event::{AcknowledgedBatch, BatchId, Epoch, Outcome, PendingBatch, ProjectCounters};

/// The [`crate::Store`] in one file, [`super::FILE_NAME`].
pub struct SqliteStore {
    pub(super) database: Arc<Database>,
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
    pub(super) async fn change_accounts<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let changed = self.write(work).await?;
        watch::notify(&self.accounts_changed);
        Ok(changed)
    }

    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let result = self.database.read(work).await;
        self.name_outdated_schema(result).await
    }

    pub(super) async fn write<T: Send + 'static>(
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

    async fn accounts_of(&self, projects: &[ProjectId]) -> Result<Vec<Account>, StoreError> {
        let mut accounts = self.accounts().await?;
        accounts.retain(|account| projects.contains(&account.project));
        Ok(accounts)
    }

    /// Does not know what has changed.
    async fn accounts_changed(&self, after: ChangeMark, at_most: Duration) -> AccountChanges {
        let start = || AccountsWatcher::start(Arc::clone(&self.database), Arc::clone(&self.accounts_changed));
        self.watch.get_or_init(start);
        tokio::select! {
            () = self.accounts_changed.notified() => {}
            () = tokio::time::sleep(at_most) => {}
        }
        AccountChanges { mark: after, changed: ChangedAccounts::All }
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

    async fn stream_record(&self, shard: u16) -> Result<StreamRecord, StoreError> {
        self.read(move |connection| lost::stream_record(connection, shard)).await
    }

    async fn not_in_ledger(
        &self,
        batches: &[AcknowledgedBatch],
    ) -> Result<Vec<AcknowledgedBatch>, StoreError> {
        let batches = batches.to_vec();
        self.read(move |connection| lost::not_in_ledger(connection, &batches)).await
    }

    async fn record_lost(
        &self,
        shard: u16,
        batches: &[AcknowledgedBatch],
    ) -> Result<Vec<BatchId>, StoreError> {
        let batches = batches.to_vec();
        self.write(move |connection| lost::record(connection, shard, &batches)).await
    }

    async fn shards_recorded(&self) -> Result<u16, StoreError> {
        self.read(epochs::shards_recorded).await
    }

    async fn replace_epoch(&self, shard: u16, old: Option<Epoch>, new: Epoch) -> Result<bool, StoreError> {
        self.write(move |connection| epochs::replace(connection, shard, old, new)).await
    }

    async fn shards_with_replicas(&self) -> Result<Vec<u16>, StoreError> {
        self.read(epochs::shards_with_replicas).await
    }

    async fn record_replicas(&self, shard: u16) -> Result<bool, StoreError> {
        self.write(move |connection| epochs::record_replicas(connection, shard)).await
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

    async fn servers(&self) -> Result<Option<ServerState>, StoreError> {
        Ok(None)
    }

    async fn record_timeline(&self, _old: Option<u32>, _new: u32) -> Result<bool, StoreError> {
        Ok(false)
    }

    async fn upkeep(&self, policy: &UpkeepPolicy) -> Result<Option<UpkeepReport>, StoreError> {
        let result = upkeep::round(&self.database, policy).await;
        self.name_outdated_schema(result).await.map(Some)
    }
}
