//! The drills as tests: the quick ones with every run, the nightly ones when asked for (`-- --ignored`).
//!
//! Every drill prints its seed; `DRILL_SEED=<seed>` repeats it.

use std::process::ExitCode;
use std::sync::Arc;

use faults::matrix::{self, Row, Tier};
use faults::runner;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// Drills at the same time, at most: each is half a dozen processes.
const AT_ONCE: usize = 3;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new().expect("a runtime can be made"));
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let seed = match std::env::var("DRILL_SEED") {
        Ok(seed) => seed.parse().expect("DRILL_SEED is a number"),
        Err(_) => rand::random(),
    };
    let trial = |row: &'static Row| {
        let (runtime, turns) = (Arc::clone(&runtime), Arc::clone(&turns));
        Trial::test(row.name, move || runtime.block_on(hold(row, seed, &turns)))
            .with_ignored_flag(row.tier == Tier::Nightly)
    };
    libtest_mimic::run(&arguments, matrix::rows().map(trial).collect()).exit_code()
}

async fn hold(row: &'static Row, seed: u64, turns: &Semaphore) -> Result<(), Failed> {
    let _turn = turns.acquire().await.expect("it is never closed");
    let profile = testkit::drill_build();
    let held = runner::hold(row, seed, None, profile).await;
    let told = held.told();
    eprintln!("{told}");
    if held.holds() { Ok(()) } else { Err(format!("SEED={seed} {told}").into()) }
}
