//! Erases what is stored of a person, in short transactions. Nothing else writes during one.
//!
//! What is removed is overwritten in the file at once (`secure_delete`). The write-ahead log has copies until
//! it is emptied, which the end of an erasure tries.

mod events;
mod figures;
mod index;
mod letters;
mod orders;
mod records;
mod rest;

use async_trait::async_trait;
use millrace_event::plan::ProjectId;
use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::store::SqliteStore;
use crate::{
    Erasure, ErasureOrder, ErasurePlace, ErasureStep, Erasures, RecordsPlace, StoreError, SubjectRecords,
};

const SECURE_DELETE: &str = "PRAGMA secure_delete = ON";
/// Empties the write-ahead log, unless another connection reads it.
const EMPTY_LOG: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

#[async_trait]
impl Erasures for SqliteStore {
    async fn begin_erasure(&self, order: &ErasureOrder) -> Result<Erasure, StoreError> {
        let order = order.clone();
        self.write(move |connection| orders::begin(connection, &order)).await
    }

    async fn erase_step(&self, erasure: &Erasure, place: ErasurePlace) -> Result<ErasureStep, StoreError> {
        let erasure = erasure.clone();
        let step = move |connection: &mut Connection| {
            let transaction = begin(connection)?;
            let step = match place {
                ErasurePlace::Letters { after } => letters::step(&transaction, &erasure, after)?,
                ErasurePlace::Events { after } => events::step(&transaction, &erasure, after)?,
                ErasurePlace::Figures { meter, after_us } => {
                    figures::step(&transaction, &erasure, meter, after_us)?
                }
                ErasurePlace::Rest => rest::step(&transaction, &erasure)?,
            };
            transaction.commit()?;
            Ok(step)
        };
        match place {
            // Limits are removed.
            ErasurePlace::Rest => self.change_accounts(step).await,
            _ => self.write(step).await,
        }
    }

    async fn finish_erasure(&self, erasure: &Erasure) -> Result<Erasure, StoreError> {
        let erasure = erasure.clone();
        let finish = move |connection: &mut Connection| {
            let transaction = begin(connection)?;
            let finished = rest::finish(&transaction, &erasure)?;
            transaction.commit()?;
            connection.query_row(EMPTY_LOG, [], |_| Ok(()))?;
            Ok(finished)
        };
        self.write(finish).await
    }

    async fn erasures(&self, project: Option<ProjectId>, limit: u32) -> Result<Vec<Erasure>, StoreError> {
        self.read(move |connection| orders::list(connection, project, limit)).await
    }

    async fn subject_records(
        &self,
        project: ProjectId,
        subject: &str,
        place: &RecordsPlace,
    ) -> Result<SubjectRecords, StoreError> {
        let (subject, place) = (subject.to_owned(), place.clone());
        self.read(move |connection| records::page(connection, project, &subject, &place)).await
    }

    async fn has_subject_index(&self) -> Result<bool, StoreError> {
        self.read(|connection| Ok(index::exists(connection)?)).await
    }

    async fn create_subject_index(&self) -> Result<bool, StoreError> {
        self.write(|connection| Ok(index::create(connection)?)).await
    }

    async fn drop_subject_index(&self) -> Result<bool, StoreError> {
        self.write(|connection| Ok(index::drop(connection)?)).await
    }
}

fn begin(connection: &mut Connection) -> Result<Transaction<'_>, StoreError> {
    // The statement answers with the setting.
    connection.query_row(SECURE_DELETE, [], |_| Ok(()))?;
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}
