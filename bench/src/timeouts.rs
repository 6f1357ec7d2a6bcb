//! How long the benchmark waits before it fails.

use std::time::Duration;

/// From the start of a process until it is ready.
pub const PROCESS_READY: Duration = Duration::from_secs(120);
/// From the last answer until all accepted events are stored.
pub const BACKLOG_STORED: Duration = Duration::from_secs(900);
