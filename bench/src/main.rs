//! The comparison benchmark: sends the same requests to Millrace, to Millrace embedded and to two services
//! without a queue, and measures the ceilings of their components. It starts real processes and durable
//! servers on one machine.
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
use crate::results::Results;

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
        Some(Command::ServeCopy { database_url, project }) => {
            subjects::serve_copy(database_url, *project).await
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
    let ceilings = if cli.no_ceilings { Vec::new() } else { ceilings::measure_all(options.window).await? };
    for ceiling in &ceilings {
        println!("{}", report::ceiling_line(ceiling));
    }
    let measurements = Vec::new();
    let mut results = Results { machine: machine::describe(), is_quick: cli.quick, ceilings, measurements };
    // Written after each subject: a later failure does not lose the measurements of an hour.
    run::run_all(&options, |more| {
        results.measurements.extend(more);
        report::save(&cli.results, &results)
    })
    .await?;
    Ok(results)
}
