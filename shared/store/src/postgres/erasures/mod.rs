//! Erases what is stored of a person, in short transactions next to running workers.
//!
//! A transaction that changes events of a project with meters holds the lock of the definitions alone, as a
//! cancellation does, so that events and figures change together. Without meters it holds the lock shared,
//! and no worker waits.

mod events;
mod figures;
mod index;
mod letters;
mod orders;
mod records;
mod rest;

use async_trait::async_trait;
use millrace_event::plan::ProjectId;

use super::deadline::{LONG, SHORT, within};
use super::store::PostgresStore;
use crate::{
    Erasure, ErasureOrder, ErasurePlace, ErasureStep, Erasures, RecordsPlace, StoreError, SubjectRecords,
};

#[async_trait]
impl Erasures for PostgresStore {
    async fn begin_erasure(&self, order: &ErasureOrder) -> Result<Erasure, StoreError> {
        within(SHORT, async { orders::begin(&**self.client().await?, order).await }).await
    }

    async fn erase_step(&self, erasure: &Erasure, place: ErasurePlace) -> Result<ErasureStep, StoreError> {
        let step = async {
            let mut client = self.client().await?;
            match place {
                ErasurePlace::Letters { after } => letters::step(&mut client, erasure, after).await,
                ErasurePlace::Events { after } => events::step(&mut client, erasure, after).await,
                ErasurePlace::Figures { meter, after_us } => {
                    figures::step(&mut client, erasure, meter, after_us).await
                }
                ErasurePlace::Rest => rest::step(&mut client, erasure).await,
            }
        };
        within(LONG, step).await
    }

    async fn finish_erasure(&self, erasure: &Erasure) -> Result<Erasure, StoreError> {
        within(LONG, async { rest::finish(&mut self.client().await?, erasure).await }).await
    }

    async fn erasures(&self, project: Option<ProjectId>, limit: u32) -> Result<Vec<Erasure>, StoreError> {
        within(SHORT, async { orders::list(&**self.client().await?, project, limit).await }).await
    }

    async fn subject_records(
        &self,
        project: ProjectId,
        subject: &str,
        place: &RecordsPlace,
    ) -> Result<SubjectRecords, StoreError> {
        let read = async {
            match place {
                RecordsPlace::Rest => records::rest(self, project, subject).await,
                _ => records::page(&mut self.client().await?, project, subject, place).await,
            }
        };
        within(LONG, read).await
    }

    async fn has_subject_index(&self) -> Result<bool, StoreError> {
        within(SHORT, async { Ok(index::exists(&**self.client().await?).await?) }).await
    }

    async fn create_subject_index(&self) -> Result<bool, StoreError> {
        index::create(&self.connector).await
    }

    async fn drop_subject_index(&self) -> Result<bool, StoreError> {
        index::drop(&self.connector).await
    }
}
