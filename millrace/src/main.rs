//! The operator's command line: `millrace migrate`, `project`, `key`, `dead-letters`, `audit`.
//!
//! What this room must never do: print a key more than once, or touch the data path. It speaks to stream and store
//! through the same traits as everybody else.

mod admin;
mod audit;
mod backend;
mod failure;
mod letters;
mod output;

use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use shared::config::BackendArgs;

use crate::failure::Failure;
use crate::letters::LettersCommand;
use crate::output::Output;

const EXAMPLES: &str = "\
Examples:
  millrace migrate                              bring the database up to date; safe to repeat
  millrace project create shop --plan pro       a project and its first key
  millrace key create shop --signed             one more key, whose requests must be signed
  millrace key revoke 7                         refuse key number 7 from now on
  millrace dead-letters list                    what could not be stored, and why
  millrace dead-letters redrive --since 2h      store what can be stored by now
  millrace audit                                is every accepted event accounted for?
  millrace audit --quick --json                 the same for a program, without counting table rows

Exit codes:
  0  done; for audit: every accepted event is accounted for
  1  refused; for audit: it does not hold
  2  wrong usage or settings
  3  Redis or PostgreSQL cannot be reached";

/// Event ingestion that loses nothing and counts once: the operator's commands
#[derive(Parser, Debug)]
#[command(name = "millrace", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    backend: BackendArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Bring the database schema up to date
    ///
    /// Safe to repeat, and to run beside live programs: run it before every new version is started.
    Migrate,
    /// Projects: who is metered and limited
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Keys: how clients show which project they are of
    #[command(subcommand)]
    Key(KeyCommand),
    /// Dead letters: what could not be stored, why, and another try at it
    #[command(subcommand)]
    DeadLetters(LettersCommand),
    /// Check that every accepted event is accounted for
    ///
    /// Compares, for each project: accepted = stored + duplicate + dead-lettered + pending, the usage counters with
    /// the ledger, the tables' rows with what was metered, and the quota with what was stored this month. Safe to run
    /// at any time; while events are moving it checks bounds instead of equality.
    Audit(AuditArgs),
}

#[derive(Subcommand, Debug)]
enum ProjectCommand {
    /// Create a project with a first key
    #[command(after_help = "Example:\n  millrace project create shop --plan pro")]
    Create {
        /// The project's name, as you want to see it in reports
        name: String,
        /// The plan: free, pro, enterprise, or one of your own
        #[arg(long)]
        plan: String,
        #[command(flatten)]
        key: KeyArgs,
    },
}

#[derive(Subcommand, Debug)]
enum KeyCommand {
    /// Create one more key for a project
    #[command(after_help = "Example:\n  millrace key create shop --signed")]
    Create {
        /// The project's name
        project: String,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Revoke a key: it is refused from now on, everywhere
    #[command(after_help = "Example:\n  millrace key revoke 7")]
    Revoke {
        /// The key's number, which was printed when it was created
        key_id: i64,
    },
}

/// How a new key is to be.
#[derive(Args, Clone, Debug)]
struct KeyArgs {
    /// Use this text as the key (16 to 200 visible characters) instead of a random one
    #[arg(long)]
    key: Option<String>,
    /// Demand that every request is signed (Standard Webhooks); prints the signing secret
    #[arg(long)]
    signed: bool,
}

/// What an audit looks at.
#[derive(Args, Clone, Debug)]
struct AuditArgs {
    /// Trust the counters and do not count the rows of the tables, which takes long when they are large
    #[arg(long)]
    quick: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = parse();
    match run(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            failure.exit_code()
        }
    }
}

/// Settings may stand before or after the command.
fn parse() -> Cli {
    let command = Cli::command().mut_args(|argument| argument.global(true));
    let matches = command.get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let backend = cli.backend.check().map_err(|error| Failure::Usage(error.to_string()))?;
    let output = Output::new(cli.json);
    if let Command::Audit(AuditArgs { quick }) = cli.command {
        return audit::run(&backend, &output, !quick).await;
    }
    let store = backend::store(&backend);
    match cli.command {
        Command::Migrate => admin::migrate(&*store, &output).await,
        Command::Project(ProjectCommand::Create { name, plan, key }) => {
            admin::create_project(&*store, &output, &name, &plan, &key).await
        }
        Command::Key(KeyCommand::Create { project, key }) => {
            admin::create_key(&*store, &output, &project, &key).await
        }
        Command::Key(KeyCommand::Revoke { key_id }) => admin::revoke_key(&*store, &output, key_id).await,
        Command::DeadLetters(command) => letters::run(&*store, &output, command).await,
        Command::Audit(_) => unreachable!("returned above"),
    }
}
