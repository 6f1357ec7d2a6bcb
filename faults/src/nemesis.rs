//! The nemesis for as long as the caller wants. In the table of drills it runs for a fixed time.

use std::time::Duration;

use crate::drills::nemesis::{NAME, run_for};
use crate::matrix;
use crate::runner::{self, DrillResult};

/// Runs random faults for at least this long.
///
/// # Panics
/// When the table has no row for the nemesis.
pub async fn run(seed: u64, at_least: Duration, profile: &str) -> DrillResult {
    let row = matrix::row(NAME).expect("the nemesis has a row");
    runner::run_as(row, seed, None, profile, move |drill| Box::pin(run_for(drill, at_least))).await
}
