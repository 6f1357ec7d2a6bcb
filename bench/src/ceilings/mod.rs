//! What the parts can do alone: nothing that is built of them can do more.
//!
//! The same rows through one connection's binary COPY into the same table; a server that answers and does nothing; a
//! script that only appends.

mod copy;
mod empty;
mod rows;
mod xadd;

use std::time::Duration;

pub use self::empty::serve as serve_empty;
use crate::failure::Failure;
use crate::figures::Ceiling;

/// Sizes of batches for which requests and scripts are counted: those of the scenarios.
const BATCHES: [usize; 3] = [1, 10, 200];

/// Finds all of them, each in this time.
///
/// # Errors
/// When a server does not do its part.
pub async fn find(window: Duration) -> Result<Vec<Ceiling>, Failure> {
    let mut found = vec![copy::find(window).await?];
    for events in BATCHES {
        found.push(empty::find(events, window).await?);
    }
    for events in BATCHES {
        found.push(xadd::find(events, window).await?);
    }
    Ok(found)
}
