//! [`Limits`] of the store: opens connections and calls the module that does the work.

use std::collections::HashMap;

use async_trait::async_trait;
use millrace_event::PendingBatch;
use millrace_event::limit::{Amount, Charge, CounterState, LimitSet, Period};
use millrace_event::plan::ProjectId;

use super::deadline::{LONG, SHORT, within};
use super::limits;
use super::store::PostgresStore;
use crate::{LimitFilter, LimitInfo, Limits, StoreError};

#[async_trait]
impl Limits for PostgresStore {
    async fn set_limit(
        &self,
        project: &str,
        slug: &str,
        period: Period,
        subject: Option<&str>,
        amount: Amount,
    ) -> Result<LimitInfo, StoreError> {
        let set =
            async { limits::set(&**self.client().await?, (project, slug), period, subject, amount).await };
        within(SHORT, set).await
    }

    async fn delete_limit(
        &self,
        project: &str,
        slug: &str,
        period: Period,
        subject: Option<&str>,
    ) -> Result<bool, StoreError> {
        let delete =
            async { limits::delete(&**self.client().await?, (project, slug), period, subject).await };
        within(SHORT, delete).await
    }

    async fn limits(&self, filter: &LimitFilter) -> Result<Vec<LimitInfo>, StoreError> {
        within(SHORT, async { limits::list(&**self.client().await?, filter).await }).await
    }

    async fn limit_versions(&self) -> Result<HashMap<ProjectId, i64>, StoreError> {
        within(SHORT, async { limits::versions(&**self.client().await?).await }).await
    }

    async fn limit_set(&self, project: ProjectId) -> Result<LimitSet, StoreError> {
        within(LONG, async { limits::set_of(&**self.client().await?, project).await }).await
    }

    async fn limits_for_rebuild(
        &self,
        shard: u16,
        shards: u16,
        pending: &[(PendingBatch, Vec<Charge>)],
    ) -> Result<Vec<(ProjectId, CounterState)>, StoreError> {
        let rebuild = async { limits::for_rebuild(&mut self.client().await?, shard, shards, pending).await };
        within(LONG, rebuild).await
    }
}
