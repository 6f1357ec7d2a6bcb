//! [`Meters`] of the store: calls the module that does the work.

use async_trait::async_trait;
use millrace_event::meter::{Meter, MeterDefinition, MeterId};
use millrace_event::plan::ProjectId;

use super::meters;
use super::store::SqliteStore;
use crate::{
    BackfillStep, MeterCheck, MeterFaultCount, MeterInfo, MeterQuery, MeterRow, MeterStart, MeterWindow,
    Meters, StoreError,
};

#[async_trait]
impl Meters for SqliteStore {
    async fn create_meter(
        &self,
        project: &str,
        definition: &MeterDefinition,
        start: MeterStart,
    ) -> Result<MeterInfo, StoreError> {
        let (project, definition) = (project.to_owned(), definition.clone());
        self.write(move |connection| meters::create(connection, &project, &definition, start)).await
    }

    async fn meters(&self, project: Option<ProjectId>) -> Result<Vec<MeterInfo>, StoreError> {
        self.read(move |connection| meters::meters(connection, project)).await
    }

    async fn delete_meter(&self, project: &str, slug: &str) -> Result<bool, StoreError> {
        let (project, slug) = (project.to_owned(), slug.to_owned());
        self.write(move |connection| meters::delete(connection, &project, &slug)).await
    }

    async fn backfill(&self, meter: MeterId, events_max: u32) -> Result<BackfillStep, StoreError> {
        self.write(move |connection| meters::backfill(connection, meter, events_max)).await
    }

    /// Nothing waits: writers add to the figures. Only figures of deleted meters are removed.
    async fn move_additions(&self) -> Result<u64, StoreError> {
        self.write(meters::remove_deleted).await
    }

    async fn meter_usage(&self, meter: &Meter, query: &MeterQuery) -> Result<Vec<MeterRow>, StoreError> {
        let (meter, query) = (meter.clone(), query.clone());
        self.read(move |connection| match query.window {
            Some(MeterWindow::Minute) => meters::usage_by_minute(connection, &meter, &query),
            _ => meters::usage(connection, &meter, &query),
        })
        .await
    }

    async fn meter_faults(&self, meter: MeterId) -> Result<Vec<MeterFaultCount>, StoreError> {
        self.read(move |connection| meters::faults(connection, meter)).await
    }

    async fn check_meters(&self) -> Result<Vec<MeterCheck>, StoreError> {
        self.read(meters::check).await
    }

    async fn wrong_figures(&self, meter: &Meter, from_us: i64, to_us: i64) -> Result<u64, StoreError> {
        let meter = meter.clone();
        self.read(move |connection| meters::wrong_figures(connection, &meter, from_us..to_us)).await
    }
}
