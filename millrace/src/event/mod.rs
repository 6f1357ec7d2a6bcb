//! `millrace event`: takes stored events back.

mod cancel;

use clap::Subcommand;
use millrace_store::Store;

use self::cancel::CancelArgs;
use crate::failure::Failure;
use crate::output::Output;

#[derive(Subcommand, Debug)]
pub(crate) enum EventCommand {
    /// Cancel events that were sent by mistake, so that they are not billed
    ///
    /// Usage and every meter count them no more. Their rows stay: an event that is sent again stays a
    /// duplicate. The quota of the month is not refunded. An event that was accepted a moment ago may still
    /// wait to be stored, and is not found until then. Safe to repeat, and safe while programs are running.
    #[command(after_help = cancel::EXAMPLES)]
    Cancel(CancelArgs),
}

/// `cancel_days` are the days after a month for which its events can be cancelled.
pub(crate) async fn run(
    store: &dyn Store,
    output: &Output,
    command: EventCommand,
    cancel_days: u32,
) -> Result<(), Failure> {
    match command {
        EventCommand::Cancel(arguments) => cancel::run(store, output, &arguments, cancel_days).await,
    }
}
