//! `faults`: holds the drills, hunts the mutants, and writes down what was seen.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use faults::matrix::{self, Row, Tier};
use faults::{mutants, nemesis, report, runner};

/// Break a whole Millrace on purpose and see that nothing is lost and nothing counted twice
#[derive(Parser)]
#[command(name = "faults", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// What everything random comes from; printed with every drill, and repeats it
    #[arg(long, global = true)]
    seed: Option<u64>,
    /// A Markdown file with a place for the table of what was seen
    #[arg(long, global = true, value_name = "FILE")]
    write: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Name the drills
    List,
    /// Hold drills
    Run {
        /// Names of drills, or parts of names; all of the tier when none is given
        names: Vec<String>,
        /// Which drills
        #[arg(long, value_enum, default_value = "all")]
        tier: Chosen,
        /// Drills held at the same time
        #[arg(long, default_value = "2")]
        at_once: usize,
    },
    /// Put wrong builds through the drills that must catch them
    Mutants {
        /// Names of mutants, or parts of names; all when none is given
        names: Vec<String>,
    },
    /// Random faults, two or three at once, for as long as you like
    Nemesis {
        /// For how long
        #[arg(long, default_value = "10")]
        minutes: u64,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Chosen {
    Quick,
    Nightly,
    All,
}

impl Chosen {
    fn takes(self, row: &Row) -> bool {
        self == Self::All || (self == Self::Quick) == (row.tier == Tier::Quick)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let Args { command, seed, write } = Args::parse();
    let seed = seed.unwrap_or_else(rand::random);
    let holds = match command {
        Command::List => {
            matrix::rows().for_each(|row| println!("{:?}\t{}\t{}", row.tier, row.name, row.fault));
            true
        }
        Command::Run { names, tier, at_once } => {
            let chosen = |row: &&Row| tier.takes(row) && is_named(row.name, &names);
            let rows: Vec<_> = matrix::rows().filter(chosen).collect();
            if rows.is_empty() {
                eprintln!("no drill is called that; `faults list` names them");
                return ExitCode::from(2);
            }
            let held = runner::hold_all(rows, seed, at_once, testkit::drill_build()).await;
            written(write.map(|file| report::write_drills(&file, &held)));
            let broken: Vec<_> = held.iter().filter(|held| !held.holds()).map(|held| held.row.name).collect();
            println!(
                "{} drills, {} broken{}",
                held.len(),
                broken.len(),
                broken.iter().map(|name| format!("\n  {name}")).collect::<String>()
            );
            broken.is_empty()
        }
        Command::Mutants { names } => {
            let mut caught = Vec::new();
            for mutant in mutants::MUTANTS.iter().filter(|mutant| is_named(&mutant.title(), &names)) {
                let hunted = mutants::hunt(mutant, seed, testkit::drill_build()).await;
                println!("{}: {}", mutant.title(), hunted.told());
                caught.push(hunted);
            }
            written(write.map(|file| report::write_mutants(&file, &caught)));
            !caught.is_empty() && caught.iter().all(|hunted| !hunted.by().is_empty())
        }
        Command::Nemesis { minutes } => {
            let held = nemesis::hold(seed, Duration::from_secs(minutes * 60), testkit::drill_build()).await;
            println!("{}", held.told());
            written(write.map(|file| report::write_drills(&file, std::slice::from_ref(&held))));
            held.holds()
        }
    };
    if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_named(name: &str, names: &[String]) -> bool {
    names.is_empty() || names.iter().any(|part| name.contains(part.as_str()))
}

fn written(result: Option<std::io::Result<()>>) {
    if let Some(Err(error)) = result {
        eprintln!("the table could not be written: {error}");
    }
}
