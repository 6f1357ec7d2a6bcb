//! The backend of an installation: Redis and PostgreSQL, or two files in a folder. No other module knows
//! which it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_settings::{Policy, Servers};
use millrace_store::SharedStore;
use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_store::sqlite::{FILE_NAME as STORE_FILE, SqliteStore};
use millrace_stream::embedded::{EmbeddedOptions, EmbeddedStream};
use millrace_stream::redis::{RedisOptions, RedisStream};
use millrace_stream::{SharedStream, Stream, StreamError};

use crate::failure::Failure;

/// How long a command waits for a connection to Redis. The stream itself never waits: it is unavailable until
/// then.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_POLL: Duration = Duration::from_millis(20);
/// Connections to PostgreSQL of a command.
const COMMAND_CONNECTIONS: usize = 2;

#[derive(Clone, Debug)]
pub(crate) enum Backend {
    Servers(Box<Servers>),
    /// `stream.db` and `events.db` in this folder.
    Files(PathBuf),
}

impl Backend {
    /// The store, for a command. PostgreSQL is connected to on the first query.
    ///
    /// # Errors
    /// When there is no file, or it cannot be opened.
    pub(crate) fn store(&self) -> Result<SharedStore, Failure> {
        match self {
            Self::Servers(servers) => Ok(postgres(servers, COMMAND_CONNECTIONS)),
            Self::Files(folder) => {
                must_exist(folder)?;
                Ok(SqliteStore::open(folder)?)
            }
        }
    }

    /// The stream, for a command that only reads it.
    ///
    /// # Errors
    /// When there is no file, or Redis is still not connected after a few seconds.
    pub(crate) async fn stream(&self, policy: &Policy) -> Result<SharedStream, Failure> {
        match self {
            Self::Servers(servers) => {
                let stream = redis(servers, policy, 1)?;
                connected(&*stream).await?;
                Ok(stream)
            }
            Self::Files(folder) => {
                must_exist(folder)?;
                Ok(EmbeddedStream::open_reader(folder)?)
            }
        }
    }

    /// Stream and store, to serve from. Creates the folder if necessary, and locks it for this process.
    ///
    /// # Errors
    /// When another process serves the folder, or its files are not valid.
    pub(crate) fn open(
        &self,
        policy: &Policy,
        connections: Connections,
    ) -> Result<(SharedStream, SharedStore), Failure> {
        match self {
            Self::Servers(servers) => {
                Ok((redis(servers, policy, connections.redis)?, postgres(servers, connections.postgres)))
            }
            Self::Files(folder) => {
                let backlog_events_max = policy.backlog_events_max;
                let options = EmbeddedOptions { folder: folder.clone(), backlog_events_max };
                Ok((EmbeddedStream::open(options)?, SqliteStore::open(folder)?))
            }
        }
    }

    /// For the welcome text.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Servers(_) => "on your Redis and PostgreSQL".to_owned(),
            Self::Files(folder) => format!("on two files in {}", folder.display()),
        }
    }

    /// What to check when the backend is unavailable.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Servers(_) => {
                "check that Redis and PostgreSQL are running, and check REDIS_URL and DATABASE_URL"
            }
            Self::Files(_) => "check DATA_DIR, or set REDIS_URL and DATABASE_URL to use servers",
        }
    }
}

/// Numbers of connections to servers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connections {
    pub(crate) redis: usize,
    pub(crate) postgres: usize,
}

/// A command never creates a folder: a mistyped DATA_DIR would look like an empty installation.
fn must_exist(folder: &Path) -> Result<(), Failure> {
    if folder.join(STORE_FILE).exists() {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "there is no installation in {}: set DATA_DIR to the folder of an installation, set REDIS_URL and \
         DATABASE_URL, or run `millrace` to create one there",
        folder.display()
    )))
}

fn postgres(servers: &Servers, pool_size: usize) -> SharedStore {
    let config = servers.database.clone();
    PostgresStore::new(PostgresOptions { config, pool_size, application: "millrace" })
}

fn redis(servers: &Servers, policy: &Policy, connections: usize) -> Result<Arc<RedisStream>, Failure> {
    Ok(RedisStream::new(RedisOptions {
        url: servers.redis_url.clone(),
        shards: servers.stream_shards,
        backlog_events_max: policy.backlog_events_max,
        connections,
    })?)
}

/// Waits until Redis answers.
async fn connected(stream: &dyn Stream) -> Result<(), StreamError> {
    let started = Instant::now();
    loop {
        match stream.backlog().await {
            Err(StreamError::Unavailable(_)) if started.elapsed() < CONNECT_DEADLINE => {
                tokio::time::sleep(CONNECT_POLL).await;
            }
            answered => return answered.map(|_| ()),
        }
    }
}
