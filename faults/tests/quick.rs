//! The drills as tests. The nightly drills run on request (`-- --ignored`). Drills with a full disk are
//! reported as ignored where no tmpfs can be mounted.
//!
//! Every drill prints its seed; `DRILL_SEED=<seed>` repeats it.

use std::process::ExitCode;
use std::sync::Arc;

use faults::row::{Row, Tier};
use faults::{matrix, runner};
use libtest_mimic::{Arguments, Failed, Trial};
use testkit::Tmpfs;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// Drills that run at the same time, at most. Each starts half a dozen processes.
const CONCURRENCY: usize = 3;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new().expect("a runtime can be created"));
    let permits = Arc::new(Semaphore::new(CONCURRENCY));
    let seed = match std::env::var("DRILL_SEED") {
        Ok(seed) => seed.parse().expect("DRILL_SEED is a number"),
        Err(_) => rand::random(),
    };
    let has_tmpfs = Tmpfs::mount(1 << 20).is_ok();
    let trial = |row: &'static Row| {
        let (runtime, permits) = (Arc::clone(&runtime), Arc::clone(&permits));
        Trial::test(row.name, move || runtime.block_on(run(row, seed, &permits)))
            .with_ignored_flag(row.tier == Tier::Nightly || matrix::needs_tmpfs(row) && !has_tmpfs)
    };
    libtest_mimic::run(&arguments, matrix::rows().map(trial).collect()).exit_code()
}

async fn run(row: &'static Row, seed: u64, permits: &Semaphore) -> Result<(), Failed> {
    let _permit = permits.acquire().await.expect("the semaphore is never closed");
    let profile = testkit::drill_build();
    let result = runner::run(row, seed, None, profile).await;
    let summary = result.summary();
    eprintln!("{summary}");
    if result.passed() && !result.is_skipped() {
        Ok(())
    } else {
        Err(format!("SEED={seed} {summary}").into())
    }
}
