//! What operators do, and what was refused.

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::store::SqliteStore;
use super::{accounts, admin, clock, letters, lost, migrate, redrive, rejections};
use crate::{
    DeadLetter, JsonColumns, KeyInfo, KeyOptions, KeyRotation, LetterFilter, LetterPayload, LostHour, NewKey,
    Operators, PlanChange, PlanUpdate, PolicyChange, PolicyUpdate, ProjectInfo, ProjectUsage, RedriveOrder,
    RedriveRecord, RedriveResult, RejectionCount, RejectionKind, RejectionReport, RejectionSample,
    RejectionSum, Rejections, StoreError,
};
use millrace_event::plan::{Plan, ProjectId};

#[async_trait]
impl Operators for SqliteStore {
    async fn check_server(&self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn migrate(&self) -> Result<Vec<String>, StoreError> {
        self.write(migrate::migrate).await
    }

    async fn migrate_with(&self, _columns: JsonColumns) -> Result<Vec<String>, StoreError> {
        Err(StoreError::Invalid(
            "--json-columns is for PostgreSQL; this installation is on files, which keep JSON as the text that was sent"
                .to_owned(),
        ))
    }

    async fn json_columns(&self) -> Result<Option<JsonColumns>, StoreError> {
        Ok(None)
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

    async fn project(&self, name: &str) -> Result<Option<ProjectInfo>, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| admin::project(connection, &name)).await
    }

    async fn projects_after(&self, name: &str, limit: u32) -> Result<Vec<ProjectInfo>, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| admin::projects_after(connection, &name, limit)).await
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

    async fn lost_batches(&self) -> Result<Vec<LostHour>, StoreError> {
        self.read(lost::by_hour).await
    }

    async fn review_lost_batches(&self) -> Result<u64, StoreError> {
        self.write(|connection| lost::review(connection)).await
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
