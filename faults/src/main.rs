//! `faults`: runs the drills, hunts the mutants and writes the results into a table.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand, ValueEnum};
use faults::row::{Row, Tier};
use faults::{matrix, mutants, nemesis, report, runner};

/// Break a whole Millrace on purpose and check that no event is lost or counted twice
#[derive(Parser)]
#[command(name = "faults", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Seed of everything random; every drill prints its seed [default: random]
    #[arg(long, global = true)]
    seed: Option<u64>,
    /// Markdown file whose table receives the results
    #[arg(long, global = true, value_name = "FILE")]
    write: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// List the drills
    List,
    /// Run drills
    Run {
        /// Names of drills, or parts of names [default: all drills of the tier]
        names: Vec<String>,
        /// Which drills to run
        #[arg(long, value_enum, default_value = "all")]
        tier: TierArg,
        /// Drills that run at the same time
        #[arg(long, default_value = "2")]
        at_once: usize,
    },
    /// Run programs with a deliberate bug through the drills that must find it
    Mutants {
        /// Names of mutants, or parts of names [default: all mutants]
        names: Vec<String>,
    },
    /// Inject random faults, two or three at the same time
    Nemesis {
        /// How long, in minutes
        #[arg(long, default_value = "10")]
        minutes: u64,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TierArg {
    Quick,
    Nightly,
    All,
}

impl TierArg {
    fn contains(self, row: &Row) -> bool {
        self == Self::All || (self == Self::Quick) == (row.tier == Tier::Quick)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { command, seed, write } = Args::parse();
    let seed = seed.unwrap_or_else(rand::random);
    let passed = match command {
        Command::List => {
            matrix::rows().for_each(|row| println!("{:?}\t{}\t{}", row.tier, row.name, row.fault));
            true
        }
        Command::Run { names, tier, at_once } => {
            let rows: Vec<_> =
                matrix::rows().filter(|row| tier.contains(row) && matches_any(row.name, &names)).collect();
            if rows.is_empty() {
                eprintln!("faults: no drill matches; `faults list` prints their names");
                return ExitCode::from(2);
            }
            run_drills(rows, seed, at_once, write).await
        }
        Command::Mutants { names } => hunt_mutants(&names, seed, write).await,
        Command::Nemesis { minutes } => {
            let at_least = Duration::from_secs(minutes * 60);
            let result = nemesis::run(seed, at_least, testkit::drill_build()).await;
            println!("{}", result.summary());
            complain(write.map(|file| report::write_drills(&file, std::slice::from_ref(&result))));
            result.passed()
        }
    };
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run_drills(rows: Vec<&'static Row>, seed: u64, at_once: usize, write: Option<PathBuf>) -> bool {
    let results = runner::run_all(rows, seed, at_once, testkit::drill_build()).await;
    complain(write.map(|file| report::write_drills(&file, &results)));
    let failed: Vec<_> =
        results.iter().filter(|result| !result.passed()).map(|result| result.row.name).collect();
    let skipped = results.iter().filter(|result| result.is_skipped()).count();
    println!("{} drills, {} failed, {skipped} not run", results.len(), failed.len());
    failed.iter().for_each(|name| println!("  {name}"));
    failed.is_empty()
}

async fn hunt_mutants(names: &[String], seed: u64, write: Option<PathBuf>) -> bool {
    let mut hunts = Vec::new();
    for mutant in mutants::MUTANTS.iter().filter(|mutant| matches_any(&mutant.title(), names)) {
        let started = Instant::now();
        let hunt = mutants::hunt(mutant, seed, mutants::build()).await;
        println!("{} ({} s)", hunt.summary(), started.elapsed().as_secs());
        hunts.push(hunt);
    }
    complain(write.map(|file| report::write_mutants(&file, &hunts)));
    if hunts.is_empty() {
        eprintln!("faults: no mutant matches {names:?}");
    }
    !hunts.is_empty() && hunts.iter().all(|hunt| !hunt.caught_by().is_empty())
}

fn matches_any(name: &str, parts: &[String]) -> bool {
    parts.is_empty() || parts.iter().any(|part| name.contains(part.as_str()))
}

fn complain(result: Option<std::io::Result<()>>) {
    if let Some(Err(error)) = result {
        eprintln!("faults: cannot write the table: {error}");
    }
}
