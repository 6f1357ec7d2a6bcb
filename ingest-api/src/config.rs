//! The settings of ingest-api: text from flags or the environment, checked before a port is bound.

use std::net::SocketAddr;
use std::time::Duration;

use millrace_settings::{ConfigError, Policy, PolicyArgs, Servers, ServersArgs, address, number, word};

use crate::audience::StatusPage;

/// Takes event batches over HTTP, checks the project's plan, and appends them to the stream.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "ingest-api", version)]
pub struct Args {
    /// Redis and PostgreSQL.
    #[command(flatten)]
    pub servers: ServersArgs,
    /// What every program keeps to.
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// Where clients connect
    #[arg(long, env = "LISTEN_ADDR", default_value = "127.0.0.1:8080")]
    pub listen_addr: String,
    /// Where /metrics is served; keep it away from clients
    #[arg(long, env = "METRICS_ADDR", default_value = "127.0.0.1:9100")]
    pub metrics_addr: String,
    /// The status page at /, which tells of all projects without a key: on, off, or auto: when LISTEN_ADDR is loopback
    #[arg(long, env = "STATUS_PAGE", default_value = "auto")]
    pub status_page: String,
    /// Connections to Redis over which admissions are multiplexed
    #[arg(long, env = "REDIS_CONNECTIONS", default_value = "2")]
    pub redis_connections: String,
    /// The HTTP server's limits.
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// The limits of the HTTP server, as text.
#[derive(clap::Args, Clone, Debug)]
pub struct LimitArgs {
    /// Largest request body in bytes, as it is sent
    #[arg(long, env = "BODY_BYTES_MAX", default_value = "4194304")]
    pub body_bytes_max: String,
    /// Largest request body in bytes, after decompression
    #[arg(long, env = "BODY_DECODED_BYTES_MAX", default_value = "16777216")]
    pub body_decoded_bytes_max: String,
    /// Bytes of all bodies being worked on at once; over it requests are answered 503 overloaded
    #[arg(long, env = "BODIES_IN_FLIGHT_BYTES_MAX", default_value = "268435456")]
    pub bodies_in_flight_bytes_max: String,
    /// Connections open at once; one more is closed as soon as it is accepted
    #[arg(long, env = "CONNECTIONS_MAX", default_value = "10000")]
    pub connections_max: String,
    /// Milliseconds a client may take for the head of a request, from its first byte
    #[arg(long, env = "HEADER_TIMEOUT_MS", default_value = "5000")]
    pub header_timeout_ms: String,
    /// Milliseconds an idle connection is kept; more than the proxy in front keeps its own
    #[arg(long, env = "IDLE_TIMEOUT_MS", default_value = "75000")]
    pub idle_timeout_ms: String,
    /// Milliseconds a client may take for the body of a request
    #[arg(long, env = "BODY_TIMEOUT_MS", default_value = "10000")]
    pub body_timeout_ms: String,
    /// Milliseconds to go on accepting connections after SIGTERM while /readyz already answers 503
    #[arg(long, env = "DRAIN_GRACE_MS", default_value = "0")]
    pub drain_grace_ms: String,
}

/// [`Args`], checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// See [`Servers`].
    pub servers: Servers,
    /// See [`Policy`].
    pub policy: Policy,
    /// See [`Args::listen_addr`].
    pub listen: SocketAddr,
    /// See [`Args::metrics_addr`].
    pub metrics: SocketAddr,
    /// See [`Args::status_page`].
    pub status_page: StatusPage,
    /// At least 1.
    pub redis_connections: usize,
    /// See [`Limits`].
    pub limits: Limits,
}

/// What one server takes at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of one body as sent.
    pub body_bytes_max: usize,
    /// Bytes of one body after decompression.
    pub body_decoded_bytes_max: usize,
    /// Bytes of all bodies at once.
    pub bodies_in_flight_bytes_max: usize,
    /// Open connections.
    pub connections_max: usize,
    /// For the head of a request, and for silence between two.
    pub header_timeout: Duration,
    /// See [`LimitArgs::idle_timeout_ms`].
    pub idle_timeout: Duration,
    /// For one whole body.
    pub body_timeout: Duration,
    /// Between the wish to stop and the end of accepting.
    pub drain_grace: Duration,
}

/// The parser makes rows of at most this many bytes from one body, so the decoded body must be well below.
const BODY_DECODED_BYTES_MAX: usize = millrace_event::entry::ROWS_BYTES_MAX / 4;

impl Args {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first [`ConfigError`].
    pub fn check(&self) -> Result<Config, ConfigError> {
        Ok(Config {
            policy: self.policy.check()?,
            servers: self.servers.check()?,
            listen: address("LISTEN_ADDR", &self.listen_addr)?,
            metrics: address("METRICS_ADDR", &self.metrics_addr)?,
            status_page: status_page(&self.status_page)?,
            redis_connections: number("REDIS_CONNECTIONS", &self.redis_connections, 1..=64)?,
            limits: self.limits.check()?,
        })
    }
}

/// The setting `STATUS_PAGE`.
///
/// # Errors
/// [`ConfigError`] when it is none of its words.
pub fn status_page(value: &str) -> Result<StatusPage, ConfigError> {
    let words = [("auto", StatusPage::Auto), ("on", StatusPage::On), ("off", StatusPage::Off)];
    word("STATUS_PAGE", value, &words)
}

impl LimitArgs {
    /// Checks every limit.
    ///
    /// # Errors
    /// The first [`ConfigError`].
    pub fn check(&self) -> Result<Limits, ConfigError> {
        let decoded =
            number("BODY_DECODED_BYTES_MAX", &self.body_decoded_bytes_max, 1_024..=BODY_DECODED_BYTES_MAX)?;
        let body = number("BODY_BYTES_MAX", &self.body_bytes_max, 1_024..=BODY_DECODED_BYTES_MAX)?;
        let in_flight = number(
            "BODIES_IN_FLIGHT_BYTES_MAX",
            &self.bodies_in_flight_bytes_max,
            body.saturating_add(decoded)..=1 << 40,
        )?;
        let milliseconds = |variable, text: &str, least: u64, most: u64| {
            number(variable, text, least..=most).map(Duration::from_millis)
        };
        Ok(Limits {
            body_bytes_max: body,
            body_decoded_bytes_max: decoded,
            bodies_in_flight_bytes_max: in_flight,
            connections_max: number("CONNECTIONS_MAX", &self.connections_max, 1..=1_000_000)?,
            header_timeout: milliseconds("HEADER_TIMEOUT_MS", &self.header_timeout_ms, 100, 600_000)?,
            idle_timeout: milliseconds("IDLE_TIMEOUT_MS", &self.idle_timeout_ms, 100, 3_600_000)?,
            body_timeout: milliseconds("BODY_TIMEOUT_MS", &self.body_timeout_ms, 100, 600_000)?,
            drain_grace: milliseconds("DRAIN_GRACE_MS", &self.drain_grace_ms, 0, 60_000)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn check(arguments: &[&str]) -> Result<Config, ConfigError> {
        Args::parse_from([&["ingest-api"], arguments].concat()).check()
    }

    #[test]
    fn the_defaults_are_valid() {
        let config = check(&[]).unwrap();
        assert_eq!(config.listen.port(), 8080);
        assert_eq!(config.limits.body_bytes_max, 4 << 20);
    }

    #[test]
    fn a_bad_value_is_refused_with_the_name_of_its_variable() {
        let bad = [
            ("--listen-addr", "", "LISTEN_ADDR"),
            ("--listen-addr", "localhost", "LISTEN_ADDR"),
            ("--metrics-addr", "9100", "METRICS_ADDR"),
            ("--status-page", "yes", "STATUS_PAGE"),
            ("--redis-url", "http://x", "REDIS_URL"),
            ("--database-url", "", "DATABASE_URL"),
            ("--redis-connections", "0", "REDIS_CONNECTIONS"),
            ("--body-bytes-max", "4MB", "BODY_BYTES_MAX"),
            ("--body-decoded-bytes-max", "99999999999", "BODY_DECODED_BYTES_MAX"),
            ("--bodies-in-flight-bytes-max", "1", "BODIES_IN_FLIGHT_BYTES_MAX"),
            ("--connections-max", "0", "CONNECTIONS_MAX"),
            ("--header-timeout-ms", "", "HEADER_TIMEOUT_MS"),
            ("--idle-timeout-ms", "0", "IDLE_TIMEOUT_MS"),
            ("--body-timeout-ms", "-1", "BODY_TIMEOUT_MS"),
            ("--drain-grace-ms", "soon", "DRAIN_GRACE_MS"),
            ("--durability", "maybe", "DURABILITY"),
            ("--stream-shards", "0", "STREAM_SHARDS"),
        ];
        for (flag, value, variable) in bad {
            let flag = format!("{flag}={value}");
            match check(&[&flag]) {
                Err(error) => assert_eq!(error.variable, variable, "{flag}"),
                Ok(_) => panic!("{flag} was taken"),
            }
        }
    }
}
