//! The subcommands of `millrace dead-letters`.

use clap::Subcommand;
use millrace_settings::number;
use millrace_store::Store;

use super::list::{self, ListArgs};
use super::redrive::{self, RedriveArgs};
use super::{history, show};
use crate::failure::Failure;
use crate::output::Output;

#[derive(Subcommand, Debug)]
pub(crate) enum LettersCommand {
    /// List dead letters, newest first, and count them by reason
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show one dead letter with its events
    #[command(after_help = "Example:\n  millrace dead-letters show 17")]
    Show {
        /// The letter's number, as the list shows it
        #[arg(value_parser = number(1..=i64::MAX))]
        id: i64,
    },
    /// Store dead letters again, after the cause is fixed
    ///
    /// Events that can be stored now are stored as if they had been from the start: they are billed under the
    /// hour in which they were received, and an event that has arrived again meanwhile is a duplicate. They
    /// charge no quota, because dead events were refunded. Events that are refused again remain dead, with
    /// the new reason.
    ///
    /// The command works in chunks, each in one transaction. After Ctrl-C or an error, repeat it to continue
    /// with the rest. The history lists every redrive.
    ///
    /// Exit codes: 0 all events are stored; 1 some were refused again; 3 the database became unreachable,
    /// repeat the command.
    #[command(after_help = REDRIVE_EXAMPLES)]
    Redrive(RedriveArgs),
    /// List past redrives, who ran them, and their results
    #[command(after_help = "Example:\n  millrace dead-letters history --limit 5")]
    History {
        /// Show at most this many, the latest
        #[arg(long, value_name = "N", default_value = "20", value_parser = number(0..=1_000_000_u32))]
        limit: u32,
    },
}

const LIST_EXAMPLES: &str = "\
Examples:
  millrace dead-letters list                                 the latest, and all of them by reason
  millrace dead-letters list --project shop --since 2h       of one project, in the last two hours
  millrace dead-letters list --sqlstate 23514 --limit 5      refused by a CHECK constraint";

const REDRIVE_EXAMPLES: &str = "\
Examples:
  millrace dead-letters redrive --sqlstate 23514 --dry-run   what would be stored, and what cannot be read
  millrace dead-letters redrive --project shop --since 2026-11-20
  millrace dead-letters redrive --id 17 --id 18
  millrace dead-letters redrive --all";

pub(crate) async fn run(store: &dyn Store, output: &Output, command: LettersCommand) -> Result<(), Failure> {
    match command {
        LettersCommand::List(arguments) => list::run(store, output, &arguments).await,
        LettersCommand::Show { id } => show::run(store, output, id).await,
        LettersCommand::Redrive(arguments) => redrive::run(store, output, &arguments).await,
        LettersCommand::History { limit } => history::run(store, output, limit).await,
    }
}
