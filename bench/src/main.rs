//! The benchmark that compares: the same requests against Millrace, its embedded form and two services without a queue, and
//! beside them what the parts can do at all. Real processes, real durable servers, one machine.
//!
//! What this program must never do: tell a figure of events that were not all stored and audited afterwards, or compare
//! figures of different runs.

#![forbid(unsafe_code)]

mod ceilings;
mod copy;
mod failure;
mod figures;
mod growth;
mod load;
mod machine;
mod patience;
mod places;
mod report;
mod run;
mod scenarios;
mod subjects;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::failure::Failure;
use crate::figures::Results;
use crate::scenarios::Scenario;
use crate::subjects::Name;

/// Compares Millrace with what else takes events from HTTP into a table, and with what the machine can do at all
///
/// Everything runs on this machine, on real and durable servers that are started and removed: Redis with appendfsync
/// always, PostgreSQL with fsync, files on the disk of the temporary folder (TMPDIR). Give it a machine that does
/// nothing else.
#[derive(Parser, Debug)]
#[command(name = "bench", version, after_help = EXAMPLES)]
struct Cli {
    /// Show in less than three minutes that everything works; its figures are too short to be told
    #[arg(long)]
    quick: bool,
    /// Only these scenarios
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SCENARIO")]
    only: Vec<Scenario>,
    /// Only these subjects
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SUBJECT")]
    against: Vec<Name>,
    /// Seconds to measure in each part, after a warm-up [default: 60; 1 when quick]
    #[arg(long)]
    seconds: Option<u64>,
    /// Rows that the table of `growth` holds before [default: 50,000,000; 500,000 when quick]
    #[arg(long)]
    growth_rows: Option<u64>,
    /// Measure the programs as they are built already, beside this one
    #[arg(long)]
    no_build: bool,
    /// Do not look for the ceilings
    #[arg(long)]
    no_ceilings: bool,
    /// Where the figures go
    #[arg(long, default_value = "bench/results/latest.json")]
    results: PathBuf,
    /// Write the page with tables and charts to this file, and the charts to `images` beside it
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Measure nothing: tell of the figures that are in the file of results
    #[arg(long)]
    only_report: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Processes that are measured, started by this program itself.
#[derive(Subcommand, Debug)]
enum Command {
    /// The empty server
    #[command(hide = true)]
    ServeEmpty,
    /// The service that copies inside the request
    #[command(hide = true)]
    ServeCopy {
        #[arg(long)]
        database_url: String,
        #[arg(long)]
        project: i64,
    },
}

const EXAMPLES: &str = "\
Examples:
  cargo run --release -p bench -- --quick                         does everything work?
  cargo run --release -p bench -- --only stress --against millrace,copy_in_request
  cargo run --release -p bench -- --write docs/benchmarks.md      all of it, and the page about it";

const SECONDS: u64 = 60;
const SECONDS_QUICK: u64 = 1;
const GROWTH_ROWS: u64 = 50_000_000;
const GROWTH_ROWS_QUICK: u64 = 500_000;
const WARM_UP: Duration = Duration::from_secs(5);
const WARM_UP_QUICK: Duration = Duration::from_millis(500);
/// Longer, ceilings do not become higher.
const CEILING_WINDOW_MAX: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    match start(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

async fn start(cli: Cli) -> Result<(), Failure> {
    match &cli.command {
        Some(Command::ServeEmpty) => ceilings::serve_empty().await,
        Some(Command::ServeCopy { database_url, project }) => {
            subjects::serve_copy(database_url, *project).await
        }
        None => {
            let results = if cli.only_report { report::read(&cli.results)? } else { measured(&cli).await? };
            println!("{}", report::text(&results));
            match &cli.write {
                Some(page) => report::write(page, &results),
                None => Ok(()),
            }
        }
    }
}

async fn measured(cli: &Cli) -> Result<Results, Failure> {
    if !cli.no_build {
        machine::build_programs()?;
    }
    let plan = cli.plan();
    let window = plan.window.min(CEILING_WINDOW_MAX);
    let ceilings = if cli.no_ceilings { Vec::new() } else { ceilings::find(window).await? };
    for ceiling in &ceilings {
        println!("{}", report::ceiling_line(ceiling));
    }
    let measurements = Vec::new();
    let mut results = Results { machine: machine::describe(), is_quick: cli.quick, ceilings, measurements };
    // As it goes: an hour's figures are not lost to what fails after them.
    run::all(&plan, |more| {
        results.measurements.extend(more);
        report::keep(&cli.results, &results)
    })
    .await?;
    Ok(results)
}

impl Cli {
    fn plan(&self) -> run::Plan {
        let [seconds, growth_rows] =
            if self.quick { [SECONDS_QUICK, GROWTH_ROWS_QUICK] } else { [SECONDS, GROWTH_ROWS] };
        let chosen = |scenario: &Scenario| self.only.is_empty() || self.only.contains(scenario);
        let mut subjects = self.against.clone();
        if subjects.is_empty() {
            subjects = vec![Name::Millrace, Name::Embedded, Name::DirectInsert, Name::CopyInRequest];
        }
        run::Plan {
            scenarios: Scenario::ALL.into_iter().filter(chosen).collect(),
            subjects,
            window: Duration::from_secs(self.seconds.unwrap_or(seconds)),
            warm_up: if self.quick { WARM_UP_QUICK } else { WARM_UP },
            is_quick: self.quick,
            growth_rows: self.growth_rows.unwrap_or(growth_rows),
        }
    }
}
