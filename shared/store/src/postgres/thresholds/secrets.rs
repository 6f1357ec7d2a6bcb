//! The secrets that sign notifications. They are stored as they are, because HMAC needs them.

use std::time::Duration;

use millrace_event::key;
use tokio_postgres::Client;

use crate::StoreError;
use crate::meters::no_project;

const CREATE: &str =
    "INSERT INTO webhook_secrets (project_id, secret) VALUES ($1, $2) ON CONFLICT (project_id) DO NOTHING";
const ROTATE: &str = "
    INSERT INTO webhook_secrets AS s (project_id, secret) SELECT project_id, $2 FROM projects WHERE name = $1
    ON CONFLICT (project_id) DO UPDATE
       SET secret = excluded.secret, previous = s.secret,
           previous_until = now() + $3 * interval '1 microsecond'";

/// The first secret of a project. `None` if it has one.
pub(super) async fn create(client: &Client, project: i64) -> Result<Option<String>, StoreError> {
    let secret = key::random_secret();
    let created = client.execute(CREATE, &[&project, &secret.as_slice()]).await?;
    Ok((created == 1).then(|| key::show_secret(&secret)))
}

pub(in super::super) async fn rotate(
    client: &Client,
    project: &str,
    overlap: Duration,
) -> Result<String, StoreError> {
    let secret = key::random_secret();
    let overlap_us = overlap.as_micros() as f64;
    let rotated = client.execute(ROTATE, &[&project, &secret.as_slice(), &overlap_us]).await?;
    if rotated == 0 { Err(no_project(project)) } else { Ok(key::show_secret(&secret)) }
}
