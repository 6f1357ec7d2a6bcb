//! Millrace on its servers: ingest-api and stream-worker as two processes, between them Redis, behind them PostgreSQL.

use testkit::Program;

use super::servers::{postgres, prepared_table, redis};
use super::{KEY, Name, Place, Subject, Table, ready};
use crate::failure::Failure;
use crate::load::Target;

pub(super) const WORKER: &str = "stream-worker";

pub(super) async fn start(place: Place<'_>) -> Result<Subject, Failure> {
    let (server, redis) = (postgres(place).await, redis().await);
    let project = prepared_table(&server).await?;
    let variables = vec![("REDIS_URL", redis.url()), ("DATABASE_URL", server.url())];
    let mut api = launch("ingest-api", &variables);
    let mut worker = launch(WORKER, &variables);
    worker.wait_for_line("lanes are draining").await;
    let target = Target { address: api.address().await, key: KEY.to_owned(), days_ago: 0 };
    ready(&target, "/readyz").await;
    let table = Table::postgres(server, project).await?;
    let programs = vec![("ingest-api", api), (WORKER, worker)];
    Ok(Subject { name: Name::Millrace, target, programs, redis: Some(redis), table, variables })
}

fn launch(name: &str, places: &[(&'static str, String)]) -> Program {
    let mut variables: Vec<_> = places.iter().map(|(name, value)| (*name, value.as_str())).collect();
    variables.extend([("LISTEN_ADDR", "127.0.0.1:0"), ("METRICS_ADDR", "127.0.0.1:0")]);
    // The operator's own ports are none of a benchmark's business, and the worker listens for nobody but scrapers.
    if name == WORKER {
        variables.retain(|(name, _)| *name != "LISTEN_ADDR");
    }
    Program::start(name, &variables)
}
