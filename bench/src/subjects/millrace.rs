//! Millrace on servers: ingest-api and stream-worker as two processes, with Redis between them and PostgreSQL
//! as the store. Its variants differ in one thing from it: the type of the JSON columns, TLS to both servers,
//! or a replica of Redis that confirms.

use std::path::Path;

use millrace_store::JsonColumns;
use testkit::{Authority, Postgres, Program, Redis, free_port};

use super::data::Data;
use super::name::SubjectName;
use super::servers::{REDIS_SETTINGS, create_meters, postgres_with, prepare_projects, redis};
use super::subject::{STREAM_WORKER, Subject, wait_until_ready};
use super::table::EventsTable;
use crate::error::BenchError;
use crate::load::Target;

/// The servers of a variant, and the settings of programs that use them.
struct Servers {
    postgres: Postgres,
    redis: Redis,
    replica: Option<Redis>,
    authority: Option<Authority>,
    variables: Vec<(&'static str, String)>,
}

pub(super) async fn start(name: SubjectName, data: &Data<'_>) -> Result<Subject, BenchError> {
    let columns = match name {
        SubjectName::MillraceJson => JsonColumns::Json,
        _ => JsonColumns::Jsonb,
    };
    let servers = match name {
        SubjectName::MillraceTls => with_tls(data.folder).await?,
        SubjectName::MillraceReplicated => with_replica(data.folder).await,
        _ => plain(data.folder).await,
    };
    let projects = prepare_projects(&servers.postgres, columns, data.projects).await?;
    if data.is_metered {
        create_meters(&servers.postgres).await?;
    }
    let Servers { postgres, redis, replica, authority, variables } = servers;
    let mut api = launch("ingest-api", &variables);
    let mut worker = launch(STREAM_WORKER, &variables);
    worker.wait_for_line("lanes are draining").await;
    let target = Target { address: api.address().await, keys: data.keys(), days_ago: data.days_ago };
    wait_until_ready(&target, "/readyz").await;
    let table = EventsTable::postgres(postgres, projects[0]).await?;
    let programs = vec![("ingest-api", api), (STREAM_WORKER, worker)];
    Ok(Subject { name, target, programs, redis: Some(redis), replica, table, variables, _files: authority })
}

async fn plain(folder: Option<&Path>) -> Servers {
    let (postgres, redis) = (postgres_with(folder, &[]).await, redis().await);
    let variables = vec![("REDIS_URL", redis.url()), ("DATABASE_URL", postgres.url())];
    Servers { postgres, redis, replica: None, authority: None, variables }
}

/// Both servers have a certificate that the programs check. Redis also listens without TLS, for the
/// measurements.
async fn with_tls(folder: Option<&Path>) -> Result<Servers, BenchError> {
    let authority = Authority::create();
    let (signed, ca, port) =
        (authority.sign("server", "IP:127.0.0.1"), authority.ca(), free_port().to_string());
    let settings = [REDIS_SETTINGS, &signed.redis_settings(&port, &ca, "no")].concat();
    let (postgres, redis) =
        (postgres_with(folder, &signed.postgres_settings()).await, Redis::start_with(&settings).await);
    let ca = ca.to_str().ok_or_else(|| BenchError::new("the path of the temporary folder is not UTF-8"))?;
    let database = format!("{}?sslmode=verify-full&sslrootcert={ca}", postgres.url());
    let variables = vec![
        ("REDIS_URL", format!("rediss://127.0.0.1:{port}/0")),
        ("REDIS_TLS_CA", ca.to_owned()),
        ("DATABASE_URL", database),
    ];
    Ok(Servers { postgres, redis, replica: None, authority: Some(authority), variables })
}

/// The replica is as durable as its primary, and on the same machine and disk.
async fn with_replica(folder: Option<&Path>) -> Servers {
    let mut servers = plain(folder).await;
    servers.replica = Some(servers.redis.replica_with(REDIS_SETTINGS).await);
    let replicated = [("DURABILITY", "replicated"), ("DURABILITY_REPLICAS", "1")];
    servers.variables.extend(replicated.map(|(name, value)| (name, value.to_owned())));
    servers
}

fn launch(name: &str, servers: &[(&'static str, String)]) -> Program {
    let mut variables: Vec<_> = servers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    // stream-worker ignores LISTEN_ADDR.
    variables.extend([("LISTEN_ADDR", "127.0.0.1:0"), ("METRICS_ADDR", "127.0.0.1:0")]);
    Program::start(name, &variables)
}
