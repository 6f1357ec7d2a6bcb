//! Settings: each is an environment variable and a flag. A bad value ends the program before a port is bound, with the
//! variable's name in the message.
//!
//! The programs take their settings as text (clap reads flag or variable) and turn them into values here, so that the
//! checks and the words of every complaint stand in one place.

use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use millrace_failpoint::{self as failpoint, UnknownSetting};
pub use millrace_reconcile::health::Durability;

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{variable}={value:?}: {reason}")]
pub struct ConfigError {
    /// The environment variable.
    pub variable: &'static str,
    /// What it was, without passwords.
    pub value: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl ConfigError {
    fn new(variable: &'static str, value: &str, reason: impl Display) -> Self {
        Self { variable, value: value.to_owned(), reason: reason.to_string() }
    }
}

impl From<UnknownSetting> for ConfigError {
    fn from(error: UnknownSetting) -> Self {
        Self { variable: error.variable, value: error.value, reason: error.reason }
    }
}

/// A whole number within a range.
///
/// # Errors
/// [`ConfigError`] when it is not one.
pub fn number<T>(variable: &'static str, value: &str, range: RangeInclusive<T>) -> Result<T, ConfigError>
where
    T: FromStr + PartialOrd + Display,
{
    let complaint = || {
        let expected = format!("expected a whole number from {} to {}", range.start(), range.end());
        ConfigError::new(variable, value, expected)
    };
    let number: T = value.trim().parse().map_err(|_| complaint())?;
    if range.contains(&number) { Ok(number) } else { Err(complaint()) }
}

/// An address to listen on.
///
/// # Errors
/// [`ConfigError`] when it is not `ip:port`.
pub fn address(variable: &'static str, value: &str) -> Result<SocketAddr, ConfigError> {
    let expected = "expected ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080";
    value.trim().parse().map_err(|_| ConfigError::new(variable, value, expected))
}

/// One of a few words.
///
/// # Errors
/// [`ConfigError`] when it is none of them.
pub fn word<T: Copy>(variable: &'static str, value: &str, words: &[(&str, T)]) -> Result<T, ConfigError> {
    let found = words.iter().find(|(word, _)| *word == value.trim()).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        ConfigError::new(variable, value, format!("expected one of: {}", known.join(", ")))
    })
}

/// Where Redis and PostgreSQL are, as text.
#[derive(clap::Args, Clone, Debug)]
pub struct ServersArgs {
    /// Where Redis is: redis://user:password@host:port/db or redis+unix:///path
    #[arg(long, env = "REDIS_URL", hide_env_values = true, global = true)]
    pub redis_url: Option<String>,
    /// Where PostgreSQL is: postgres://user:password@host:port/database
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, global = true)]
    pub database_url: Option<String>,
    /// Shards of the stream; the same in every process, for the life of the installation
    #[arg(long, env = "STREAM_SHARDS", default_value = "1", global = true)]
    pub stream_shards: String,
}

/// [`ServersArgs`], checked.
#[derive(Clone, Debug)]
pub struct Servers {
    /// Of Redis.
    pub redis_url: String,
    /// Of PostgreSQL.
    pub database: tokio_postgres::Config,
    /// At least 1.
    pub stream_shards: u16,
}

/// Where Redis is when nobody says.
const REDIS_URL: &str = "redis://127.0.0.1:6379/0";
/// Where PostgreSQL is when nobody says.
const DATABASE_URL: &str = "postgres://127.0.0.1:5432/millrace";

impl ServersArgs {
    /// Checks every setting; what was not given is on this machine.
    ///
    /// # Errors
    /// The first [`ConfigError`].
    pub fn check(&self) -> Result<Servers, ConfigError> {
        use redis::IntoConnectionInfo;
        let redis_url = self.redis_url.as_deref().unwrap_or(REDIS_URL);
        // A URL may hold a password, so a complaint never repeats it.
        redis_url
            .into_connection_info()
            .map_err(|error| ConfigError::new("REDIS_URL", "…", format!("not a Redis URL: {error}")))?;
        let database_url = self.database_url.as_deref().unwrap_or(DATABASE_URL);
        let database: tokio_postgres::Config = database_url.parse().map_err(|error| {
            ConfigError::new("DATABASE_URL", "…", format!("not a PostgreSQL URL: {error}"))
        })?;
        // An empty text parses, to a configuration that can connect to nothing.
        if database.get_hosts().is_empty() && database.get_hostaddrs().is_empty() {
            return Err(ConfigError::new("DATABASE_URL", "…", "not a PostgreSQL URL: it names no host"));
        }
        Ok(Servers { redis_url: redis_url.to_owned(), database, stream_shards: self.stream_shards()? })
    }

    fn stream_shards(&self) -> Result<u16, ConfigError> {
        number("STREAM_SHARDS", &self.stream_shards, 1..=256)
    }

    /// The servers when both were named, nothing when none was: for a program that can do without.
    ///
    /// # Errors
    /// The first [`ConfigError`]; also when only one of the two was named.
    pub fn check_given(&self) -> Result<Option<Servers>, ConfigError> {
        let half = |given, missing| {
            let reason = format!("{given} is set and {missing} is not: set both, or none to run on files");
            Err(ConfigError::new(missing, "", reason))
        };
        match (&self.redis_url, &self.database_url) {
            (None, None) => self.stream_shards().map(|_| None),
            (Some(_), Some(_)) => self.check().map(Some),
            (Some(_), None) => half("REDIS_URL", "DATABASE_URL"),
            (None, Some(_)) => half("DATABASE_URL", "REDIS_URL"),
        }
    }
}

/// What every program keeps to, as text.
#[derive(clap::Args, Clone, Debug)]
pub struct PolicyArgs {
    /// Events that may wait to be stored, over each shard, before posts are answered 503 backlog_full
    #[arg(long, env = "BACKLOG_EVENTS_MAX", default_value = "10000000", global = true)]
    pub backlog_events_max: String,
    /// strict: refuse to serve unless every write is on disk before it is answered; relaxed: serve all the same
    #[arg(long, env = "DURABILITY", default_value = "strict", global = true)]
    pub durability: String,
    /// How logs are written: text or json
    #[arg(long, env = "LOG_FORMAT", default_value = "text", global = true)]
    pub log_format: String,
}

/// [`PolicyArgs`], checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Policy {
    /// Per shard.
    pub backlog_events_max: u64,
    /// See [`Durability`].
    pub durability: Durability,
    /// See [`millrace_telemetry::process::start_logging`].
    pub log_format: millrace_telemetry::process::LogFormat,
}

impl PolicyArgs {
    /// Checks every setting, those of a build for drills included.
    ///
    /// # Errors
    /// The first [`ConfigError`].
    pub fn check(&self) -> Result<Policy, ConfigError> {
        use millrace_telemetry::process::LogFormat;
        failpoint::arm()?;
        Ok(Policy {
            backlog_events_max: number("BACKLOG_EVENTS_MAX", &self.backlog_events_max, 1..=1 << 50)?,
            durability: word(
                "DURABILITY",
                &self.durability,
                &[("strict", Durability::Strict), ("relaxed", Durability::Relaxed)],
            )?,
            log_format: word(
                "LOG_FORMAT",
                &self.log_format,
                &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            )?,
        })
    }
}
