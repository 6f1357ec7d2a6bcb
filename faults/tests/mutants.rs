//! A harness that passes a wrong build would pass a bug, too: every mutant is caught, by an invariant it must break.

use std::process::ExitCode;
use std::sync::Arc;

use faults::mutants::{self, MUTANTS, Mutant};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// See the drills themselves.
const AT_ONCE: usize = 3;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let runtime = Arc::new(Runtime::new().expect("a runtime can be made"));
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let trial = |mutant: &'static Mutant| {
        let (runtime, turns) = (Arc::clone(&runtime), Arc::clone(&turns));
        Trial::test(format!("{} is caught", mutant.title()), move || runtime.block_on(hunt(mutant, &turns)))
    };
    libtest_mimic::run(&arguments, MUTANTS.iter().map(trial).collect()).exit_code()
}

async fn hunt(mutant: &'static Mutant, turns: &Semaphore) -> Result<(), Failed> {
    let _turn = turns.acquire().await.expect("it is never closed");
    let caught = mutants::hunt(mutant, rand::random(), testkit::drill_build()).await;
    if caught.by().is_empty() { Err(caught.told().into()) } else { Ok(()) }
}
