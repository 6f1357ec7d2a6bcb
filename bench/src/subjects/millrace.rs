//! Millrace on servers: ingest-api and stream-worker as two processes, with Redis between them and PostgreSQL
//! as the store.

use std::path::Path;

use testkit::Program;

use super::name::SubjectName;
use super::servers::{KEY, postgres, prepare_database, redis};
use super::subject::{STREAM_WORKER, Subject, wait_until_ready};
use super::table::EventsTable;
use crate::error::BenchError;
use crate::load::Target;

pub(super) async fn start(data_folder: Option<&Path>) -> Result<Subject, BenchError> {
    let (server, redis) = (postgres(data_folder).await, redis().await);
    let project = prepare_database(&server).await?;
    let variables = vec![("REDIS_URL", redis.url()), ("DATABASE_URL", server.url())];
    let mut api = launch("ingest-api", &variables);
    let mut worker = launch(STREAM_WORKER, &variables);
    worker.wait_for_line("lanes are draining").await;
    let target = Target { address: api.address().await, key: KEY.to_owned(), days_ago: 0 };
    wait_until_ready(&target, "/readyz").await;
    let table = EventsTable::postgres(server, project).await?;
    let programs = vec![("ingest-api", api), (STREAM_WORKER, worker)];
    Ok(Subject { name: SubjectName::Millrace, target, programs, redis: Some(redis), table, variables })
}

fn launch(name: &str, servers: &[(&'static str, String)]) -> Program {
    let mut variables: Vec<_> = servers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    // stream-worker ignores LISTEN_ADDR.
    variables.extend([("LISTEN_ADDR", "127.0.0.1:0"), ("METRICS_ADDR", "127.0.0.1:0")]);
    Program::start(name, &variables)
}
