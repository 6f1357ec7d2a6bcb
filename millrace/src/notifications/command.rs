//! `millrace notifications`

use clap::{Args, Subcommand};
use millrace_settings::number;
use millrace_store::Store;
use serde_json::json;

use super::list::{self, ListArgs};
use crate::failure::Failure;
use crate::output::Output;

pub(crate) const EXAMPLES: &str = "\
Examples:
  millrace notifications                         the newest of all projects
  millrace notifications shop --failed           those of one project that could not be delivered
  millrace notifications retry 7                 deliver one now, also again";

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_precedence_over_arg = true)]
pub(crate) struct NotificationsArgs {
    #[command(subcommand)]
    command: Option<NotificationsCommand>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Subcommand, Debug)]
pub(crate) enum NotificationsCommand {
    /// Deliver a notification now, with all its attempts; one that was delivered is sent again
    #[command(after_help = "Example:\n  millrace notifications retry 7")]
    Retry {
        /// The notification's number, as `millrace notifications` shows it
        #[arg(value_parser = number(1..=i64::MAX))]
        notification_id: i64,
    },
}

pub(crate) async fn run(
    store: &dyn Store,
    output: &Output,
    arguments: NotificationsArgs,
) -> Result<(), Failure> {
    match arguments.command {
        None => list::run(store, output, &arguments.list).await,
        Some(NotificationsCommand::Retry { notification_id }) => retry(store, output, notification_id).await,
    }
}

async fn retry(store: &dyn Store, output: &Output, id: i64) -> Result<(), Failure> {
    if !store.retry_notification(id).await? {
        let text = format!("there is no notification {id}; `millrace notifications` shows all");
        return Err(Failure::Refused(text));
    }
    let text = format!("A worker will deliver notification {id} within seconds.");
    output.print(&text, &json!({ "notification_id": id, "state": "pending" }))
}
