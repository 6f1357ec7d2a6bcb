//! [`Thresholds`] of the store: opens connections and calls the module that does the work.

use std::time::Duration;

use async_trait::async_trait;
use millrace_event::plan::ProjectId;
use uuid::Uuid;

use super::deadline::{LONG, SHORT, within};
use super::store::PostgresStore;
use super::thresholds;
use crate::{
    ClaimedNotification, DeliveryResult, Notification, NotificationBacklog, NotificationState, StoreError,
    ThresholdDefinition, ThresholdInfo, ThresholdUpdate, Thresholds,
};

#[async_trait]
impl Thresholds for PostgresStore {
    async fn set_threshold(
        &self,
        project: &str,
        definition: &ThresholdDefinition,
    ) -> Result<ThresholdUpdate, StoreError> {
        within(LONG, async { thresholds::set(&mut self.client().await?, project, definition).await }).await
    }

    async fn thresholds(&self, project: Option<ProjectId>) -> Result<Vec<ThresholdInfo>, StoreError> {
        within(SHORT, async { thresholds::thresholds(&**self.client().await?, project).await }).await
    }

    async fn delete_threshold(&self, project: &str, name: &str) -> Result<bool, StoreError> {
        within(LONG, async { thresholds::delete(&mut self.client().await?, project, name).await }).await
    }

    async fn rotate_webhook_secret(&self, project: &str, overlap: Duration) -> Result<String, StoreError> {
        within(SHORT, async { thresholds::rotate(&**self.client().await?, project, overlap).await }).await
    }

    async fn claim_notifications(
        &self,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<ClaimedNotification>, StoreError> {
        within(SHORT, async { thresholds::claim(&**self.client().await?, lease, limit).await }).await
    }

    async fn finish_delivery(
        &self,
        notification_id: i64,
        claim: Uuid,
        result: &DeliveryResult,
    ) -> Result<bool, StoreError> {
        let finish =
            async { thresholds::finish(&**self.client().await?, notification_id, claim, result).await };
        within(SHORT, finish).await
    }

    async fn notifications(
        &self,
        project: Option<ProjectId>,
        state: Option<NotificationState>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Notification>, StoreError> {
        let read =
            async { thresholds::notifications(&**self.client().await?, project, state, before, limit).await };
        within(SHORT, read).await
    }

    async fn retry_notification(&self, notification_id: i64) -> Result<bool, StoreError> {
        within(SHORT, async { thresholds::retry(&**self.client().await?, notification_id).await }).await
    }

    async fn notification_backlog(&self) -> Result<NotificationBacklog, StoreError> {
        within(SHORT, async { thresholds::backlog(&**self.client().await?).await }).await
    }

    async fn forget_notifications(&self) -> Result<u64, StoreError> {
        within(LONG, async { thresholds::forget(&**self.client().await?).await }).await
    }
}
