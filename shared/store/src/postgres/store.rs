//! The store itself: opens connections and calls the module that does the work.

use super::distribution::WritersPause;
use super::{
    accounts, admin, distribution, epochs, json_columns, letters, listen, lost, migrate, on_demand, pool,
    pooler, recent, redrive, rejections, replication, upkeep, usage, write,
};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::Pool;
use time::OffsetDateTime;
use tokio::sync::OnceCell;

use super::address::PostgresSource;
use super::connector::Connector;
use super::deadline::{LONG, SHORT, within};
use crate::{
    AccountChanges, Accounts, ChangeMark, DeadLetter, JsonColumns, KeyInfo, KeyOptions, KeyRotation, KeyUse,
    Ledger, LetterFilter, LetterPayload, LostHour, NewKey, Operators, PlanChange, PlanUpdate, PolicyChange,
    PolicyUpdate, ProjectInfo, ProjectTotals, ProjectUsage, RedriveOrder, RedriveRecord, RedriveResult,
    RejectionCount, RejectionKind, RejectionReport, RejectionSample, RejectionSum, Rejections, ServerState,
    StoreError, StreamRecord, UpkeepPolicy, UpkeepReport, UsageRow, UsageWindow, WriteError, Writer,
};
use millrace_event::plan::{Account, Plan, ProjectId};
use millrace_event::{AcknowledgedBatch, BatchId, Epoch, Outcome, PendingBatch, ProjectCounters};

#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Where PostgreSQL is. Read again for every connection.
    pub source: PostgresSource,
    /// Connections for everything but writers, upkeep, migrations and listening. At least 1.
    pub pool_size: usize,
    /// Application name of the sessions, except for writers: theirs is `millrace-worker:<name>`.
    pub application: &'static str,
}

/// The [`crate::Store`] on PostgreSQL 15 or newer. Connects at its first call.
pub struct PostgresStore {
    pub(super) connector: Connector,
    pool: Pool,
    /// Set once the server was found usable.
    usable: OnceCell<()>,
    listener: OnceLock<listen::Listener>,
    /// 32 MiB, made for the first writer: an API process has none.
    recent: OnceLock<Arc<recent::RecentKeys>>,
    event_days: Arc<on_demand::EventDays>,
}

impl PostgresStore {
    /// For a process that serves: it uses only a server that takes writes. After a failover, the old primary
    /// may live on as a standby, which answers every read with the past. Makes no connection.
    pub fn new(options: PostgresOptions) -> Arc<Self> {
        Self::with(options, true)
    }

    /// For an operator's command. Of several servers it uses the one that takes writes: the others would
    /// refuse a change, and answer with the past. It may read from a standby that is the only one named.
    /// Makes no connection.
    pub fn for_command(options: PostgresOptions) -> Arc<Self> {
        Self::with(options, false)
    }

    fn with(options: PostgresOptions, must_write: bool) -> Arc<Self> {
        let connector = Connector::new(options.source, options.application, must_write);
        let pool = pool::build(connector.clone(), options.pool_size);
        Arc::new(Self {
            connector,
            pool,
            usable: OnceCell::new(),
            listener: OnceLock::new(),
            recent: OnceLock::new(),
            event_days: Arc::default(),
        })
    }

    pub(super) async fn client(&self) -> Result<deadpool_postgres::Client, StoreError> {
        self.check_usable().await?;
        Ok(pool::client(&self.pool).await?)
    }

    /// Checks, until it succeeds once, that the server is new enough and its sessions are real.
    async fn check_usable(&self) -> Result<(), StoreError> {
        self.usable.get_or_try_init(|| async { Ok(pooler::check(&self.connector).await?) }).await.copied()
    }
}

#[async_trait]
impl Accounts for PostgresStore {
    async fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        within(SHORT, async { accounts::accounts(&self.client().await?).await }).await
    }

    async fn accounts_of(&self, projects: &[ProjectId]) -> Result<Vec<Account>, StoreError> {
        within(SHORT, async { accounts::accounts_of(&self.client().await?, projects).await }).await
    }

    async fn accounts_changed(&self, after: ChangeMark, at_most: Duration) -> AccountChanges {
        let start = || listen::Listener::start(&self.connector);
        self.listener.get_or_init(start).changes(after, at_most).await
    }

    async fn touch_keys(&self, uses: &[KeyUse]) -> Result<(), StoreError> {
        within(SHORT, async { accounts::touch_keys(&self.client().await?, uses).await }).await
    }

    async fn batch(&self, project: ProjectId, batch_id: BatchId) -> Result<Option<Outcome>, StoreError> {
        within(SHORT, async { usage::batch(&self.client().await?, project, batch_id).await }).await
    }

    async fn usage(
        &self,
        project: ProjectId,
        from: OffsetDateTime,
        to: OffsetDateTime,
        window: UsageWindow,
    ) -> Result<Vec<UsageRow>, StoreError> {
        within(SHORT, async { usage::usage(&self.client().await?, project, from, to, window).await }).await
    }
}

#[async_trait]
impl Ledger for PostgresStore {
    async fn writer(&self, name: &str) -> Result<Box<dyn Writer>, WriteError> {
        let recent = Arc::clone(self.recent.get_or_init(|| Arc::new(recent::RecentKeys::new())));
        let event_days = Arc::clone(&self.event_days);
        self.usable.get_or_try_init(|| pooler::check(&self.connector)).await?;
        Ok(Box::new(write::PostgresWriter::open(&self.connector, name, recent, event_days).await?))
    }

    async fn totals(&self, count_rows: bool) -> Result<Vec<ProjectTotals>, StoreError> {
        let limit = if count_rows { LONG } else { SHORT };
        let totals = async {
            let mut client = self.client().await?;
            let pause = match count_rows && distribution::is_distributed(&client).await? {
                true => Some(WritersPause::begin(&self.connector).await?),
                false => None,
            };
            usage::totals(&mut client, count_rows, pause).await
        };
        within(limit, totals).await
    }

    async fn epoch(&self, shard: u16) -> Result<Option<Epoch>, StoreError> {
        within(SHORT, async { epochs::epoch(&self.client().await?, shard).await }).await
    }

    async fn stream_record(&self, shard: u16) -> Result<StreamRecord, StoreError> {
        within(SHORT, async { lost::stream_record(&self.client().await?, shard).await }).await
    }

    async fn not_in_ledger(
        &self,
        batches: &[AcknowledgedBatch],
    ) -> Result<Vec<AcknowledgedBatch>, StoreError> {
        within(SHORT, async { lost::not_in_ledger(&self.client().await?, batches).await }).await
    }

    async fn record_lost(
        &self,
        shard: u16,
        batches: &[AcknowledgedBatch],
    ) -> Result<Vec<BatchId>, StoreError> {
        within(SHORT, async { lost::record(&self.client().await?, shard, batches).await }).await
    }

    async fn shards_recorded(&self) -> Result<u16, StoreError> {
        within(SHORT, async { epochs::shards_recorded(&self.client().await?).await }).await
    }

    async fn replace_epoch(&self, shard: u16, old: Option<Epoch>, new: Epoch) -> Result<bool, StoreError> {
        within(SHORT, async { epochs::replace(&mut self.client().await?, shard, old, new).await }).await
    }

    async fn shards_with_replicas(&self) -> Result<Vec<u16>, StoreError> {
        within(SHORT, async { epochs::shards_with_replicas(&self.client().await?).await }).await
    }

    async fn record_replicas(&self, shard: u16) -> Result<bool, StoreError> {
        within(SHORT, async { epochs::record_replicas(&self.client().await?, shard).await }).await
    }

    async fn replace_shards(&self, recorded: &[Option<Epoch>], shards: u16) -> Result<bool, StoreError> {
        within(SHORT, async { epochs::replace_shards(&mut self.client().await?, recorded, shards).await })
            .await
    }

    async fn counters_for_rebuild(
        &self,
        shard: u16,
        shards: u16,
        pending: &[PendingBatch],
    ) -> Result<Vec<ProjectCounters>, StoreError> {
        let rebuild =
            async { usage::counters_for_rebuild(&mut self.client().await?, shard, shards, pending).await };
        within(LONG, rebuild).await
    }

    async fn servers(&self) -> Result<Option<ServerState>, StoreError> {
        let look = async {
            let client = self.client().await?;
            let timeline = self.connector.lineage().check(&client).await?;
            replication::servers(&client, timeline).await.map(Some)
        };
        within(SHORT, look).await
    }

    async fn record_timeline(&self, old: Option<u32>, new: u32) -> Result<bool, StoreError> {
        let record = async {
            let client = self.client().await?;
            replication::record(&client, old, new).await
        };
        within(SHORT, record).await
    }

    async fn upkeep(&self, policy: &UpkeepPolicy) -> Result<Option<UpkeepReport>, StoreError> {
        within(LONG, upkeep::round(&self.connector, policy, &self.event_days)).await
    }
}

#[async_trait]
impl Operators for PostgresStore {
    async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        within(LONG, async {
            self.check_usable().await?;
            migrate::migrate(&self.connector, None).await
        })
        .await
    }

    async fn migrate_with(&self, columns: JsonColumns) -> Result<Vec<String>, StoreError> {
        within(LONG, async {
            self.check_usable().await?;
            migrate::migrate(&self.connector, Some(columns)).await
        })
        .await
    }

    async fn json_columns(&self) -> Result<Option<JsonColumns>, StoreError> {
        within(SHORT, async { Ok(json_columns::installed(&**self.client().await?).await?) }).await
    }

    async fn check_server(&self) -> Result<(), StoreError> {
        within(SHORT, self.check_usable()).await
    }

    async fn distribute(&self) -> Result<bool, StoreError> {
        within(LONG, distribution::distribute(&self.connector)).await
    }

    async fn check_schema(&self) -> Result<(), StoreError> {
        within(LONG, async {
            self.check_usable().await?;
            migrate::check(&self.connector).await
        })
        .await
    }

    async fn create_project(
        &self,
        name: &str,
        plan: &str,
        policy: &PolicyChange,
        key: &KeyOptions,
    ) -> Result<(ProjectId, NewKey), StoreError> {
        let create =
            async { accounts::create_project(&mut self.client().await?, name, plan, policy, key).await };
        within(SHORT, create).await
    }

    async fn create_key(&self, project: &str, key: &KeyOptions) -> Result<NewKey, StoreError> {
        let create = async { accounts::create_key(&mut self.client().await?, project, key).await };
        within(SHORT, create).await
    }

    async fn revoke_key(&self, key_id: i64) -> Result<bool, StoreError> {
        within(SHORT, async { accounts::revoke_key(&self.client().await?, key_id).await }).await
    }

    async fn rotate_key(
        &self,
        key_id: i64,
        overlap: Duration,
        key: Option<&str>,
    ) -> Result<KeyRotation, StoreError> {
        let rotate = async { admin::rotate_key(&mut self.client().await?, key_id, overlap, key).await };
        within(SHORT, rotate).await
    }

    async fn keys(&self, project: Option<ProjectId>) -> Result<Vec<KeyInfo>, StoreError> {
        within(SHORT, async { admin::keys(&self.client().await?, project).await }).await
    }

    async fn project(&self, name: &str) -> Result<Option<ProjectInfo>, StoreError> {
        within(SHORT, async { admin::project(&self.client().await?, name).await }).await
    }

    async fn projects_after(&self, name: &str, limit: u32) -> Result<Vec<ProjectInfo>, StoreError> {
        within(SHORT, async { admin::projects_after(&self.client().await?, name, limit).await }).await
    }

    async fn projects(&self) -> Result<Vec<ProjectInfo>, StoreError> {
        within(SHORT, async { admin::projects(&self.client().await?).await }).await
    }

    async fn move_project(&self, project: ProjectId, plan: &str) -> Result<(), StoreError> {
        within(SHORT, async { admin::move_project(&self.client().await?, project, plan).await }).await
    }

    async fn set_policy(
        &self,
        project: ProjectId,
        change: &PolicyChange,
    ) -> Result<PolicyUpdate, StoreError> {
        within(SHORT, async { admin::set_policy(&mut self.client().await?, project, change).await }).await
    }

    async fn dead_letters(
        &self,
        filter: &LetterFilter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        within(SHORT, async { letters::letters(&self.client().await?, filter, before, limit).await }).await
    }

    async fn letter_payloads(&self, ids: &[i64]) -> Result<Vec<LetterPayload>, StoreError> {
        within(SHORT, async { letters::payloads(&self.client().await?, ids).await }).await
    }

    async fn redrive(&self, order: &RedriveOrder, ids: &[i64]) -> Result<RedriveResult, StoreError> {
        within(LONG, async { redrive::redrive(&mut self.client().await?, order, ids).await }).await
    }

    async fn lost_batches(&self) -> Result<Vec<LostHour>, StoreError> {
        within(SHORT, async { lost::by_hour(&self.client().await?).await }).await
    }

    async fn review_lost_batches(&self) -> Result<u64, StoreError> {
        within(SHORT, async { lost::review(&self.client().await?).await }).await
    }

    async fn redrives(&self, limit: u32) -> Result<Vec<RedriveRecord>, StoreError> {
        within(SHORT, async { letters::redrives(&self.client().await?, limit).await }).await
    }

    async fn plans(&self) -> Result<Vec<Plan>, StoreError> {
        within(SHORT, async { accounts::plans(&self.client().await?).await }).await
    }

    async fn set_plan(&self, name: &str, change: &PlanChange) -> Result<PlanUpdate, StoreError> {
        within(SHORT, async { admin::set_plan(&mut self.client().await?, name, change).await }).await
    }

    async fn usage_of_all(
        &self,
        from: OffsetDateTime,
        to: OffsetDateTime,
    ) -> Result<Vec<ProjectUsage>, StoreError> {
        within(SHORT, async { admin::usage_of_all(&self.client().await?, from, to).await }).await
    }
}

#[async_trait]
impl Rejections for PostgresStore {
    async fn add_rejections(&self, report: &RejectionReport) -> Result<(), StoreError> {
        within(SHORT, async { rejections::add(&mut self.client().await?, report).await }).await
    }

    async fn rejections(
        &self,
        project: Option<ProjectId>,
        from: OffsetDateTime,
        to: OffsetDateTime,
    ) -> Result<Vec<RejectionCount>, StoreError> {
        within(SHORT, async { rejections::counts(&self.client().await?, project, from, to).await }).await
    }

    async fn rejection_sums(
        &self,
        from: OffsetDateTime,
        to: OffsetDateTime,
        limit: u32,
    ) -> Result<Vec<RejectionSum>, StoreError> {
        within(SHORT, async { rejections::sums(&self.client().await?, from, to, limit).await }).await
    }

    async fn rejection_samples(
        &self,
        project: Option<ProjectId>,
        kinds: &[RejectionKind],
        limit: u32,
    ) -> Result<Vec<RejectionSample>, StoreError> {
        let samples = async { rejections::samples(&self.client().await?, project, kinds, limit).await };
        within(SHORT, samples).await
    }
}
