//! `millrace` alone is the whole service in one process; with a command it is the operator's hand.
//!
//! What this room must never do: print a key more than once, or let a command touch the data path. Commands speak to
//! stream and store through the same traits as everybody else.

mod admin;
mod audit;
mod failure;
mod output;
mod place;
mod standalone;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use shared::config::{PolicyArgs, ServersArgs};

use crate::failure::Failure;
use crate::output::Output;
use crate::place::Place;
use crate::standalone::ServeArgs;

const EXAMPLES: &str = "\
Examples:
  millrace                                      serve: everything in one process, on files in ./millrace-data
  millrace migrate                              bring the database up to date; safe to repeat
  millrace project create shop --plan pro       a project and its first key
  millrace key create shop --signed             one more key, whose requests must be signed
  millrace key revoke 7                         refuse key number 7 from now on
  millrace audit                                is every accepted event accounted for?
  millrace audit --quick --json                 the same for a program, without counting table rows

Exit codes:
  0  done; for audit: every accepted event is accounted for
  1  refused; for audit: it does not hold
  2  wrong usage or settings
  3  what holds the data cannot be reached";

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
    #[arg(long, env = "DATA_DIR", default_value = "millrace-data", global = true)]
    data_dir: PathBuf,
    #[command(flatten)]
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
    Migrate,
    /// Projects: who is metered and limited
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Keys: how clients show which project they are of
    #[command(subcommand)]
    Key(KeyCommand),
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
    let store = place.store()?;
    match command {
        Command::Migrate => admin::migrate(&*store, &output).await,
        Command::Project(ProjectCommand::Create { name, plan, key }) => {
            admin::create_project(&*store, &output, &name, &plan, &key).await
        }
        Command::Key(KeyCommand::Create { project, key }) => {
            admin::create_key(&*store, &output, &project, &key).await
        }
        Command::Key(KeyCommand::Revoke { key_id }) => admin::revoke_key(&*store, &output, key_id).await,
        Command::Audit(AuditArgs { quick }) => {
            let stream = place.stream(&policy).await?;
            audit::run(&*stream, &*store, &output, !quick).await
        }
    }
}
