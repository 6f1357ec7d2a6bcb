//! `millrace migrate`: brings the database schema up to date.

use clap::Args;
use millrace_store::Store;
use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct MigrateArgs {
    /// Also distribute the table events over the worker nodes of Citus, by project; needs the extension citus
    /// in the database. Moves all stored events
    #[arg(long)]
    distribute: bool,
}

pub(crate) async fn run(store: &dyn Store, output: &Output, arguments: MigrateArgs) -> Result<(), Failure> {
    let applied = store.migrate().await?;
    let distributed = if arguments.distribute { Some(store.distribute().await?) } else { None };
    let mut text = if applied.is_empty() {
        "The database schema is up to date.".to_owned()
    } else {
        format!("Applied {}. The database schema is up to date.", applied.join(", "))
    };
    text.push_str(match distributed {
        Some(true) => " The table events is now distributed by project.",
        Some(false) => " The table events was distributed before.",
        None => "",
    });
    output.print(&text, &json!({ "applied": applied, "distributed": distributed }))
}
