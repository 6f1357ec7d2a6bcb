//! The conformance suite of the store where Citus distributes `events`.
//!
//! It needs a coordinator: `CITUS_URL` is the address of a database on it, in which the worker nodes are
//! added. Each test creates a database of its own on the coordinator and on every node, and drops it. Without
//! the variable, the tests are reported as ignored.

#[path = "store/citus/mod.rs"]
mod citus;
mod helpers;
#[macro_use]
#[path = "store/promises.rs"]
mod promises;
#[allow(dead_code, reason = "measurements are for the stores that ./test has")]
#[path = "store/suite/mod.rs"]
mod suite;
#[path = "store/postgres/tables.rs"]
mod tables;

use std::process::ExitCode;

use citus::CitusHarness;
use libtest_mimic::{Arguments, Trial};

/// The variable with the address of a coordinator.
const CITUS_URL: &str = "CITUS_URL";

/// Runs a promise in a database of its own.
macro_rules! trials {
    ($url:path: $($topic:ident { $($promise:ident),+ $(,)? })+) => {
        vec![$($(
            Trial::test(stringify!($promise), || {
                run(async |url| {
                    let harness = CitusHarness::create(&url).await;
                    suite::$topic::$promise(&*harness).await;
                    harness.drop_database().await;
                });
                Ok(())
            }),
        )+)+]
    };
}

fn run(promise: impl AsyncFnOnce(String)) {
    let url = std::env::var(CITUS_URL).expect("ignored without the variable");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(promise(url));
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let is_missing = std::env::var_os(CITUS_URL).is_none();
    if is_missing {
        eprintln!("not run: CITUS_URL is not set");
    }
    let mut trials: Vec<Trial> = every_promise!(trials crate::CITUS_URL);
    trials.extend(citus::trials());
    let trials = trials.into_iter().map(|trial| trial.with_ignored_flag(is_missing)).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
