//! Each mutant is found by its drill, through an invariant that the bug must violate. The quick mutants prove
//! in every run that wrappers and patches work; the others run on request (`-- --ignored`).

use std::process::ExitCode;
use std::sync::Arc;

use faults::mutants::{self, MUTANTS, Mutant};
use faults::row::Tier;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// Hunts that run at the same time, at most. Each starts half a dozen processes.
const CONCURRENCY: usize = 3;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new().expect("a runtime can be created"));
    let permits = Arc::new(Semaphore::new(CONCURRENCY));
    let trial = |mutant: &'static Mutant| {
        let (runtime, permits) = (Arc::clone(&runtime), Arc::clone(&permits));
        Trial::test(format!("{} is caught", mutant.title()), move || runtime.block_on(hunt(mutant, &permits)))
            .with_ignored_flag(mutant.tier == Tier::Nightly)
    };
    libtest_mimic::run(&arguments, MUTANTS.iter().map(trial).collect()).exit_code()
}

async fn hunt(mutant: &'static Mutant, permits: &Semaphore) -> Result<(), Failed> {
    let _permit = permits.acquire().await.expect("the semaphore is never closed");
    let hunt = mutants::hunt(mutant, rand::random(), mutants::build()).await;
    if hunt.caught_by().is_empty() { Err(hunt.summary().into()) } else { Ok(()) }
}
