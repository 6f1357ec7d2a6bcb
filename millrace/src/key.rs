//! `millrace key`: manages API keys. A key is printed once, when it is created.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use millrace_event::key::check_chosen_key;
use millrace_event::policy::KeyScope;
use millrace_event::web_origin;
use millrace_settings::number;
use millrace_store::{KeyInfo, KeyOptions, NewKey, Store};
use serde_json::{Value, json};
use strum::VariantNames;

use crate::failure::Failure;
use crate::find;
use crate::moment::{duration, shown};
use crate::output::{Output, table};

/// The longest time that an old key may work next to the new one.
const OVERLAP_MAX: Duration = Duration::from_secs(90 * 86_400);

#[derive(Subcommand, Debug)]
pub(crate) enum KeyCommand {
    /// List keys, with their numbers and dates
    ///
    /// Shows which keys are in use, which expire, and which could be revoked because they are not used. The
    /// keys themselves are not stored, and cannot be shown.
    #[command(after_help = "Examples:\n  millrace key list\n  millrace key list shop")]
    List {
        /// Only the keys of this project
        project: Option<String>,
    },
    /// Create another key for a project
    ///
    /// Give each of your programs its own key, so that you can revoke one without stopping the others. A key
    /// in a web page is public: give it the scope write, and the origins of your pages.
    #[command(after_help = "Examples:\n  millrace key create shop --signed\n  \
                      millrace key create shop --scope write --origin https://shop.example")]
    Create {
        /// The project's name
        project: String,
        #[command(flatten)]
        key: KeyArgs,
    },
    /// Replace a key by a new one; the old key works for some more time
    ///
    /// Prints a new key of the same kind for the same project, with the same scope and origins. Give it to
    /// your clients before the overlap ends; from then on the old key is refused. A key can be rotated once.
    /// The next time, rotate the new key.
    #[command(
        after_help = "Examples:\n  millrace key rotate 7                  both keys work for a day, then only the new one\n  \
                            millrace key rotate 7 --overlap 7d\n  \
                            millrace key rotate 7 --overlap 0      the old key has leaked: refuse it now"
    )]
    Rotate {
        /// The old key's number, as `millrace key list` shows it
        #[arg(value_parser = number(1..=i64::MAX))]
        key_id: i64,
        /// How long the old key still works, such as 30m, 24h or 7d; at most 90d; 0 ends it immediately
        #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = overlap)]
        overlap: Duration,
        /// Use this text as the new key (16 to 200 visible characters) instead of a random one
        #[arg(long)]
        key: Option<String>,
    },
    /// Revoke a key
    ///
    /// All API processes refuse it within seconds. Revoking cannot be undone; create a new key instead.
    #[command(after_help = "Example:\n  millrace key revoke 7")]
    Revoke {
        /// The key's number, as `millrace key list` shows it
        #[arg(value_parser = number(1..=i64::MAX))]
        key_id: i64,
    },
}

#[derive(Args, Clone, Debug)]
pub(crate) struct KeyArgs {
    /// Use this text as the key (16 to 200 visible characters) instead of a random one
    #[arg(long)]
    pub(crate) key: Option<String>,
    /// Require a signature on every request (Standard Webhooks), and print the signing secret
    #[arg(long)]
    pub(crate) signed: bool,
    /// What the key may do: write sends events and reads nothing, read reads usage, limits, batches and
    /// rejections, full does both
    #[arg(long, default_value = "full", value_parser = scope())]
    pub(crate) scope: KeyScope,
    /// Let only pages of this origin use the key, such as `https://shop.example`; repeat it for more origins.
    /// Without it, every client may use the key
    #[arg(long, value_name = "ORIGIN", value_parser = web_origin::normalize)]
    pub(crate) origin: Vec<String>,
}

impl KeyArgs {
    /// # Errors
    /// When the chosen key is not allowed.
    pub(crate) fn options(&self) -> Result<KeyOptions, Failure> {
        check(self.key.as_deref())?;
        let mut allowed_origins = self.origin.clone();
        allowed_origins.sort_unstable();
        allowed_origins.dedup();
        Ok(KeyOptions { chosen: self.key.clone(), signed: self.signed, scope: self.scope, allowed_origins })
    }
}

fn scope() -> impl TypedValueParser<Value = KeyScope> {
    PossibleValuesParser::new(KeyScope::VARIANTS).map(|name| name.parse().expect("one of the names"))
}

fn overlap(text: &str) -> Result<Duration, &'static str> {
    match duration(text)? {
        overlap if overlap <= OVERLAP_MAX => Ok(overlap),
        _ => Err("an overlap is at most 90d"),
    }
}

pub(crate) async fn run(store: &dyn Store, output: &Output, command: KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::List { project } => list(store, output, project.as_deref()).await,
        KeyCommand::Create { project, key } => create(store, output, &project, &key).await,
        KeyCommand::Rotate { key_id, overlap, key } => {
            rotate(store, output, key_id, overlap, key.as_deref()).await
        }
        KeyCommand::Revoke { key_id } => revoke(store, output, key_id).await,
    }
}

async fn list(store: &dyn Store, output: &Output, project: Option<&str>) -> Result<(), Failure> {
    let project = match project {
        Some(name) => Some(find::project(store, name).await?.project),
        None => None,
    };
    let keys = store.keys(project).await?;
    let row = |key: &KeyInfo| {
        vec![
            key.key_id.to_string(),
            key.project.clone(),
            scope_name(key).to_owned(),
            shown(key.created_at),
            key.last_used_at.map_or_else(|| "never".to_owned(), shown),
            key.expires_at.map_or_else(|| "never".to_owned(), shown),
            key.revoked_at.map_or_else(|| "no".to_owned(), shown),
            if key.signed { "yes" } else { "no" }.to_owned(),
            if key.allowed_origins.is_empty() { "any".to_owned() } else { key.allowed_origins.join(" ") },
        ]
    };
    let rows: Vec<_> = keys.iter().map(row).collect();
    let text = if rows.is_empty() {
        "There is no key. Create a project with its first key: millrace project create shop --plan pro"
            .to_owned()
    } else {
        let head =
            ["key", "project", "scope", "created", "last used", "expires", "revoked", "signed", "origins"];
        table(&head, &rows)
    };
    output.print(&text, &json!({ "keys": keys.iter().map(as_json).collect::<Vec<_>>() }))
}

fn as_json(key: &KeyInfo) -> Value {
    json!({
        "key_id": key.key_id,
        "project": key.project,
        "scope": scope_name(key),
        "origins": key.allowed_origins,
        "signed": key.signed,
        "created_at": shown(key.created_at),
        "last_used_at": key.last_used_at.map(shown),
        "expires_at": key.expires_at.map(shown),
        "revoked_at": key.revoked_at.map(shown),
    })
}

fn scope_name(key: &KeyInfo) -> &'static str {
    key.scope.into()
}

async fn create(store: &dyn Store, output: &Output, project: &str, key: &KeyArgs) -> Result<(), Failure> {
    let options = key.options()?;
    find::project(store, project).await?;
    let new = store.create_key(project, &options).await?;
    let scope: &str = options.scope.into();
    let text = format!(
        "Created a key for project {project}. {}\n{}",
        what_it_does(options.scope, &options.allowed_origins),
        describe(&new)
    );
    let json = json!({
        "project": project, "scope": scope, "origins": options.allowed_origins,
        "key_id": new.key_id, "key": new.key, "signing_secret": new.signing_secret,
    });
    output.print(&text, &json)
}

async fn rotate(
    store: &dyn Store,
    output: &Output,
    key_id: i64,
    overlap: Duration,
    chosen: Option<&str>,
) -> Result<(), Failure> {
    check(chosen)?;
    let rotated = store.rotate_key(key_id, overlap, chosen).await?;
    let (project, ends) = (&rotated.project, shown(rotated.old_expires_at));
    let old = if overlap.is_zero() {
        format!("Key {key_id} of project {project} is refused from now on.")
    } else {
        format!("Key {key_id} of project {project} works until {ends} and is refused after that.")
    };
    let new = rotated.new;
    let text = format!("{old} The new key:\n{}", describe(&new));
    let json = json!({
        "project": project, "rotated": key_id, "rotated_expires_at": ends,
        "key_id": new.key_id, "key": new.key, "signing_secret": new.signing_secret,
    });
    output.print(&text, &json)
}

async fn revoke(store: &dyn Store, output: &Output, key_id: i64) -> Result<(), Failure> {
    if !store.revoke_key(key_id).await? {
        return Err(Failure::Refused(format!(
            "there is no live key {key_id}; `millrace key list` shows all"
        )));
    }
    output.print(&format!("Key {key_id} is revoked."), &json!({ "revoked": key_id }))
}

/// Checks a key that the operator chose.
pub(crate) fn check(chosen: Option<&str>) -> Result<(), Failure> {
    let checked = chosen.map(check_chosen_key).transpose();
    checked.map(|_| ()).map_err(|error| Failure::Usage(format!("--key: {error}")))
}

/// What a key may do, as a sentence.
pub(crate) fn what_it_does(scope: KeyScope, origins: &[String]) -> String {
    let scope = match scope {
        KeyScope::Write => "This key sends events and reads nothing",
        KeyScope::Read => "This key reads usage, limits, batches and rejections, and sends nothing",
        KeyScope::Full => "This key sends events and reads reports",
    };
    match origins {
        [] => format!("{scope}."),
        origins => format!("{scope}, from pages of {} only.", origins.join(", ")),
    }
}

/// Prints a new key for its owner.
pub(crate) fn describe(new: &NewKey) -> String {
    let mut text = format!("Key {}: {}\n", new.key_id, new.key);
    match &new.signing_secret {
        Some(secret) => text.push_str(&format!(
            "Signing secret: {secret}\nSave both now; they are not shown again. Only a hash of the key is stored. The \
             signing secret is stored as it is, to check signatures.\n"
        )),
        None => text.push_str("Save it now: only its hash is stored, and it is not shown again.\n"),
    }
    text
}
