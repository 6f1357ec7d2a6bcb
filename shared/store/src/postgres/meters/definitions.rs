//! Reads and changes the definitions of meters.

use millrace_event::meter::{Meter, MeterDefinition, MeterId, MeterSet};
use millrace_event::plan::ProjectId;
use tokio_postgres::{Client, Error, Row};

use super::super::copy::Instant;
use super::super::thresholds;
use crate::meters::{StoredDefinition, no_project, slug_taken};
use crate::{MeterInfo, MeterStart, StoreError};

/// The advisory lock for changes of definitions ("mete"); see the migration `0010_meters`.
const LOCK: &str = "SELECT pg_advisory_xact_lock(1835365477)";
/// A change waits for all transactions that write events, and makes the next ones wait.
const LOCK_WAIT: &str = "SET LOCAL lock_timeout = '30s'; SET LOCAL statement_timeout = '60s'";
/// Tells the triggers of `meters` and `meter_retired` that this transaction leaves cancelled events out.
pub(super) const KNOWS_CANCELLATIONS: &str = "SET LOCAL millrace.knows_cancellations = 'on'";
const METERS: &str = "
    SELECT m.meter_id, m.project_id, m.slug, m.event_name, m.aggregation, m.value_path, m.group_names, m.group_paths,
           m.received_from, m.counted_until, m.created_at, p.name
      FROM meters m JOIN projects p USING (project_id)
     WHERE m.deleted_at IS NULL AND ($1::bigint IS NULL OR m.project_id = $1) ORDER BY p.name, m.slug";
/// An event that is not stored yet is received later than every entry that was written.
const CREATE: &str = "
    INSERT INTO meters (project_id, slug, event_name, aggregation, value_path, group_names, group_paths,
                        received_from, counted_until)
    SELECT project_id, $2, $3, $4, $5, $6, $7,
           CASE WHEN $8 THEN '-infinity'::timestamptz
                ELSE coalesce((SELECT to_timestamp(0) + (max(entry_ms) + 1) * interval '1 millisecond'
                                 FROM stream_positions), '-infinity') END,
           CASE WHEN $8 THEN '-infinity'::timestamptz ELSE 'infinity' END
      FROM projects WHERE name = $1
    ON CONFLICT (project_id, slug) WHERE deleted_at IS NULL DO NOTHING
    RETURNING meter_id";
const DELETE: &str = "
    UPDATE meters m SET deleted_at = now() FROM projects p
     WHERE p.project_id = m.project_id AND p.name = $1 AND m.slug = $2 AND m.deleted_at IS NULL";

/// Waits until no transaction that writes events is open, and keeps others from committing until this one
/// ends.
pub(super) async fn lock(transaction: &Client) -> Result<(), Error> {
    transaction.batch_execute(LOCK_WAIT).await?;
    transaction.batch_execute(LOCK).await
}

/// The meters of a project, or of all projects.
pub(in super::super) async fn meters(
    client: &Client,
    project: Option<ProjectId>,
) -> Result<Vec<MeterInfo>, StoreError> {
    let rows = client.query(METERS, &[&project.map(|project| project.0)]).await?;
    rows.iter().map(info).collect()
}

/// The meters by which a writer counts.
pub(super) async fn meter_set(client: &Client) -> Result<MeterSet, StoreError> {
    Ok(MeterSet::new(meters(client, None).await?.into_iter().map(|info| info.meter)))
}

fn info(row: &Row) -> Result<MeterInfo, StoreError> {
    let group_paths: Vec<String> = row.get(7);
    let definition = StoredDefinition {
        slug: row.get(2),
        event: row.get(3),
        aggregation: row.get(4),
        value: row.get(5),
        group_names: row.get(6),
        group_paths: &group_paths,
    }
    .read()?;
    Ok(MeterInfo {
        meter: Meter {
            id: MeterId(row.get(0)),
            project: ProjectId(row.get(1)),
            definition,
            received_from_us: row.get::<_, Instant>(8).0,
            counted_until_us: row.get::<_, Instant>(9).0,
        },
        created_at: row.get::<_, Instant>(10).into(),
        project_name: row.get(11),
    })
}

pub(in super::super) async fn create(
    client: &mut deadpool_postgres::Client,
    project: &str,
    definition: &MeterDefinition,
    start: MeterStart,
) -> Result<MeterInfo, StoreError> {
    definition.check().map_err(|error| StoreError::Invalid(error.to_string()))?;
    let transaction = client.transaction().await?;
    lock(transaction.client()).await?;
    let exists =
        transaction.query_opt("SELECT project_id FROM projects WHERE name = $1", &[&project]).await?;
    let Some(found) = exists else {
        return Err(no_project(project));
    };
    let MeterDefinition { slug, event, aggregation, value, groups } = definition;
    let names: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
    let paths: Vec<String> = groups.iter().map(|group| group.path.to_string()).collect();
    let (aggregation, value) = (aggregation.as_ref(), value.as_ref().map(ToString::to_string));
    let is_backfill = start == MeterStart::FirstEvent;
    let created = transaction
        .query_opt(CREATE, &[&project, slug, event, &aggregation, &value, &names, &paths, &is_backfill])
        .await?;
    let Some(created) = created else {
        return Err(slug_taken(project, slug));
    };
    let id = MeterId(created.get(0));
    let infos = meters(transaction.client(), Some(ProjectId(found.get(0)))).await?;
    transaction.commit().await?;
    let new = infos.into_iter().find(|info| info.meter.id == id);
    new.ok_or_else(|| StoreError::Unavailable("the new meter was deleted at once".to_owned()))
}

/// Marks a meter as deleted: it counts nothing more, and its figures are removed later.
pub(in super::super) async fn delete(
    client: &mut deadpool_postgres::Client,
    project: &str,
    slug: &str,
) -> Result<bool, StoreError> {
    let transaction = client.transaction().await?;
    lock(transaction.client()).await?;
    thresholds::delete_of_meter(transaction.client(), project, slug).await?;
    let deleted = transaction.execute(DELETE, &[&project, &slug]).await?;
    transaction.commit().await?;
    Ok(deleted == 1)
}
