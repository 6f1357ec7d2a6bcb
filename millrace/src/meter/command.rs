//! The subcommands of `millrace meter`.

use clap::Subcommand;
use millrace_store::Store;
use serde_json::json;

use super::create::{self, CreateArgs};
use super::{backfill, list, show};
use crate::failure::Failure;
use crate::find;
use crate::output::Output;

#[derive(Subcommand, Debug)]
pub(crate) enum MeterCommand {
    /// List meters
    #[command(after_help = "Examples:\n  millrace meter list\n  millrace meter list shop --json")]
    List {
        /// Only meters of this project
        project: Option<String>,
    },
    /// Create a meter
    ///
    /// A meter makes one figure of all events with one name, for each subject and each quarter of an hour of
    /// their timestamps. It counts events that are received from now on; with --backfill, also those that are
    /// stored already. A definition never changes: delete the meter and create another one.
    #[command(after_help = create::EXAMPLES)]
    Create(CreateArgs),
    /// Show a meter: its definition, whether its backfill is complete, and what it does not count
    #[command(after_help = "Example:\n  millrace meter show shop tokens")]
    Show {
        /// The project's name
        project: String,
        /// The meter's slug
        slug: String,
    },
    /// Continue a backfill that was interrupted
    ///
    /// Counts the events that were stored before the meter, oldest first, in short transactions and next to
    /// running workers. Ctrl-C at any moment is harmless: repeat the command to continue.
    #[command(after_help = "Example:\n  millrace meter backfill shop tokens")]
    Backfill {
        /// The project's name
        project: String,
        /// The meter's slug
        slug: String,
    },
    /// Delete a meter with all its figures
    ///
    /// Figures of events that retention has removed cannot be made again.
    #[command(after_help = "Example:\n  millrace meter delete shop tokens --yes")]
    Delete {
        /// The project's name
        project: String,
        /// The meter's slug
        slug: String,
        /// Confirm that the figures are to be deleted; required
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) async fn run(store: &dyn Store, output: &Output, command: MeterCommand) -> Result<(), Failure> {
    match command {
        MeterCommand::List { project } => list::run(store, output, project.as_deref()).await,
        MeterCommand::Create(arguments) => create::run(store, output, &arguments).await,
        MeterCommand::Show { project, slug } => show::run(store, output, &project, &slug).await,
        MeterCommand::Backfill { project, slug } => {
            let info = find::meter(store, &project, &slug).await?;
            backfill::run(store, output, &info).await
        }
        MeterCommand::Delete { project, slug, yes } => delete(store, output, &project, &slug, yes).await,
    }
}

async fn delete(
    store: &dyn Store,
    output: &Output,
    project: &str,
    slug: &str,
    is_confirmed: bool,
) -> Result<(), Failure> {
    find::meter(store, project, slug).await?;
    if !is_confirmed {
        let advice = format!(
            "this deletes the meter {slug} of project {project} with all its figures; add --yes to do it"
        );
        return Err(Failure::Usage(advice));
    }
    if !store.delete_meter(project, slug).await? {
        return Err(Failure::Refused(format!("the meter {slug} of project {project} was deleted meanwhile")));
    }
    let text = format!("Deleted the meter {slug} of project {project}.");
    output.print(&text, &json!({ "project": project, "slug": slug, "deleted": true }))
}
