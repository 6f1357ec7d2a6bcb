//! `millrace migrate`: brings the database schema up to date.

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use millrace_store::{JsonColumns, Store};
use serde_json::json;
use strum::VariantNames;

use crate::failure::Failure;
use crate::output::Output;

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct MigrateArgs {
    /// Also distribute the table events over the worker nodes of Citus, by project; needs the extension citus
    /// in the database. Moves all stored events
    #[arg(long)]
    distribute: bool,
    /// The type of the columns for JSON in a new PostgreSQL database; jsonb unless given. It is chosen once:
    /// another type than that of the database is refused. docs/schema.md compares them
    #[arg(long, value_parser = json_columns())]
    json_columns: Option<JsonColumns>,
}

fn json_columns() -> impl TypedValueParser<Value = JsonColumns> {
    PossibleValuesParser::new(JsonColumns::VARIANTS).map(|name| name.parse().expect("one of the names"))
}

pub(crate) async fn run(store: &dyn Store, output: &Output, arguments: MigrateArgs) -> Result<(), Failure> {
    let applied = match arguments.json_columns {
        Some(columns) => store.migrate_with(columns).await?,
        None => store.migrate().await?,
    };
    let columns = store.json_columns().await?.map(<&str>::from);
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
    let result = json!({ "applied": applied, "distributed": distributed, "json_columns": columns });
    output.print(&text, &result)
}
