//! The subcommands of `millrace threshold`.

use std::time::Duration;

use clap::Subcommand;
use ingest_api::documents;
use millrace_store::{Store, ThresholdInfo};
use serde_json::json;

use super::set::{self, SetArgs};
use super::show;
use crate::failure::Failure;
use crate::find;
use crate::moment::duration;
use crate::output::{Output, cut_table};

const OVERLAP_MAX: Duration = Duration::from_secs(90 * 86_400);

#[derive(Subcommand, Debug)]
pub(crate) enum ThresholdCommand {
    /// Create a threshold, or replace the one of this name
    ///
    /// When the stored events of a month reach a share of the plan's quota, what a customer has used reaches
    /// a share of its limit, or the figure of a meter reaches a value, a notification is written in the same
    /// transaction, once in each period, and sent to the URL as a signed Standard Webhook. A value that is
    /// reached already causes one with the next event.
    #[command(after_help = set::EXAMPLES)]
    Set(SetArgs),
    /// List thresholds
    #[command(after_help = "Examples:\n  millrace threshold list\n  millrace threshold list shop --json")]
    List {
        /// Only thresholds of this project
        project: Option<String>,
    },
    /// Show a threshold
    #[command(after_help = "Example:\n  millrace threshold show shop most-of-quota")]
    Show {
        /// The project's name
        project: String,
        /// The threshold's name
        name: String,
    },
    /// Delete a threshold; its notifications that are not delivered are given up
    #[command(after_help = "Example:\n  millrace threshold delete shop most-of-quota")]
    Delete {
        /// The project's name
        project: String,
        /// The threshold's name
        name: String,
    },
    /// Replace the secret that signs the notifications of a project, and print the new one
    ///
    /// Until the overlap ends, each notification has two signatures: by the new secret and by the old one.
    #[command(after_help = "Examples:\n  millrace threshold rotate-secret shop\n  \
                            millrace threshold rotate-secret shop --overlap 0   the old secret has leaked")]
    RotateSecret {
        /// The project's name
        project: String,
        /// How long the old secret signs as well: 30m, 24h, 7d, or 0; at most 90d
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = overlap)]
        overlap: Duration,
    },
}

fn overlap(text: &str) -> Result<Duration, &'static str> {
    match duration(text)? {
        overlap if overlap <= OVERLAP_MAX => Ok(overlap),
        _ => Err("an overlap is at most 90d"),
    }
}

pub(crate) async fn run(
    store: &dyn Store,
    output: &Output,
    command: ThresholdCommand,
) -> Result<(), Failure> {
    match command {
        ThresholdCommand::Set(arguments) => set::run(store, output, arguments).await,
        ThresholdCommand::List { project } => list(store, output, project.as_deref()).await,
        ThresholdCommand::Show { project, name } => {
            let info = find::threshold(store, &project, &name).await?;
            output.print(&show::text(&info), &documents::threshold(&info))
        }
        ThresholdCommand::Delete { project, name } => delete(store, output, &project, &name).await,
        ThresholdCommand::RotateSecret { project, overlap } => rotate(store, output, &project, overlap).await,
    }
}

async fn list(store: &dyn Store, output: &Output, project: Option<&str>) -> Result<(), Failure> {
    let project = match project {
        Some(name) => Some(find::project(store, name).await?.project),
        None => None,
    };
    let infos = store.thresholds(project).await?;
    let row = |info: &ThresholdInfo| {
        let definition = &info.definition;
        vec![
            info.project_name.clone(),
            definition.name.clone(),
            show::condition(&definition.rule),
            definition.url.clone(),
        ]
    };
    let text = if infos.is_empty() {
        "There is no threshold. Create one: millrace threshold set shop most --quota 80% --url https://example.com/hook"
            .to_owned()
    } else {
        cut_table(&["project", "threshold", "reached at", "url"], &infos.iter().map(row).collect::<Vec<_>>())
    };
    output.print(&text, &json!({ "thresholds": infos.iter().map(documents::threshold).collect::<Vec<_>>() }))
}

async fn delete(store: &dyn Store, output: &Output, project: &str, name: &str) -> Result<(), Failure> {
    find::threshold(store, project, name).await?;
    if !store.delete_threshold(project, name).await? {
        let text = format!("the threshold {name} of project {project} was deleted meanwhile");
        return Err(Failure::Refused(text));
    }
    let text = format!("Deleted the threshold {name} of project {project}.");
    output.print(&text, &json!({ "project": project, "name": name, "deleted": true }))
}

async fn rotate(store: &dyn Store, output: &Output, project: &str, overlap: Duration) -> Result<(), Failure> {
    find::project(store, project).await?;
    let secret = store.rotate_webhook_secret(project, overlap).await?;
    let text = format!(
        "New signing secret of project {project}: {secret}\nSave it now; it is not shown again. The old one signs as \
         well for {}.",
        humantime::format_duration(overlap)
    );
    output.print(
        &text,
        &json!({ "project": project, "signing_secret": secret, "overlap_s": overlap.as_secs() }),
    )
}
