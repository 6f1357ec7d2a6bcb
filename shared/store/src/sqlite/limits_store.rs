//! [`Limits`] of the store: calls the module that does the work.

use std::collections::HashMap;

use async_trait::async_trait;
use millrace_event::PendingBatch;
use millrace_event::limit::{Amount, Charge, CounterState, LimitSet, Period};
use millrace_event::plan::ProjectId;

use super::limits;
use super::store::SqliteStore;
use crate::{LimitFilter, LimitInfo, Limits, StoreError};

#[async_trait]
impl Limits for SqliteStore {
    async fn set_limit(
        &self,
        project: &str,
        slug: &str,
        period: Period,
        subject: Option<&str>,
        amount: Amount,
    ) -> Result<LimitInfo, StoreError> {
        let (project, slug, subject) = (project.to_owned(), slug.to_owned(), subject.map(str::to_owned));
        let set = move |connection: &mut _| {
            limits::set(connection, (&project, &slug), period, subject.as_deref(), amount)
        };
        self.change_accounts(set).await
    }

    async fn delete_limit(
        &self,
        project: &str,
        slug: &str,
        period: Period,
        subject: Option<&str>,
    ) -> Result<bool, StoreError> {
        let (project, slug, subject) = (project.to_owned(), slug.to_owned(), subject.map(str::to_owned));
        let delete = move |connection: &mut _| {
            limits::delete(connection, (&project, &slug), period, subject.as_deref())
        };
        self.change_accounts(delete).await
    }

    async fn limits(&self, filter: &LimitFilter) -> Result<Vec<LimitInfo>, StoreError> {
        let filter = filter.clone();
        self.read(move |connection| limits::list(connection, &filter)).await
    }

    async fn limit_versions(&self) -> Result<HashMap<ProjectId, i64>, StoreError> {
        self.read(limits::versions).await
    }

    async fn limit_set(&self, project: ProjectId) -> Result<LimitSet, StoreError> {
        self.read(move |connection| limits::set_of(connection, project)).await
    }

    async fn limits_for_rebuild(
        &self,
        shard: u16,
        shards: u16,
        pending: &[(PendingBatch, Vec<Charge>)],
    ) -> Result<Vec<(ProjectId, CounterState)>, StoreError> {
        let pending = pending.to_vec();
        self.read(move |connection| limits::for_rebuild(connection, shard, shards, &pending)).await
    }
}
