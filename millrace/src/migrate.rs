//! `millrace migrate`: brings the database schema up to date.

use millrace_store::Store;
use serde_json::json;

use crate::failure::Failure;
use crate::output::Output;

pub(crate) async fn run(store: &dyn Store, output: &Output) -> Result<(), Failure> {
    let applied = store.migrate().await?;
    let text = if applied.is_empty() {
        "The database schema is up to date.".to_owned()
    } else {
        format!("Applied {}. The database schema is up to date.", applied.join(", "))
    };
    output.print(&text, &json!({ "applied": applied }))
}
