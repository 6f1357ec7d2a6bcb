//! The backend of an installation: Redis and PostgreSQL, or two files in a folder. No other module knows
//! which it is.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_settings::{Policy, Servers};
use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_store::sqlite::{FILE_NAME as STORE_FILE, SqliteStore};
use millrace_store::{SharedStore, StoreError};
use millrace_stream::embedded::{EmbeddedOptions, EmbeddedStream, FILE_NAME as STREAM_FILE};
use millrace_stream::redis::RedisStream;
use millrace_stream::{SharedStream, Stream, StreamError};

use crate::failure::Failure;

/// How long a command waits for a connection to Redis. The stream itself never waits: it is unavailable until
/// then.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const CONNECT_POLL: Duration = Duration::from_millis(20);
/// How long a command waits for tables that another process may be creating.
const SCHEMA_PATIENCE: Duration = Duration::from_secs(1);
const SCHEMA_POLL: Duration = Duration::from_millis(50);
/// How long a command waits for the store of a service whose stream exists already.
const SERVICE_PATIENCE: Duration = Duration::from_secs(5);
/// Connections to PostgreSQL of a command.
const COMMAND_CONNECTIONS: usize = 2;

#[derive(Clone, Debug)]
pub(crate) enum Backend {
    Servers(Box<Servers>),
    /// `stream.db` and `events.db` in this folder.
    Files(PathBuf),
}

impl Backend {
    /// The store, for a command, whether or not its tables exist. PostgreSQL is connected to on the first
    /// query.
    ///
    /// # Errors
    /// When there is no file, or it cannot be opened.
    pub(crate) async fn store(&self) -> Result<SharedStore, Failure> {
        match self {
            Self::Servers(servers) => Ok(PostgresStore::for_command(options(servers, COMMAND_CONNECTIONS))),
            Self::Files(folder) => {
                must_exist(folder).await?;
                Ok(SqliteStore::open(folder).map_err(|error| in_folder(error.into()))?)
            }
        }
    }

    /// As [`Backend::store`], with all its tables. Waits for a service that creates them at this moment.
    ///
    /// # Errors
    /// As [`Backend::store`], and when migrations are missing.
    pub(crate) async fn migrated_store(&self) -> Result<SharedStore, Failure> {
        let store = self.store().await?;
        let started = Instant::now();
        loop {
            match store.check_schema().await {
                Err(StoreError::SchemaOutdated(_)) if started.elapsed() < SCHEMA_PATIENCE => {
                    tokio::time::sleep(SCHEMA_POLL).await;
                }
                Err(error @ StoreError::SchemaOutdated(_)) => return Err(error.into()),
                // The command meets any other error itself, after it has checked its arguments.
                Ok(()) | Err(_) => return Ok(store),
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
                must_exist(folder).await?;
                Ok(EmbeddedStream::open_reader(folder).map_err(|error| in_folder(error.into()))?)
            }
        }
    }

    /// The same installation with another number of shards. `None` on files, which have one.
    pub(crate) fn with_shards(&self, shards: u16) -> Option<Self> {
        match self {
            Self::Servers(servers) => {
                Some(Self::Servers(Box::new(Servers { stream_shards: shards, ..(**servers).clone() })))
            }
            Self::Files(_) => None,
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
                let store = PostgresStore::new(options(servers, connections.postgres));
                Ok((redis(servers, policy, connections.redis)?, store))
            }
            Self::Files(folder) => {
                let backlog_events_max = policy.backlog_events_max;
                let options = EmbeddedOptions { folder: folder.clone(), backlog_events_max };
                let stream = EmbeddedStream::open(options).map_err(|error| in_folder(error.into()))?;
                Ok((stream, SqliteStore::open_or_create(folder).map_err(|error| in_folder(error.into()))?))
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

/// A command never creates a folder: a mistyped DATA_DIR would look like an empty installation. If a service
/// has just been started there, this waits until the file is complete.
async fn must_exist(folder: &Path) -> Result<(), Failure> {
    let started = Instant::now();
    while !exists(folder, STORE_FILE)? {
        if !exists(folder, STREAM_FILE)? || started.elapsed() > SERVICE_PATIENCE {
            return Err(Failure::Unusable(format!(
                "there is no installation in {}: set DATA_DIR to the folder of an installation, set REDIS_URL and \
                 DATABASE_URL, or run `millrace` to create one there",
                folder.display()
            )));
        }
        tokio::time::sleep(SCHEMA_POLL).await;
    }
    Ok(())
}

/// Whether the folder has the file. A folder that may not be read is not one without files.
fn exists(folder: &Path, file: &str) -> Result<bool, Failure> {
    let path = folder.join(file);
    match path.try_exists() {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(Failure::Unusable(format!(
            "DATA_DIR: {} cannot be read: {error}; run the command as the user of the service",
            path.display()
        ))),
        // A part of the path that is no folder.
        Err(_) => Ok(false),
        Ok(exists) => Ok(exists),
    }
}

/// Names the setting, because the message names the folder only.
fn in_folder(failure: Failure) -> Failure {
    match failure {
        Failure::Stream(StreamError::Refused(text)) | Failure::Store(StoreError::Invalid(text)) => {
            Failure::Unusable(format!("DATA_DIR: {text}"))
        }
        other => other,
    }
}

fn options(servers: &Servers, pool_size: usize) -> PostgresOptions {
    PostgresOptions { source: servers.postgres_source(), pool_size, application: "millrace" }
}

fn redis(servers: &Servers, policy: &Policy, connections: usize) -> Result<Arc<RedisStream>, Failure> {
    Ok(RedisStream::new(servers.redis_options(policy, connections))?)
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
