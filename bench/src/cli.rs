//! The command line.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

use crate::run::RunOptions;
use crate::scenarios::Scenario;
use crate::subjects::{Storing, SubjectName};

/// Compare Millrace with services that store events inside the request, and with the ceilings of this machine
///
/// Everything runs on this machine. Servers are started for the run and removed afterwards, and all of them
/// are durable: Redis with appendfsync always, PostgreSQL with fsync, and their files in the temporary folder
/// (TMPDIR). Run it on a machine that does nothing else.
#[derive(Parser, Debug)]
#[command(name = "bench", version, after_help = EXAMPLES)]
pub struct Cli {
    /// Check in less than three minutes that everything works; the numbers are too short to compare
    #[arg(long)]
    pub quick: bool,
    /// Run only these scenarios, separated by commas [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SCENARIO")]
    only: Vec<Scenario>,
    /// Measure only these subjects, separated by commas [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SUBJECT")]
    against: Vec<SubjectName>,
    /// Seconds to measure in each part, after a warm-up [default: 60; with --quick 1]
    #[arg(long)]
    seconds: Option<u64>,
    /// Times to measure each subject in each scenario; reports show the median, the lowest and the highest
    /// value [default: 3; with --quick 1]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=99))]
    repetitions: Option<u32>,
    /// Rows in the table before the growth scenario [default: 50,000,000; with --quick 500,000]
    #[arg(long)]
    growth_rows: Option<u64>,
    /// Projects that these rows belong to, and that the scenario sends to
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    growth_projects: u16,
    /// Start no further subject after this many minutes; --resume continues later
    #[arg(long)]
    minutes: Option<u64>,
    /// Keep what the results file has of the same programs, and measure only what is missing in it
    #[arg(long)]
    pub resume: bool,
    /// Do not build the programs to measure; use those in the folder of this program
    #[arg(long)]
    pub no_build: bool,
    /// Do not measure the ceilings
    #[arg(long)]
    pub no_ceilings: bool,
    /// Do not measure one COPY connection before and after each subject, as with --quick
    #[arg(long)]
    no_drift: bool,
    /// Do not fill the page cache of this machine before each subject, as with --quick
    #[arg(long)]
    no_cache_fill: bool,
    /// File that the results are written to, or read from with --only-report
    #[arg(long, value_name = "FILE", default_value = "bench/results/latest.json")]
    pub results: PathBuf,
    /// Replace the tables between the markers of this Markdown file, and write the charts to the folder
    /// `images` next to it
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Measure nothing; report the results in the file given with --results
    #[arg(long)]
    pub only_report: bool,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Processes to measure that are part of this program. The benchmark starts them itself.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Serve HTTP and do nothing with the requests
    #[command(hide = true)]
    ServeEmpty,
    /// Serve a service that stores events inside the request, or in an outbox
    #[command(hide = true)]
    ServePeer {
        #[arg(long)]
        storing: Storing,
        #[arg(long)]
        database_url: String,
        #[arg(long)]
        project: i64,
    },
    /// Move events from the outbox to their table
    #[command(hide = true)]
    DrainOutbox {
        #[arg(long)]
        database_url: String,
        #[arg(long)]
        project: i64,
    },
}

const EXAMPLES: &str = "\
Examples:
  cargo run --release -p bench -- --quick
      check that everything works
  cargo run --release -p bench -- --only stress --against millrace,copy_in_request
      compare two subjects in one scenario
  cargo run --release -p bench -- --write docs/benchmarks.md
      run everything, and update the page
  cargo run --release -p bench -- --minutes 50 --resume
      run for an hour at most; repeat it until everything is measured
  cargo run -p bench -- --only-report --results bench/results/published.json --write docs/benchmarks.md
      update the page from the published results, without measuring";

const SECONDS: u64 = 60;
const SECONDS_QUICK: u64 = 1;
const REPETITIONS: u32 = 3;
const GROWTH_ROWS: u64 = 50_000_000;
const GROWTH_ROWS_QUICK: u64 = 500_000;
const WARM_UP: Duration = Duration::from_secs(5);
const WARM_UP_QUICK: Duration = Duration::from_millis(500);

impl Cli {
    pub fn run_options(&self) -> RunOptions {
        let [seconds, growth_rows] =
            if self.quick { [SECONDS_QUICK, GROWTH_ROWS_QUICK] } else { [SECONDS, GROWTH_ROWS] };
        let is_chosen = |scenario: &Scenario| self.only.is_empty() || self.only.contains(scenario);
        let subjects = if self.against.is_empty() { SubjectName::ALL.to_vec() } else { self.against.clone() };
        RunOptions {
            scenarios: Scenario::ALL.into_iter().filter(is_chosen).collect(),
            subjects,
            repetitions: self.repetitions.unwrap_or(if self.quick { 1 } else { REPETITIONS }),
            window: Duration::from_secs(self.seconds.unwrap_or(seconds)),
            warm_up: if self.quick { WARM_UP_QUICK } else { WARM_UP },
            is_quick: self.quick,
            growth_rows: self.growth_rows.unwrap_or(growth_rows),
            growth_projects: self.growth_projects.into(),
            measures_drift: !self.quick && !self.no_drift,
            fills_cache: !self.quick && !self.no_cache_fill,
            until: self.minutes.map(|minutes| Instant::now() + Duration::from_secs(60 * minutes)),
        }
    }
}
