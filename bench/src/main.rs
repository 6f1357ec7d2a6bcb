//! The comparison benchmark: sends the same requests to Millrace, to its variants and to other services, and
//! measures the ceilings of their components. It starts real processes and durable servers on one machine.
//!
//! The benchmark has its own load generator (`load`) instead of `testkit`'s oracle, which builds each event
//! as a JSON value, posts it through a full HTTP client and records every event: processor time that is
//! left to the subjects here. It has no ledger per event either: it counts accepted events, and compares
//! the sum with the rows of the table and with `millrace audit`.
//!
//! It must never report events that were not all stored and audited, or compare numbers of different runs.

#![forbid(unsafe_code)]

mod binary_copy;
mod ceilings;
mod cli;
mod error;
mod growth;
mod load;
mod machine;
mod measure;
mod memory;
mod paths;
mod process;
mod report;
mod results;
mod run;
mod scenarios;
mod subjects;
mod timeouts;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::error::BenchError;
use crate::memory::Filler;
use crate::results::Results;
use crate::run::RunOptions;

#[tokio::main]
async fn main() -> ExitCode {
    match start(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn start(cli: Cli) -> Result<(), BenchError> {
    match &cli.command {
        Some(Command::ServeEmpty) => ceilings::serve_empty().await,
        Some(Command::ServePeer { storing, database_url, project }) => {
            subjects::serve_peer(database_url, *project, *storing).await
        }
        Some(Command::DrainOutbox { database_url, project }) => {
            subjects::drain_outbox(database_url, *project).await
        }
        None => {
            let results =
                if cli.only_report { report::read(&cli.results)? } else { measure_all(&cli).await? };
            println!("{}", report::summary(&results));
            match &cli.write {
                Some(page) => report::write_page(page, &results),
                None => Ok(()),
            }
        }
    }
}

async fn measure_all(cli: &Cli) -> Result<Results, BenchError> {
    if !cli.no_build {
        machine::build_programs()?;
    }
    let options = cli.run_options();
    let mut results = start_results(cli, &options)?;
    let filler = options.fills_cache.then(Filler::new).transpose()?;
    if !cli.no_ceilings && results.ceilings.is_empty() {
        memory::fill(filler.as_ref()).await?;
        results.ceilings = ceilings::measure_all(options.window).await?;
        for ceiling in &results.ceilings {
            println!("{}", report::ceiling_line(ceiling));
        }
    }
    let mut steps = options.steps();
    steps.retain(|step| !step.is_in(&results));
    // Written after each step: a later failure does not lose the measurements of an hour.
    let missing = run::run_all(&options, &steps, filler.as_ref(), |more| {
        results.measurements.extend(more);
        report::save(&cli.results, &results)
    })
    .await?;
    if missing > 0 {
        println!("the time is over, and {missing} measurements are missing; add --resume to continue\n");
    }
    Ok(results)
}

/// Empty results, or those of the file that this run continues.
fn start_results(cli: &Cli, options: &RunOptions) -> Result<Results, BenchError> {
    let (ceilings, measurements) = (Vec::new(), Vec::new());
    let new = Results { machine: machine::describe(), is_quick: cli.quick, ceilings, measurements };
    if !cli.resume || !cli.results.exists() {
        return Ok(new);
    }
    let found = report::read(&cli.results)?;
    match new.difference(&found, options.window) {
        None => Ok(found),
        Some(difference) => Err(BenchError::new(format!(
            "{} has results of another run: {difference}; name another file with --results, or leave out --resume",
            cli.results.display()
        ))),
    }
}
