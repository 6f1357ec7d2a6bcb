//! [`Meters`] of the store: opens connections and calls the module that does the work.

use async_trait::async_trait;
use millrace_event::meter::{Meter, MeterDefinition, MeterId};
use millrace_event::plan::ProjectId;

use super::deadline::{LONG, SHORT, within};
use super::meters;
use super::store::PostgresStore;
use crate::{
    BackfillStep, MeterCheck, MeterFaultCount, MeterInfo, MeterQuery, MeterRow, MeterStart, MeterWindow,
    Meters, StoreError,
};

#[async_trait]
impl Meters for PostgresStore {
    async fn create_meter(
        &self,
        project: &str,
        definition: &MeterDefinition,
        start: MeterStart,
    ) -> Result<MeterInfo, StoreError> {
        let create = async { meters::create(&mut self.client().await?, project, definition, start).await };
        within(LONG, create).await
    }

    async fn meters(&self, project: Option<ProjectId>) -> Result<Vec<MeterInfo>, StoreError> {
        within(SHORT, async { meters::meters(&**self.client().await?, project).await }).await
    }

    async fn delete_meter(&self, project: &str, slug: &str) -> Result<bool, StoreError> {
        within(LONG, async { meters::delete(&mut self.client().await?, project, slug).await }).await
    }

    async fn backfill(&self, meter: MeterId, events_max: u32) -> Result<BackfillStep, StoreError> {
        within(LONG, async { meters::backfill(&mut self.client().await?, meter, events_max).await }).await
    }

    async fn move_additions(&self) -> Result<u64, StoreError> {
        within(LONG, async { meters::move_additions(&mut self.client().await?).await }).await
    }

    async fn meter_usage(&self, meter: &Meter, query: &MeterQuery) -> Result<Vec<MeterRow>, StoreError> {
        let answered = async {
            let mut client = self.client().await?;
            match query.window {
                Some(MeterWindow::Minute) => meters::usage_by_minute(&mut client, meter, query).await,
                _ => meters::usage(&client, meter, query).await,
            }
        };
        within(SHORT, answered).await
    }

    async fn meter_faults(&self, meter: MeterId) -> Result<Vec<MeterFaultCount>, StoreError> {
        within(SHORT, async { meters::faults(&self.client().await?, meter.0).await }).await
    }

    async fn check_meters(&self) -> Result<Vec<MeterCheck>, StoreError> {
        within(LONG, async { meters::check(&mut self.client().await?).await }).await
    }

    async fn wrong_figures(&self, meter: &Meter, from_us: i64, to_us: i64) -> Result<u64, StoreError> {
        let period = (from_us, to_us);
        within(SHORT, async { meters::wrong_figures(&self.client().await?, meter, period).await }).await
    }
}
