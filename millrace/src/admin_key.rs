//! `millrace admin-key`: manages the keys of programs that manage projects over HTTP. A key is printed once,
//! when it is created.

use clap::Subcommand;
use millrace_event::key::check_chosen_admin_key;
use millrace_settings::number;
use millrace_store::{AdminKeyInfo, Store};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::moment::shown;
use crate::output::{Output, table};

#[derive(Subcommand, Debug)]
pub(crate) enum AdminKeyCommand {
    /// List admin keys, with their numbers and dates
    ///
    /// The keys themselves are not stored, and cannot be shown.
    #[command(after_help = "Example:\n  millrace admin-key list")]
    List,
    /// Create an admin key
    ///
    /// A program with this key creates and changes projects, keys, plans and meters over HTTP, under
    /// /v1/admin. It sends no events and reads no reports. Give each program its own key.
    #[command(after_help = "Example:\n  millrace admin-key create billing")]
    Create {
        /// What the key is for, as the list and the log show it
        name: String,
        /// Use this text as the key (mka_ and at least 28 more visible characters) instead of a random one
        #[arg(long)]
        key: Option<String>,
    },
    /// Revoke an admin key
    ///
    /// It is refused from the next request on. Revoking cannot be undone; create a new key instead.
    #[command(after_help = "Example:\n  millrace admin-key revoke 2")]
    Revoke {
        /// The key's number, as `millrace admin-key list` shows it
        #[arg(value_parser = number(1..=i64::MAX))]
        key_id: i64,
    },
}

pub(crate) async fn run(store: &dyn Store, output: &Output, command: AdminKeyCommand) -> Result<(), Failure> {
    match command {
        AdminKeyCommand::List => list(store, output).await,
        AdminKeyCommand::Create { name, key } => create(store, output, &name, key.as_deref()).await,
        AdminKeyCommand::Revoke { key_id } => revoke(store, output, key_id).await,
    }
}

async fn list(store: &dyn Store, output: &Output) -> Result<(), Failure> {
    let keys = store.admin_keys().await?;
    let row = |key: &AdminKeyInfo| {
        vec![
            key.admin_key_id.to_string(),
            key.name.clone(),
            shown(key.created_at),
            key.last_used_at.map_or_else(|| "never".to_owned(), shown),
            key.revoked_at.map_or_else(|| "no".to_owned(), shown),
        ]
    };
    let rows: Vec<_> = keys.iter().map(row).collect();
    let text = if rows.is_empty() {
        "There is no admin key. Create one with: millrace admin-key create NAME".to_owned()
    } else {
        table(&["key", "name", "created", "last used", "revoked"], &rows)
    };
    output.print(&text, &json!({ "admin_keys": keys.iter().map(as_json).collect::<Vec<_>>() }))
}

fn as_json(key: &AdminKeyInfo) -> Value {
    json!({
        "admin_key_id": key.admin_key_id,
        "name": key.name,
        "created_at": shown(key.created_at),
        "last_used_at": key.last_used_at.map(shown),
        "revoked_at": key.revoked_at.map(shown),
    })
}

async fn create(store: &dyn Store, output: &Output, name: &str, chosen: Option<&str>) -> Result<(), Failure> {
    let checked = chosen.map(check_chosen_admin_key).transpose();
    checked.map_err(|error| Failure::Usage(format!("--key: {error}")))?;
    let new = store.create_admin_key(name, chosen).await?;
    let text = format!(
        "Created an admin key. It manages projects, keys, plans and meters under /v1/admin.\n\
         Admin key {}: {}\n\
         Save it now: only its hash is stored, and it is not shown again.",
        new.admin_key_id, new.key
    );
    output.print(&text, &json!({ "admin_key_id": new.admin_key_id, "name": name, "key": new.key }))
}

async fn revoke(store: &dyn Store, output: &Output, key_id: i64) -> Result<(), Failure> {
    if !store.revoke_admin_key(key_id).await? {
        return Err(Failure::Refused(format!(
            "there is no live admin key {key_id}; `millrace admin-key list` shows all"
        )));
    }
    output.print(&format!("Admin key {key_id} is revoked."), &json!({ "revoked": key_id }))
}
