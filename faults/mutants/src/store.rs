//! The store of the product, whose writers may have a bug around them. Everything else is passed on.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use millrace_event::limit::{Amount, Charge, CounterState, LimitSet, Period};
use millrace_event::meter::{Meter, MeterDefinition, MeterId};
use millrace_event::plan::{Account, Plan, ProjectId};
use millrace_event::{AcknowledgedBatch, BatchId, Epoch, Outcome, PendingBatch, ProjectCounters};
use millrace_store::{
    AccountChanges, Accounts, AdminKey, AdminKeyInfo, AdminKeys, BackfillStep, CancelOrder, CancelOutcome,
    Cancellations, ChangeMark, ClaimedNotification, DeadLetter, DeliveryResult, Erasure, ErasureOrder,
    ErasurePlace, ErasureStep, Erasures, JsonColumns, KeyInfo, KeyOptions, KeyRotation, KeyUse, Ledger,
    LetterFilter, LetterPayload, LimitFilter, LimitInfo, Limits, LostHour, MeterCheck, MeterFaultCount,
    MeterInfo, MeterQuery, MeterRow, MeterStart, Meters, NewAdminKey, NewKey, Notification,
    NotificationBacklog, NotificationState, Operators, PlanChange, PlanUpdate, PolicyChange, PolicyUpdate,
    ProjectInfo, ProjectTotals, ProjectUsage, RecordsPlace, RedriveOrder, RedriveRecord, RedriveResult,
    RejectionCount, RejectionKind, RejectionReport, RejectionSample, RejectionSum, Rejections, ServerState,
    SharedStore, StoreError, StreamRecord, SubjectRecords, ThresholdDefinition, ThresholdInfo,
    ThresholdUpdate, Thresholds, UpkeepPolicy, UpkeepReport, UsageRow, UsageWindow, WriteError, Writer,
};
use millrace_stream::SharedStream;
use time::OffsetDateTime;
use tokio_postgres::Config;
use uuid::Uuid;

use crate::mutant::Mutant;
use crate::writer::{EarlySettler, EpochIgnorer, IdRecognizer, RefundForgetter};

pub struct MutantStore {
    pub inner: SharedStore,
    pub mutant: Mutant,
    pub stream: SharedStream,
    /// `None` when the store is a file.
    pub database: Option<Config>,
}

/// Implements a trait: some methods as written, the others by calling the same method of the product's store.
macro_rules! implement {
    ($trait:ident { $($own:item)* } $(async fn $name:ident(&self $(, $arg:ident: $type:ty)*) $(-> $result:ty)?;)*) => {
        #[async_trait]
        impl $trait for MutantStore {
            $($own)*
            $(async fn $name(&self $(, $arg: $type)*) $(-> $result)? { self.inner.$name($($arg),*).await })*
        }
    };
}

implement! { Accounts {}
    async fn accounts(&self) -> Result<Vec<Account>, StoreError>;
    async fn accounts_of(&self, projects: &[ProjectId]) -> Result<Vec<Account>, StoreError>;
    async fn accounts_changed(&self, after: ChangeMark, at_most: Duration) -> AccountChanges;
    async fn touch_keys(&self, uses: &[KeyUse]) -> Result<(), StoreError>;
    async fn batch(&self, project: ProjectId, batch_id: BatchId) -> Result<Option<Outcome>, StoreError>;
    async fn usage(
        &self, project: ProjectId, from: OffsetDateTime, to: OffsetDateTime, window: UsageWindow
    ) -> Result<Vec<UsageRow>, StoreError>;
}

implement! { AdminKeys {}
    async fn create_admin_key(&self, name: &str, chosen: Option<&str>) -> Result<NewAdminKey, StoreError>;
    async fn admin_keys(&self) -> Result<Vec<AdminKeyInfo>, StoreError>;
    async fn revoke_admin_key(&self, admin_key_id: i64) -> Result<bool, StoreError>;
    async fn admin_key(&self, key_hash: &[u8; 32]) -> Result<Option<AdminKey>, StoreError>;
}

implement! { Cancellations {}
    async fn cancel_events(&self, order: &CancelOrder) -> Result<Vec<CancelOutcome>, StoreError>;
}

implement! { Erasures {}
    async fn begin_erasure(&self, order: &ErasureOrder) -> Result<Erasure, StoreError>;
    async fn erase_step(&self, erasure: &Erasure, place: ErasurePlace) -> Result<ErasureStep, StoreError>;
    async fn finish_erasure(&self, erasure: &Erasure) -> Result<Erasure, StoreError>;
    async fn erasures(&self, project: Option<ProjectId>, limit: u32) -> Result<Vec<Erasure>, StoreError>;
    async fn subject_records(
        &self, project: ProjectId, subject: &str, place: &RecordsPlace
    ) -> Result<SubjectRecords, StoreError>;
    async fn has_subject_index(&self) -> Result<bool, StoreError>;
    async fn create_subject_index(&self) -> Result<bool, StoreError>;
    async fn drop_subject_index(&self) -> Result<bool, StoreError>;
}

implement! { Ledger {
    async fn writer(&self, name: &str) -> Result<Box<dyn Writer>, WriteError> {
        let inner = self.inner.writer(name).await?;
        Ok(match (self.mutant, &self.database) {
            (Mutant::AckBeforeCommit, _) => {
                Box::new(EarlySettler { inner, stream: SharedStream::clone(&self.stream) })
            }
            (Mutant::CommitsUnderAnOldEpoch, _) => Box::new(EpochIgnorer { inner }),
            (Mutant::LimitsKeptAtRedelivery, _) => Box::new(RefundForgetter { inner }),
            (Mutant::DedupeByStreamId, Some(database)) => Box::new(IdRecognizer::open(inner, database).await?),
            _ => inner,
        })
    }
}
    async fn totals(&self, count_rows: bool) -> Result<Vec<ProjectTotals>, StoreError>;
    async fn epoch(&self, shard: u16) -> Result<Option<Epoch>, StoreError>;
    async fn stream_record(&self, shard: u16) -> Result<StreamRecord, StoreError>;
    async fn not_in_ledger(&self, batches: &[AcknowledgedBatch]) -> Result<Vec<AcknowledgedBatch>, StoreError>;
    async fn record_lost(&self, shard: u16, batches: &[AcknowledgedBatch]) -> Result<Vec<BatchId>, StoreError>;
    async fn shards_recorded(&self) -> Result<u16, StoreError>;
    async fn replace_epoch(&self, shard: u16, old: Option<Epoch>, new: Epoch) -> Result<bool, StoreError>;
    async fn shards_with_replicas(&self) -> Result<Vec<u16>, StoreError>;
    async fn record_replicas(&self, shard: u16) -> Result<bool, StoreError>;
    async fn replace_shards(&self, recorded: &[Option<Epoch>], shards: u16) -> Result<bool, StoreError>;
    async fn servers(&self) -> Result<Option<ServerState>, StoreError>;
    async fn record_timeline(&self, old: Option<u32>, new: u32) -> Result<bool, StoreError>;
    async fn counters_for_rebuild(
        &self, shard: u16, shards: u16, pending: &[PendingBatch]
    ) -> Result<Vec<ProjectCounters>, StoreError>;
    async fn upkeep(&self, policy: &UpkeepPolicy) -> Result<Option<UpkeepReport>, StoreError>;
}

implement! { Operators {}
    async fn check_server(&self) -> Result<(), StoreError>;
    async fn distribute(&self) -> Result<bool, StoreError>;
    async fn migrate(&self) -> Result<Vec<String>, StoreError>;
    async fn migrate_with(&self, columns: JsonColumns) -> Result<Vec<String>, StoreError>;
    async fn json_columns(&self) -> Result<Option<JsonColumns>, StoreError>;
    async fn check_schema(&self) -> Result<(), StoreError>;
    async fn create_project(
        &self, name: &str, plan: &str, policy: &PolicyChange, key: &KeyOptions
    ) -> Result<(ProjectId, NewKey), StoreError>;
    async fn create_key(&self, project: &str, key: &KeyOptions) -> Result<NewKey, StoreError>;
    async fn revoke_key(&self, key_id: i64) -> Result<bool, StoreError>;
    async fn rotate_key(
        &self, key_id: i64, overlap: Duration, key: Option<&str>
    ) -> Result<KeyRotation, StoreError>;
    async fn keys(&self, project: Option<ProjectId>) -> Result<Vec<KeyInfo>, StoreError>;
    async fn project(&self, name: &str) -> Result<Option<ProjectInfo>, StoreError>;
    async fn projects_after(&self, name: &str, limit: u32) -> Result<Vec<ProjectInfo>, StoreError>;
    async fn projects(&self) -> Result<Vec<ProjectInfo>, StoreError>;
    async fn move_project(&self, project: ProjectId, plan: &str) -> Result<(), StoreError>;
    async fn set_policy(&self, project: ProjectId, change: &PolicyChange) -> Result<PolicyUpdate, StoreError>;
    async fn dead_letters(
        &self, filter: &LetterFilter, before: Option<i64>, limit: u32
    ) -> Result<Vec<DeadLetter>, StoreError>;
    async fn letter_payloads(&self, ids: &[i64]) -> Result<Vec<LetterPayload>, StoreError>;
    async fn redrive(&self, order: &RedriveOrder, ids: &[i64]) -> Result<RedriveResult, StoreError>;
    async fn lost_batches(&self) -> Result<Vec<LostHour>, StoreError>;
    async fn review_lost_batches(&self) -> Result<u64, StoreError>;
    async fn redrives(&self, limit: u32) -> Result<Vec<RedriveRecord>, StoreError>;
    async fn plans(&self) -> Result<Vec<Plan>, StoreError>;
    async fn set_plan(&self, name: &str, change: &PlanChange) -> Result<PlanUpdate, StoreError>;
    async fn usage_of_all(
        &self, from: OffsetDateTime, to: OffsetDateTime
    ) -> Result<Vec<ProjectUsage>, StoreError>;
}

implement! { Limits {}
    async fn set_limit(
        &self, project: &str, slug: &str, period: Period, subject: Option<&str>, amount: Amount
    ) -> Result<LimitInfo, StoreError>;
    async fn delete_limit(
        &self, project: &str, slug: &str, period: Period, subject: Option<&str>
    ) -> Result<bool, StoreError>;
    async fn limits(&self, filter: &LimitFilter) -> Result<Vec<LimitInfo>, StoreError>;
    async fn limit_versions(&self) -> Result<HashMap<ProjectId, i64>, StoreError>;
    async fn limit_set(&self, project: ProjectId) -> Result<LimitSet, StoreError>;
    async fn limits_for_rebuild(
        &self, shard: u16, shards: u16, pending: &[(PendingBatch, Vec<Charge>)]
    ) -> Result<Vec<(ProjectId, CounterState)>, StoreError>;
}

implement! { Meters {}
    async fn create_meter(
        &self, project: &str, definition: &MeterDefinition, start: MeterStart
    ) -> Result<MeterInfo, StoreError>;
    async fn meters(&self, project: Option<ProjectId>) -> Result<Vec<MeterInfo>, StoreError>;
    async fn delete_meter(&self, project: &str, slug: &str) -> Result<bool, StoreError>;
    async fn backfill(&self, meter: MeterId, events_max: u32) -> Result<BackfillStep, StoreError>;
    async fn move_additions(&self) -> Result<u64, StoreError>;
    async fn meter_usage(&self, meter: &Meter, query: &MeterQuery) -> Result<Vec<MeterRow>, StoreError>;
    async fn meter_faults(&self, meter: MeterId) -> Result<Vec<MeterFaultCount>, StoreError>;
    async fn check_meters(&self) -> Result<Vec<MeterCheck>, StoreError>;
    async fn wrong_figures(&self, meter: &Meter, from_us: i64, to_us: i64) -> Result<u64, StoreError>;
}

implement! { Thresholds {}
    async fn set_threshold(
        &self, project: &str, definition: &ThresholdDefinition
    ) -> Result<ThresholdUpdate, StoreError>;
    async fn thresholds(&self, project: Option<ProjectId>) -> Result<Vec<ThresholdInfo>, StoreError>;
    async fn delete_threshold(&self, project: &str, name: &str) -> Result<bool, StoreError>;
    async fn rotate_webhook_secret(&self, project: &str, overlap: Duration) -> Result<String, StoreError>;
    async fn claim_notifications(
        &self, lease: Duration, limit: u32
    ) -> Result<Vec<ClaimedNotification>, StoreError>;
    async fn finish_delivery(
        &self, notification_id: i64, claim: Uuid, result: &DeliveryResult
    ) -> Result<bool, StoreError>;
    async fn notifications(
        &self, project: Option<ProjectId>, state: Option<NotificationState>, before: Option<i64>, limit: u32
    ) -> Result<Vec<Notification>, StoreError>;
    async fn retry_notification(&self, notification_id: i64) -> Result<bool, StoreError>;
    async fn notification_backlog(&self) -> Result<NotificationBacklog, StoreError>;
    async fn forget_notifications(&self) -> Result<u64, StoreError>;
}

implement! { Rejections {}
    async fn add_rejections(&self, report: &RejectionReport) -> Result<(), StoreError>;
    async fn rejections(
        &self, project: Option<ProjectId>, from: OffsetDateTime, to: OffsetDateTime
    ) -> Result<Vec<RejectionCount>, StoreError>;
    async fn rejection_sums(
        &self, from: OffsetDateTime, to: OffsetDateTime, limit: u32
    ) -> Result<Vec<RejectionSum>, StoreError>;
    async fn rejection_samples(
        &self, project: Option<ProjectId>, kinds: &[RejectionKind], limit: u32
    ) -> Result<Vec<RejectionSample>, StoreError>;
}
