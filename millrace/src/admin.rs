//! Schema, projects and keys.

use serde_json::json;
use shared::key::check_chosen_key;
use shared::store::{NewKey, Store};

use crate::KeyArgs;
use crate::failure::Failure;
use crate::output::Output;

/// `millrace migrate`
pub(crate) async fn migrate(store: &dyn Store, output: &Output) -> Result<(), Failure> {
    let applied = store.migrate().await?;
    let text = if applied.is_empty() {
        "The database is up to date.".to_owned()
    } else {
        format!("Applied {}. The database is up to date.", applied.join(", "))
    };
    output.print(&text, &json!({ "applied": applied }))
}

/// `millrace project create`
pub(crate) async fn create_project(
    store: &dyn Store,
    output: &Output,
    name: &str,
    plan: &str,
    key: &KeyArgs,
) -> Result<(), Failure> {
    check(key)?;
    let (project, new) = store.create_project(name, plan, key.key.as_deref(), key.signed).await?;
    let text = format!("Created project {name} (number {project}) on plan {plan}.\n{}", describe(&new));
    let json = json!({
        "project_id": project, "project": name, "plan": plan,
        "key_id": new.key_id, "key": new.key, "signing_secret": new.signing_secret,
    });
    output.print(&text, &json)
}

/// `millrace key create`
pub(crate) async fn create_key(
    store: &dyn Store,
    output: &Output,
    project: &str,
    key: &KeyArgs,
) -> Result<(), Failure> {
    check(key)?;
    let new = store.create_key(project, key.key.as_deref(), key.signed).await?;
    let text = format!("Created a key for project {project}.\n{}", describe(&new));
    let json = json!({
        "project": project, "key_id": new.key_id, "key": new.key, "signing_secret": new.signing_secret,
    });
    output.print(&text, &json)
}

/// `millrace key revoke`
pub(crate) async fn revoke_key(store: &dyn Store, output: &Output, key_id: i64) -> Result<(), Failure> {
    if !store.revoke_key(key_id).await? {
        return Err(Failure::Refused(format!("there is no live key with number {key_id}")));
    }
    output.print(&format!("Key {key_id} is revoked."), &json!({ "revoked": key_id }))
}

fn check(key: &KeyArgs) -> Result<(), Failure> {
    let complaint = key.key.as_deref().map(check_chosen_key).transpose();
    complaint.map(|_| ()).map_err(|complaint| Failure::Usage(format!("--key: {complaint}")))
}

fn describe(new: &NewKey) -> String {
    let mut text = format!("Key {}: {}\n", new.key_id, new.key);
    if let Some(secret) = &new.signing_secret {
        text.push_str(&format!("Signing secret: {secret}\n"));
    }
    text.push_str("Keep it now: only its hash is stored, and it is not shown again.\n");
    text
}
