//! `millrace dead-letters`: what could not be stored, why, and another try at it.
//!
//! What this room must never do: decide what becomes of an event. The store does, in one transaction with everything that
//! counts it; here letters are chosen, shown, and handed to it in small lots.

mod filter;
mod history;
mod list;
mod redrive;
mod show;
mod text;

use clap::{Args, Subcommand};
use millrace_store::{DeadLetter, LetterFilter, Store};

use self::filter::FilterArgs;
use crate::failure::Failure;
use crate::output::Output;

/// Letters asked for at once.
const PAGE: u32 = 500;

/// The commands.
#[derive(Subcommand, Debug)]
pub(crate) enum LettersCommand {
    /// List what is dead, newest first, and count it by reason
    #[command(after_help = LIST_EXAMPLES)]
    List(ListArgs),
    /// Show everything that is known of one dead letter, its events included
    #[command(after_help = "Example:\n  millrace dead-letters show 17")]
    Show {
        /// The letter's number, as the list has it
        id: i64,
    },
    /// Try to store dead letters again, when what refused them is mended
    ///
    /// What can be stored now is stored as if it had been all along: it is counted under the hour in which it was
    /// received, an event that has arrived again meanwhile is a duplicate, and no quota is charged, for what died was
    /// refunded. What is refused again stays dead, with the new reason. It is done in lots, each of them all or nothing:
    /// stopped with Ctrl-C, or repeated, the command goes on with what is left. Every redrive stands in the history.
    ///
    /// Exit codes: 0 all of them are stored, 1 some were refused again, 3 the database could not go on (repeat it).
    #[command(after_help = REDRIVE_EXAMPLES)]
    Redrive(RedriveArgs),
    /// List what was redriven when, by whom, and what became of it
    #[command(after_help = "Example:\n  millrace dead-letters history --limit 5")]
    History {
        /// At most so many, the latest
        #[arg(long, value_name = "N", default_value_t = 20)]
        limit: u32,
    },
}

const LIST_EXAMPLES: &str = "\
Examples:
  millrace dead-letters list                                 the latest, and all of them by reason
  millrace dead-letters list --project shop --since 2h       of one project, of the last two hours
  millrace dead-letters list --sqlstate 23514 --limit 5      refused by a CHECK constraint";

const REDRIVE_EXAMPLES: &str = "\
Examples:
  millrace dead-letters redrive --sqlstate 23514 --dry-run   what would be tried, and what of it cannot be read
  millrace dead-letters redrive --project shop --since 2026-11-20
  millrace dead-letters redrive --id 17 --id 18
  millrace dead-letters redrive --all";

/// What is listed.
#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Show at most so many; the count by reason is of all of them
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
    /// Also those that were redriven and are no longer dead
    #[arg(long)]
    redriven: bool,
}

/// What is driven again.
#[derive(Args, Debug)]
pub(crate) struct RedriveArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Every letter that is dead; without it, say which
    #[arg(long)]
    all: bool,
    /// At most so many letters, the newest
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Change nothing: tell what would be tried, and what of it cannot be read
    #[arg(long)]
    dry_run: bool,
}

/// Hands the letters that the filter lets through to `take`, `limit` at most: newest first, page by page, so that there may
/// be any number. What dies meanwhile is not among them.
async fn each_page(
    store: &dyn Store,
    filter: &LetterFilter,
    limit: usize,
    mut take: impl AsyncFnMut(&[DeadLetter]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let (mut before, mut left) = (None, limit);
    while left > 0 {
        let most = u32::try_from(left).unwrap_or(u32::MAX).min(PAGE);
        let page = store.dead_letters(filter, before, most).await?;
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        left -= page.len();
        take(&page).await?;
    }
    Ok(())
}

/// `millrace dead-letters`
pub(crate) async fn run(store: &dyn Store, output: &Output, command: LettersCommand) -> Result<(), Failure> {
    match command {
        LettersCommand::List(arguments) => list::run(store, output, &arguments).await,
        LettersCommand::Show { id } => show::run(store, output, id).await,
        LettersCommand::Redrive(arguments) => redrive::run(store, output, &arguments).await,
        LettersCommand::History { limit } => history::run(store, output, limit).await,
    }
}
