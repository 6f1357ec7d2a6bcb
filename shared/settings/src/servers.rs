//! The addresses of Redis and PostgreSQL.

use std::path::PathBuf;

use millrace_address::Secret;
use millrace_store::postgres::{Environment, PostgresSource};
use millrace_stream::redis::{RedisOptions, RedisSource, RedisTls};

use crate::parse::HIDDEN;
use crate::urls::{database_url, redis_url};
use crate::values::{file, number};
use crate::{ConfigError, Policy};

const DEFAULT_REDIS: &str = "redis://127.0.0.1:6379/0";

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Installation")]
pub struct Servers {
    /// Address of Redis: redis://USER:PASSWORD@HOST:PORT/DB, redis+unix:///PATH,
    /// redis+sentinel://HOST:PORT,HOST:PORT/NAME or redis+cluster://HOST:PORT,HOST:PORT; rediss uses TLS.
    /// API and worker use redis://127.0.0.1:6379/0 without it
    #[arg(long, env = "REDIS_URL", value_name = "URL", hide_env_values = true, value_parser = redis_url)]
    pub redis_url: Option<Secret>,
    /// File with the address of Redis, in place of REDIS_URL; read again for every connection
    #[arg(long, env = "REDIS_URL_FILE", value_name = "FILE", value_parser = file)]
    pub redis_url_file: Option<PathBuf>,
    /// File with the CA certificates of Redis, for rediss:; without it, those that the system trusts
    #[arg(long, env = "REDIS_TLS_CA", value_name = "FILE", value_parser = file)]
    pub redis_tls_ca: Option<PathBuf>,
    /// File with the certificate of this program, for a Redis that demands one; needs REDIS_TLS_KEY
    #[arg(long, env = "REDIS_TLS_CERT", value_name = "FILE", value_parser = file)]
    pub redis_tls_cert: Option<PathBuf>,
    /// File with the private key of REDIS_TLS_CERT
    #[arg(long, env = "REDIS_TLS_KEY", value_name = "FILE", value_parser = file)]
    pub redis_tls_key: Option<PathBuf>,
    /// Address of PostgreSQL: postgres://USER:PASSWORD@HOST:PORT/DATABASE, with the parameters of libpq such
    /// as sslmode and sslrootcert; what it leaves out is taken from PGHOST, PGPASSWORD and the like,
    /// and then from postgres://127.0.0.1:5432/millrace
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true, value_parser = database_url)]
    pub database_url: Option<Secret>,
    /// File with the address of PostgreSQL, in place of DATABASE_URL; read again for every connection
    #[arg(long, env = "DATABASE_URL_FILE", value_name = "FILE", value_parser = file)]
    pub database_url_file: Option<PathBuf>,
    /// Shards of the stream; must be the same in every process. `millrace shards set` changes the number of
    /// an installation that has served
    #[arg(long, env = "STREAM_SHARDS", value_name = "SHARDS", default_value = "1")]
    #[arg(value_parser = number(1..=256_u16))]
    pub stream_shards: u16,
}

impl Servers {
    /// The names of the arguments that say where the servers are.
    pub const ADDRESSES: [&'static str; 7] = [
        "redis_url",
        "redis_url_file",
        "redis_tls_ca",
        "redis_tls_cert",
        "redis_tls_key",
        "database_url",
        "database_url_file",
    ];

    /// Whether an address of Redis is set.
    pub fn names_redis(&self) -> bool {
        self.redis_url.is_some() || self.redis_url_file.is_some()
    }

    /// Whether an address of PostgreSQL is set, by a setting of Millrace.
    pub fn names_postgres(&self) -> bool {
        self.database_url.is_some() || self.database_url_file.is_some()
    }

    /// Checks the settings against each other, and the files that they name.
    ///
    /// # Errors
    /// The first setting that can never work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let twice = |variable: &str, file: &Option<PathBuf>, other: &str| ConfigError {
            variable: variable.to_owned(),
            value: file.as_ref().map(|path| path.display().to_string()),
            reason: format!("{other} is set, too; set only one of them"),
        };
        if self.redis_url.is_some() && self.redis_url_file.is_some() {
            return Err(twice("REDIS_URL_FILE", &self.redis_url_file, "REDIS_URL"));
        }
        if self.database_url.is_some() && self.database_url_file.is_some() {
            return Err(twice("DATABASE_URL_FILE", &self.database_url_file, "DATABASE_URL"));
        }
        let missing = |variable: &str, other: &str| ConfigError {
            variable: variable.to_owned(),
            value: None,
            reason: format!("{other} needs it"),
        };
        match (&self.redis_tls_cert, &self.redis_tls_key) {
            (Some(_), None) => return Err(missing("REDIS_TLS_KEY", "REDIS_TLS_CERT")),
            (None, Some(_)) => return Err(missing("REDIS_TLS_CERT", "REDIS_TLS_KEY")),
            _ => {}
        }
        // The values may hold passwords.
        let refused = |variable: &str, reason| ConfigError {
            variable: variable.to_owned(),
            value: Some(HIDDEN.to_owned()),
            reason,
        };
        self.redis_source().check().map_err(|(variable, reason)| refused(variable, reason))?;
        self.postgres_source().check().map_err(|error| refused(error.setting, error.reason))
    }

    /// Where Redis is.
    pub fn redis_source(&self) -> RedisSource {
        let file = self.redis_url_file.clone().map(Secret::File);
        let url = file.or_else(|| self.redis_url.clone()).unwrap_or_else(|| Secret::from(DEFAULT_REDIS));
        let client = self.redis_tls_cert.clone().zip(self.redis_tls_key.clone());
        RedisSource { url, tls: RedisTls { ca: self.redis_tls_ca.clone(), client } }
    }

    /// Where PostgreSQL is.
    pub fn postgres_source(&self) -> PostgresSource {
        let file = self.database_url_file.clone().map(Secret::File);
        let url = file.or_else(|| self.database_url.clone());
        PostgresSource::Settings { url, environment: Environment::of_process() }
    }

    /// The settings of the stream on Redis.
    pub fn redis_options(&self, policy: &Policy, connections: usize) -> RedisOptions {
        RedisOptions {
            source: self.redis_source(),
            durability: policy.durability(),
            shards: self.stream_shards,
            backlog_events_max: policy.backlog_events_max,
            connections,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args, Command, FromArgMatches};

    use super::*;

    fn checked(arguments: &[&str]) -> Result<(), ConfigError> {
        let command = Servers::augment_args(Command::new("program"));
        let matches = command.get_matches_from(["program"].iter().chain(arguments));
        Servers::from_arg_matches(&matches).expect("every argument is optional").check()
    }

    #[test]
    fn settings_that_can_never_work_together_are_refused_by_name() {
        for (arguments, expected) in [
            (
                &["--redis-url=redis://h", "--redis-url-file=/f"][..],
                r#"REDIS_URL_FILE="/f": REDIS_URL is set, too"#,
            ),
            (&["--database-url=postgres://h/d", "--database-url-file=/f"], "DATABASE_URL is set, too"),
            (&["--redis-tls-cert=/c"], "REDIS_TLS_KEY is not set: REDIS_TLS_CERT needs it"),
            (&["--redis-tls-key=/c"], "REDIS_TLS_CERT is not set: REDIS_TLS_KEY needs it"),
            (&["--redis-url-file=/none"], "REDIS_URL_FILE=\"…\": the file /none cannot be read"),
            (
                &["--redis-url=redis://h", "--redis-tls-ca=/none"],
                "REDIS_TLS_CA=\"…\": the URL does not use TLS",
            ),
            (
                &["--redis-url=rediss://h", "--redis-tls-ca=/none"],
                "REDIS_TLS_CA=\"…\": the file /none cannot",
            ),
            (&["--database-url-file=/none"], "DATABASE_URL_FILE=\"…\": the file /none cannot be read"),
            (
                &["--database-url=postgres://h/d?sslmode=verify-full&sslrootcert=/none"],
                "DATABASE_URL=\"…\": sslrootcert: the file /none cannot be read",
            ),
        ] {
            let refused = checked(arguments).expect_err("they contradict each other").to_string();
            assert!(refused.contains(expected), "{arguments:?}: {refused}");
        }
        checked(&[]).expect("the defaults work");
    }
}
