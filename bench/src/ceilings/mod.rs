//! The ceilings: the rates of single components that have the machine to themselves. A service built from
//! them cannot be faster.
//!
//! One connection that copies the generator's events into the same table; an HTTP server that ignores its
//! requests; a Redis script that only appends.

mod copy;
mod empty;
mod rows;
mod xadd;

use std::time::Duration;

pub use self::empty::serve as serve_empty;
use crate::error::BenchError;
use crate::results::Ceiling;

/// The batch sizes of the scenarios, for which the server and the script are measured.
const BATCH_EVENTS: [usize; 3] = [1, 10, 200];
/// Longer windows do not change the result.
const WINDOW_MAX: Duration = Duration::from_secs(10);

/// Long enough for some sixty transactions.
const DRIFT_WINDOW: Duration = Duration::from_secs(5);

/// Measures the rate of one COPY connection, to compare it with other moments of the run.
///
/// # Errors
/// When PostgreSQL cannot be started, or fails.
pub async fn measure_copy() -> Result<Ceiling, BenchError> {
    copy::measure(DRIFT_WINDOW).await
}

/// Measures all ceilings, each for `window` at most.
///
/// # Errors
/// When a server cannot be started, or fails.
pub async fn measure_all(window: Duration) -> Result<Vec<Ceiling>, BenchError> {
    let window = window.min(WINDOW_MAX);
    let mut ceilings = vec![copy::measure(window).await?];
    for events in BATCH_EVENTS {
        ceilings.push(empty::measure(events, window).await?);
    }
    for events in BATCH_EVENTS {
        ceilings.push(xadd::measure(events, window).await?);
    }
    Ok(ceilings)
}
