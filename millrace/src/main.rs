//! `millrace` alone is the whole service in one process; with a command it is the operator's hand.
//!
//! What this room must never do: print a key more than once, or let a command touch the data path. Commands speak to
//! stream and store through the same traits as everybody else.

mod audit;
mod completions;
mod failure;
mod find;
mod key;
mod letters;
mod migrate;
mod moment;
mod output;
mod place;
mod plan;
mod project;
mod standalone;
mod terminal;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use millrace_settings::{PolicyArgs, ServersArgs};

use crate::audit::AuditArgs;
use crate::completions::CompletionsArgs;
use crate::failure::Failure;
use crate::key::KeyCommand;
use crate::letters::LettersCommand;
use crate::output::Output;
use crate::place::Place;
use crate::plan::PlanCommand;
use crate::project::ProjectCommand;
use crate::standalone::ServeArgs;
use crate::usage::UsageArgs;

const EXAMPLES: &str = "\
Examples:
  millrace                                      serve: everything in one process, on files in ./millrace-data
  millrace migrate                              bring the database up to date; safe to repeat
  millrace project create shop --plan pro       a project and its first key
  millrace key rotate 7 --overlap 24h           a new key; number 7 goes on for a day
  millrace plan set pro --burst 5000            change a plan; every API follows
  millrace usage shop --chart                   this month, day by day
  millrace dead-letters list                    what could not be stored, and why
  millrace dead-letters redrive --since 2h      store what can be stored by now
  millrace audit                                is every accepted event accounted for?
  millrace audit --quick --json                 the same for a program, without counting table rows

Exit codes:
  0  done; for audit: every accepted event is accounted for
  1  refused; for audit: it does not hold
  2  wrong usage or settings
  3  what holds the data cannot be reached";

/// What stands after a command's own options in its help.
const SETTINGS: &str = "Settings, all of which can be environment variables";

/// Event ingestion that loses nothing and counts everything once
///
/// Without a command: serves, API and worker in one process. With REDIS_URL and DATABASE_URL it runs on Redis and
/// PostgreSQL, without them on two files in DATA_DIR; so does every command.
#[derive(Parser, Debug)]
#[command(name = "millrace", version, after_help = EXAMPLES)]
struct Cli {
    /// Print JSON, for programs
    #[arg(long, global = true)]
    json: bool,
    /// The folder of the two files, when there are no servers
    #[arg(long, env = "DATA_DIR", default_value = "millrace-data", global = true, help_heading = SETTINGS)]
    data_dir: PathBuf,
    #[command(flatten, next_help_heading = SETTINGS)]
    servers: ServersArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    serve: ServeArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Bring the database schema up to date
    ///
    /// Safe to repeat, and to run beside live programs: run it before every new version is started.
    #[command(after_help = "Example:\n  millrace migrate")]
    Migrate,
    /// Projects: who is metered and limited
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Keys: how clients show which project they are of
    #[command(subcommand)]
    Key(KeyCommand),
    /// Plans: what projects may do
    #[command(subcommand)]
    Plan(PlanCommand),
    /// What was stored and is billed, by project or over time
    ///
    /// Times are UTC. Without a project: one line for each. With one: a line for each hour, day or month in which
    /// something came; with --chart a bar for each, also for those in which nothing did.
    #[command(after_help = usage::EXAMPLES)]
    Usage(UsageArgs),
    /// Dead letters: what could not be stored, why, and another try at it
    #[command(subcommand)]
    DeadLetters(LettersCommand),
    /// Check that every accepted event is accounted for
    ///
    /// Compares, for each project: accepted = stored + duplicate + dead-lettered + pending, the usage counters with
    /// the ledger, the tables' rows with what was metered, and the quota with what was stored this month. Safe to run
    /// at any time; while events are moving it checks bounds instead of equality.
    #[command(after_help = "Examples:\n  millrace audit\n  millrace audit --quick --json")]
    Audit(AuditArgs),
    /// Print what your shell needs to complete these commands
    #[command(
        after_help = "Examples:\n  millrace completions bash > ~/.local/share/bash-completion/completions/millrace\n  \
                            millrace completions zsh > \"${fpath[1]}/_millrace\""
    )]
    Completions(CompletionsArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let place = match cli.place() {
        Ok(place) => place,
        Err(failure) => {
            failure.report(None);
            return failure.exit_code();
        }
    };
    match run(cli, &place).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report(Some(&place));
            failure.exit_code()
        }
    }
}

impl Cli {
    /// Servers when they are named, files when they are not.
    fn place(&self) -> Result<Place, Failure> {
        if self.data_dir.as_os_str().is_empty() {
            return Err(Failure::Usage("DATA_DIR=\"\": expected the path of a folder".to_owned()));
        }
        let servers = self.servers.check_given()?;
        Ok(servers.map_or_else(
            || Place::Folder(self.data_dir.clone()),
            |servers| Place::Servers(Box::new(servers)),
        ))
    }
}

async fn run(cli: Cli, place: &Place) -> Result<(), Failure> {
    let policy = cli.policy.check()?;
    let output = Output::new(cli.json);
    let Some(command) = cli.command else {
        return standalone::run(place, policy, &cli.serve).await;
    };
    match command {
        Command::Migrate => migrate::run(&*place.store()?, &output).await,
        Command::Project(command) => project::run(&*place.store()?, &output, command).await,
        Command::Key(command) => key::run(&*place.store()?, &output, command).await,
        Command::Plan(command) => plan::run(&*place.store()?, &output, command).await,
        Command::Usage(arguments) => usage::run(&*place.store()?, &output, &arguments).await,
        Command::DeadLetters(command) => letters::run(&*place.store()?, &output, command).await,
        Command::Audit(arguments) => {
            let (stream, store) = (place.stream(&policy).await?, place.store()?);
            audit::run(&*stream, &*store, &output, &arguments).await
        }
        Command::Completions(arguments) => completions::run(&output, arguments),
    }
}
