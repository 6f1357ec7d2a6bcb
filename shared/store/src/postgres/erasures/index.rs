//! The index that leads to the events of a subject, which operators create when they need it.

use tokio_postgres::{Client, Error};

use super::super::connector::Connector;
use super::super::distribution;
use super::super::session::Session;
use crate::StoreError;

/// Building takes as long as it takes; what is built waits for transactions that are open.
const SETTINGS: &str = "SET lock_timeout = 0; SET statement_timeout = 0;";
const DROP_SETTINGS: &str = "SET lock_timeout = '10s'; SET statement_timeout = '60s';";
/// Any valid index that begins with these columns.
const EXISTS: &str = "
    SELECT EXISTS (SELECT FROM pg_index WHERE indrelid = 'events'::regclass AND indisvalid AND indpred IS NULL
                      AND pg_get_indexdef(indexrelid, 1, true) = 'project_id'
                      AND pg_get_indexdef(indexrelid, 2, true) = 'subject')";
const CREATE: &str =
    "CREATE INDEX IF NOT EXISTS events_subject ON ONLY events (project_id, subject, timestamp)";
/// Partitions without a part of the index, and whether each has an index of the name that is not valid.
const MISSING: &str = "
    SELECT c.relname::text,
           coalesce((SELECT NOT x.indisvalid FROM pg_index x WHERE x.indexrelid = to_regclass(quote_ident(c.relname || '_subject'))),
                    false)
      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = 'events'::regclass
       AND NOT EXISTS (SELECT FROM pg_inherits a JOIN pg_index x ON x.indexrelid = a.inhrelid
                        WHERE a.inhparent = 'events_subject'::regclass AND x.indrelid = c.oid)
     ORDER BY c.relname";
/// Rounds over the partitions, at most: a day can be dropped or made meanwhile.
const ROUNDS_MAX: u32 = 10;

pub(super) async fn exists(client: &Client) -> Result<bool, Error> {
    Ok(client.query_one(EXISTS, &[]).await?.get(0))
}

/// Builds the index of one partition after another, and no writer waits for it.
pub(super) async fn create(connector: &Connector) -> Result<bool, StoreError> {
    let session = Session::open(connector, SETTINGS).await?;
    if exists(&session).await? {
        return Ok(false);
    }
    if distribution::is_distributed(&session).await? {
        let message = "the table events is distributed by Citus; create the index as docs/scaling.md says";
        return Err(StoreError::Invalid(message.to_owned()));
    }
    session.batch_execute(CREATE).await?;
    for _ in 0..ROUNDS_MAX {
        for row in session.query(MISSING, &[]).await? {
            let (partition, is_broken): (String, bool) = (row.get(0), row.get(1));
            let index = format!("{partition}_subject");
            if is_broken {
                session.batch_execute(&format!("DROP INDEX CONCURRENTLY IF EXISTS {index}")).await?;
            }
            let build = format!(
                "CREATE INDEX CONCURRENTLY IF NOT EXISTS {index} ON {partition} (project_id, subject, timestamp)"
            );
            session.batch_execute(&build).await?;
            session.batch_execute(&format!("ALTER INDEX events_subject ATTACH PARTITION {index}")).await?;
        }
        if exists(&session).await? {
            return Ok(true);
        }
    }
    Err(StoreError::Unavailable("partitions of events change all the time; repeat the command".to_owned()))
}

pub(super) async fn drop(connector: &Connector) -> Result<bool, StoreError> {
    let session = Session::open(connector, DROP_SETTINGS).await?;
    let exists = "SELECT to_regclass('events_subject') IS NOT NULL";
    if !session.query_one(exists, &[]).await?.get::<_, bool>(0) {
        return Ok(false);
    }
    session.batch_execute("DROP INDEX IF EXISTS events_subject").await?;
    Ok(true)
}
