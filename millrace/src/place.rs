//! Where an installation is: on Redis and PostgreSQL, or in two files in a folder. Nobody but this room knows which.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use millrace_settings::{Policy, Servers};
use millrace_store::SharedStore;
use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_store::sqlite::{FILE_NAME as STORE_FILE, SqliteStore};
use millrace_stream::embedded::{EmbeddedOptions, EmbeddedStream};
use millrace_stream::redis::{RedisOptions, RedisStream};
use millrace_stream::{SharedStream, Stream, StreamError};

use crate::failure::Failure;

/// How long Redis may take to be connected to. The stream itself never waits: it answers "unavailable" at once.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_POLL: Duration = Duration::from_millis(20);
/// Connections to PostgreSQL of a command.
const COMMAND_CONNECTIONS: usize = 2;

/// Where an installation is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// On Redis and PostgreSQL.
    Servers(Box<Servers>),
    /// In `stream.db` and `events.db` in this folder.
    Folder(PathBuf),
}

impl Place {
    /// The store, for a command. PostgreSQL is connected to when it is first asked.
    ///
    /// # Errors
    /// [`Failure`] when there is no file, or it cannot be opened.
    pub(crate) fn store(&self) -> Result<SharedStore, Failure> {
        match self {
            Self::Servers(servers) => Ok(postgres(servers, COMMAND_CONNECTIONS)),
            Self::Folder(folder) => {
                must_exist(folder)?;
                Ok(SqliteStore::open(folder)?)
            }
        }
    }

    /// The stream, to be looked at by a command.
    ///
    /// # Errors
    /// [`Failure`] when there is no file, or Redis is still not connected after a few seconds.
    pub(crate) async fn stream(&self, policy: &Policy) -> Result<SharedStream, Failure> {
        match self {
            Self::Servers(servers) => {
                let stream = redis(servers, policy, 1)?;
                connected(&*stream).await?;
                Ok(stream)
            }
            Self::Folder(folder) => {
                must_exist(folder)?;
                Ok(EmbeddedStream::open_reader(folder)?)
            }
        }
    }

    /// Both, to be served from: a folder is made when it is not there, and belongs to this process alone from now on.
    ///
    /// # Errors
    /// [`Failure`] when another process serves the folder, or its files are not ours or not whole.
    pub(crate) fn open(
        &self,
        policy: &Policy,
        connections: Connections,
    ) -> Result<(SharedStream, SharedStore), Failure> {
        match self {
            Self::Servers(servers) => {
                Ok((redis(servers, policy, connections.redis)?, postgres(servers, connections.postgres)))
            }
            Self::Folder(folder) => {
                let backlog_events_max = policy.backlog_events_max;
                let options = EmbeddedOptions { folder: folder.clone(), backlog_events_max };
                Ok((EmbeddedStream::open(options)?, SqliteStore::open(folder)?))
            }
        }
    }

    /// The place in words, for whoever started us.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Servers(_) => "on your Redis and PostgreSQL".to_owned(),
            Self::Folder(folder) => format!("on two files in {}", folder.display()),
        }
    }

    /// What to look at when it cannot be reached.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::Servers(_) => "are Redis and PostgreSQL running, and are REDIS_URL and DATABASE_URL right?",
            Self::Folder(_) => "DATA_DIR names the folder, or set REDIS_URL and DATABASE_URL",
        }
    }
}

/// How many connections to servers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Connections {
    pub(crate) redis: usize,
    pub(crate) postgres: usize,
}

/// A command that looks at a folder must not make one: a mistyped DATA_DIR would look like an empty installation.
fn must_exist(folder: &Path) -> Result<(), Failure> {
    if folder.join(STORE_FILE).exists() {
        return Ok(());
    }
    Err(Failure::Refused(format!(
        "there is no installation in {}: run `millrace` there first, name another folder with DATA_DIR, or set \
         REDIS_URL and DATABASE_URL",
        folder.display()
    )))
}

fn postgres(servers: &Servers, pool_size: usize) -> SharedStore {
    let config = servers.database.clone();
    PostgresStore::new(PostgresOptions { config, pool_size, application: "millrace" })
}

fn redis(
    servers: &Servers,
    policy: &Policy,
    connections: usize,
) -> Result<std::sync::Arc<RedisStream>, Failure> {
    Ok(RedisStream::new(RedisOptions {
        url: servers.redis_url.clone(),
        shards: servers.stream_shards,
        backlog_events_max: policy.backlog_events_max,
        connections,
    })?)
}

/// Waits until the stream answers.
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
