//! [`Thresholds`] of the store: calls the module that does the work.

use std::time::Duration;

use async_trait::async_trait;
use millrace_event::plan::ProjectId;
use uuid::Uuid;

use super::store::SqliteStore;
use super::thresholds;
use crate::{
    ClaimedNotification, DeliveryResult, Notification, NotificationBacklog, NotificationState, StoreError,
    ThresholdDefinition, ThresholdInfo, ThresholdUpdate, Thresholds,
};

#[async_trait]
impl Thresholds for SqliteStore {
    async fn set_threshold(
        &self,
        project: &str,
        definition: &ThresholdDefinition,
    ) -> Result<ThresholdUpdate, StoreError> {
        let (project, definition) = (project.to_owned(), definition.clone());
        self.write(move |connection| thresholds::set(connection, &project, &definition)).await
    }

    async fn thresholds(&self, project: Option<ProjectId>) -> Result<Vec<ThresholdInfo>, StoreError> {
        self.read(move |connection| thresholds::thresholds(connection, project)).await
    }

    async fn delete_threshold(&self, project: &str, name: &str) -> Result<bool, StoreError> {
        let (project, name) = (project.to_owned(), name.to_owned());
        self.write(move |connection| thresholds::delete(connection, &project, &name)).await
    }

    async fn rotate_webhook_secret(&self, project: &str, overlap: Duration) -> Result<String, StoreError> {
        let project = project.to_owned();
        self.write(move |connection| thresholds::rotate(connection, &project, overlap)).await
    }

    async fn claim_notifications(
        &self,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<ClaimedNotification>, StoreError> {
        self.write(move |connection| thresholds::claim(connection, lease, limit)).await
    }

    async fn finish_delivery(
        &self,
        notification_id: i64,
        claim: Uuid,
        result: &DeliveryResult,
    ) -> Result<bool, StoreError> {
        let result = result.clone();
        self.write(move |connection| thresholds::finish(connection, notification_id, claim, &result)).await
    }

    async fn notifications(
        &self,
        project: Option<ProjectId>,
        state: Option<NotificationState>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Notification>, StoreError> {
        self.read(move |connection| thresholds::notifications(connection, project, state, before, limit))
            .await
    }

    async fn retry_notification(&self, notification_id: i64) -> Result<bool, StoreError> {
        self.write(move |connection| thresholds::retry(connection, notification_id)).await
    }

    async fn notification_backlog(&self) -> Result<NotificationBacklog, StoreError> {
        self.read(thresholds::backlog).await
    }

    async fn forget_notifications(&self) -> Result<u64, StoreError> {
        self.write(|connection| thresholds::forget(connection)).await
    }
}
