//! `millrace dead-letters redrive`

use clap::Args;
use millrace_settings::number;
use millrace_store::{LetterFilter, RedriveOrder, RedriveResult, Store, StoreError};
use serde_json::{Value, json};
use uuid::Uuid;

use super::filter::{self, FilterArgs};
use super::pages::{each_chunk, ids};
use super::rehearsal::Rehearsal;
use crate::failure::Failure;
use crate::output::{Output, counted, grouped};

#[derive(Args, Debug)]
pub(crate) struct RedriveArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Redrive every dead letter; required when no filter is given
    #[arg(long)]
    all: bool,
    /// Redrive at most this many letters, the newest
    #[arg(long, value_name = "N", value_parser = number(0..=usize::MAX))]
    limit: Option<usize>,
    /// Change nothing; show what would be redriven, and what of it cannot be read
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(store: &dyn Store, output: &Output, arguments: &RedriveArgs) -> Result<(), Failure> {
    let filter = arguments.filter.resolve(store).await?;
    let selection = selection(arguments, &filter)?;
    let limit = arguments.limit.unwrap_or(usize::MAX);
    if arguments.dry_run {
        let rehearsal = Rehearsal::of(store, &filter, limit).await?;
        return output.print(&rehearsal.text(), &rehearsal.json());
    }
    let unknown = |_| "unknown".to_owned();
    let order = RedriveOrder {
        id: Uuid::now_v7(),
        os_user: whoami::username().unwrap_or_else(unknown),
        host: whoami::hostname().unwrap_or_else(unknown),
        filter: selection,
    };
    let result = redrive(store, &order, &filter, limit).await?;
    let mut json = json!({ "redrive_id": (result.letters > 0).then_some(order.id) });
    put_counts(&mut json, result);
    output.print(&text(result), &json)?;
    if result.refused > 0 {
        let refused = counted(result.refused, "event");
        return Err(Failure::Refused(format!(
            "{refused} could not be stored; `millrace dead-letters list` shows why"
        )));
    }
    Ok(())
}

/// The options that select letters, for the history. Selecting all letters must be explicit.
fn selection(arguments: &RedriveArgs, filter: &LetterFilter) -> Result<String, Failure> {
    let options = filter::options(filter);
    let selection = match (options.is_empty(), arguments.all) {
        (true, true) => "--all".to_owned(),
        (false, false) => options,
        (true, false) => {
            let advice = "select letters with --project, --since, --until, --sqlstate, --code, --reason or --id, or with --all";
            return Err(Failure::Usage(advice.to_owned()));
        }
        (false, true) => {
            return Err(Failure::Usage("--all selects every dead letter; use it without filters".to_owned()));
        }
    };
    let limit = arguments.limit.map_or(String::new(), |limit| format!(" --limit {limit}"));
    Ok(format!("{selection}{limit}"))
}

async fn redrive(
    store: &dyn Store,
    order: &RedriveOrder,
    filter: &LetterFilter,
    limit: usize,
) -> Result<RedriveResult, Failure> {
    let mut result = RedriveResult::default();
    each_chunk(store, filter, limit, async |chunk| {
        let more = store.redrive(order, &ids(chunk)).await.map_err(|error| interrupted(error, result))?;
        result += more;
        Ok(())
    })
    .await?;
    Ok(result)
}

/// Earlier chunks are committed.
fn interrupted(error: StoreError, result: RedriveResult) -> Failure {
    let done = format!("{} were redriven before and remain so", counted(result.letters, "letter"));
    Failure::Store(match error {
        StoreError::Unavailable(cause) => {
            StoreError::Unavailable(format!("{cause}; {done}; repeat the command for the rest"))
        }
        StoreError::Invalid(cause) => StoreError::Invalid(format!("{cause}; {done}")),
        other => other,
    })
}

fn text(result: RedriveResult) -> String {
    if result.letters == 0 {
        return "There is nothing to redrive.".to_owned();
    }
    format!(
        "Redrove {}: {} stored, {} duplicate, {} refused again.",
        counted(result.letters, "letter"),
        counted(result.stored, "event"),
        grouped(result.duplicate.into()),
        grouped(result.refused.into()),
    )
}

/// Adds the counts of a redrive to a JSON document.
pub(super) fn put_counts(document: &mut Value, result: RedriveResult) {
    document["letters"] = json!(result.letters);
    document["stored"] = json!(result.stored);
    document["duplicate"] = json!(result.duplicate);
    document["refused"] = json!(result.refused);
}
