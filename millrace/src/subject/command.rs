//! The subcommands of `millrace subject`.

use clap::Subcommand;
use millrace_settings::Policy;
use millrace_store::{ErasureKind, SharedStore, Store};
use millrace_stream::SharedStream;
use serde_json::json;

use super::erase::EraseArgs;
use super::{erase, export, list};
use crate::backend::Backend;
use crate::failure::Failure;
use crate::output::Output;

const ERASE_EXAMPLES: &str = "Examples:
  millrace subject erase shop alice@example.com --yes
  millrace subject erase shop alice@example.com --yes --no-wait";
const ANONYMIZE_EXAMPLES: &str = "Examples:
  millrace subject anonymize shop alice@example.com --yes
  millrace subject anonymize shop alice@example.com --drop-properties --yes";
const EXPORT_EXAMPLES: &str = "Examples:
  millrace subject export shop alice@example.com --output alice.jsonl
  millrace subject export shop alice@example.com | grep '\"record\":\"event\"'";

#[derive(Subcommand, Debug)]
pub(crate) enum SubjectCommand {
    /// Erase everything that is stored of a subject
    ///
    /// Deletes the events, dead letters and samples of refusals, in short transactions next to running
    /// programs. What was counted stays counted and billed: figures of meters move to a random pseudonym. At
    /// the end it waits until every event that was accepted before the command is stored, and erases those,
    /// too. Ctrl-C at any moment is harmless: repeat the command to continue. Events that are accepted later
    /// are new events.
    #[command(after_help = ERASE_EXAMPLES)]
    Erase(EraseArgs),
    /// Take the name off everything that is stored of a subject
    ///
    /// As erase, but the events stay: a random pseudonym is their subject, and the client's id and the
    /// context are removed. Properties stay unless you drop them. Dead letters and samples are deleted.
    #[command(after_help = ANONYMIZE_EXAMPLES)]
    Anonymize {
        #[command(flatten)]
        arguments: EraseArgs,
        /// Also remove the properties of the events
        #[arg(long)]
        drop_properties: bool,
    },
    /// Export everything that is stored of a subject, as lines of JSON
    ///
    /// Each line is an object whose member `record` says what it is: event, dead_letter, sample,
    /// meter_figure, limit, limit_usage, threshold or notification. Changes nothing.
    #[command(after_help = EXPORT_EXAMPLES)]
    Export {
        /// The project's name
        project: String,
        /// The subject, as the events have it
        subject: String,
        /// Write to this new file, which only you can read, instead of standard output
        #[arg(long, value_name = "FILE")]
        output: Option<std::path::PathBuf>,
    },
    /// List erasures: who erased when, and how much. Only those that are not finished name their subject
    #[command(after_help = "Examples:\n  millrace subject erasures\n  millrace subject erasures shop --json")]
    Erasures {
        /// Only erasures in this project
        project: Option<String>,
    },
    /// Create or drop the index that leads to the events of a subject
    ///
    /// Without it, erase, anonymize and export read all events of the project. With it, they read those of
    /// the subject, and every event takes more space and time to store.
    #[command(subcommand)]
    Index(IndexCommand),
}

#[derive(Subcommand, Debug)]
pub(crate) enum IndexCommand {
    /// Create the index
    ///
    /// On PostgreSQL it is built one partition after another, and workers continue. On files they wait. Safe
    /// to repeat after an interruption.
    #[command(after_help = "Example:\n  millrace subject index create")]
    Create,
    /// Drop the index
    #[command(after_help = "Example:\n  millrace subject index drop")]
    Drop,
}

pub(crate) async fn run(
    backend: &Backend,
    policy: &Policy,
    output: &Output,
    command: SubjectCommand,
) -> Result<(), Failure> {
    let store = backend.migrated_store().await?;
    match command {
        SubjectCommand::Erase(arguments) => {
            erase::run(&*store, opener(backend, policy, &store), output, &arguments, ErasureKind::Erase).await
        }
        SubjectCommand::Anonymize { arguments, drop_properties } => {
            let kind = match drop_properties {
                true => ErasureKind::AnonymizeWithoutProperties,
                false => ErasureKind::Anonymize,
            };
            erase::run(&*store, opener(backend, policy, &store), output, &arguments, kind).await
        }
        SubjectCommand::Export { project, subject, output: file } => {
            export::run(&*store, &project, &subject, file.as_deref()).await
        }
        SubjectCommand::Erasures { project } => list::run(&*store, output, project.as_deref()).await,
        SubjectCommand::Index(command) => index(&*store, output, &command).await,
    }
}

/// Opens the stream with all its shards: one that is left out may have events of the subject.
async fn opener(backend: &Backend, policy: &Policy, store: &SharedStore) -> Result<SharedStream, Failure> {
    let recorded = store.shards_recorded().await?;
    let whole = backend.with_shards(recorded).filter(|_| recorded > 0);
    whole.as_ref().unwrap_or(backend).stream(policy).await
}

async fn index(store: &dyn Store, output: &Output, command: &IndexCommand) -> Result<(), Failure> {
    let (exists, text) = match command {
        IndexCommand::Create if store.create_subject_index().await? => (true, "Created the index."),
        IndexCommand::Create => (true, "There is an index on the subject."),
        IndexCommand::Drop if store.drop_subject_index().await? => (false, "Dropped the index."),
        IndexCommand::Drop => (store.has_subject_index().await?, "There is no index events_subject."),
    };
    output.print(text, &json!({ "index": exists }))
}
