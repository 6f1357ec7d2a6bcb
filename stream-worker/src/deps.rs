//! The stream, the store and the settings that a worker runs with.

use std::sync::Arc;

use millrace_reconcile::health::StreamHealth;
use millrace_reconcile::keeper::CheckPeriods;
use millrace_store::SharedStore;
use millrace_stream::SharedStream;

use crate::config::Settings;

/// Shared by every lane and the upkeep.
#[derive(Clone)]
pub struct Deps {
    pub stream: SharedStream,
    pub store: SharedStore,
    /// The worker keeps it up to date; other parts of the process may share it.
    pub stream_health: Arc<StreamHealth>,
    pub check_periods: CheckPeriods,
    pub settings: Arc<Settings>,
}
