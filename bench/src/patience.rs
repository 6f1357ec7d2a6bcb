//! How long this program waits for what should happen by itself.

use std::time::Duration;

/// For a process to be ready.
pub const SOON: Duration = Duration::from_secs(120);
/// For a backlog to be stored.
pub const DRAINED: Duration = Duration::from_secs(900);
