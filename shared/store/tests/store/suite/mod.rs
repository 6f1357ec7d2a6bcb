//! The promises of every store. This module must never depend on a single implementation.

pub mod accounts;
pub mod admin;
pub mod admin_keys;
pub mod cancelling;
pub mod conflicts;
pub mod environment;
pub mod erasing;
pub mod grouping;
pub mod identity;
pub mod keeping;
pub mod letters;
pub mod limiting;
pub mod losing;
pub mod meter_models;
pub mod meter_reading;
pub mod metered;
pub mod metering;
pub mod parts;
pub mod racing;
pub mod redriving;
pub mod refusing;
pub mod speed;
pub mod threshold_models;
pub mod thresholds;
pub mod writing;

use std::time::Duration;

use async_trait::async_trait;
use millrace_event::EntryId;
use millrace_event::Outcome;
use millrace_event::plan::ProjectId;
use millrace_event::row::EventTime;
pub use millrace_store::WriteOutcome;
use millrace_store::{Payload, SharedStore, UpkeepPolicy, WriteRequest};
use serde_json::Value;
use uuid::Uuid;

pub use crate::helpers::*;

/// A migrated, empty store, with access to its tables.
#[async_trait]
pub trait Harness: Send + Sync {
    fn store(&self) -> SharedStore;
    /// Another store on the same data, as in another process.
    fn another(&self) -> SharedStore;
    /// Every event stored of a project, ordered by time and id.
    async fn events(&self, project: ProjectId) -> Vec<StoredEvent>;
    /// When a key was last used, microseconds since 1970.
    async fn last_used_us(&self, key_id: i64) -> Option<i64>;
    /// Every dead letter of a project, oldest first.
    async fn letters(&self, project: ProjectId) -> Vec<StoredLetter>;
    /// Changes the payload of a letter, as if its cause had been fixed.
    async fn replace_payload(&self, letter_id: i64, payload: &[u8]);
    /// Kind, code and count of everything that was refused of a project, summed over all hours, in order.
    async fn refusals(&self, project: ProjectId) -> Vec<(String, String, i64)>;
    /// Every sample of a project's refusals, oldest first.
    async fn samples(&self, project: ProjectId) -> Vec<StoredSample>;
    /// Conflicts of a project: in the ledger, and in usage.
    async fn conflicts(&self, project: ProjectId) -> (i64, i64);
    /// The columns of all tables in which this text is, as `table.column`.
    async fn traces(&self, text: &str) -> Vec<String>;
    /// The number of remembered ids of undated events.
    async fn undated_ids(&self) -> i64;
}

/// A row of `events`.
#[derive(Clone, PartialEq, Debug)]
pub struct StoredEvent {
    pub timestamp_us: i64,
    pub event_id: Uuid,
    pub received_us: i64,
    pub name: String,
    pub subject: Option<String>,
    pub client_id: Option<String>,
    pub properties: Option<Value>,
    pub context: Option<Value>,
}

/// A row of `rejection_samples`.
#[derive(Clone, PartialEq, Debug)]
pub struct StoredSample {
    pub kind: String,
    pub code: String,
    pub message: String,
    pub payload: Option<Vec<u8>>,
}

/// A row of `dead_letters`.
#[derive(Clone, PartialEq, Debug)]
pub struct StoredLetter {
    pub batch_id: Uuid,
    pub event_index: Option<i32>,
    pub event_count: i64,
    pub sqlstate: Option<String>,
    pub code: Option<String>,
    pub reason: String,
    pub payload: Vec<u8>,
}
