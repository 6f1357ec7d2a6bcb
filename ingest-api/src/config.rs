//! The settings of ingest-api.

use std::net::SocketAddr;
use std::time::Duration;

use millrace_settings::{ConfigError, OneOf, Policy, Servers, address, milliseconds, number};

use crate::audience::StatusPage;
use crate::client_address::TrustedProxies;

/// Receives events over HTTP, checks them against the project's plan, and appends them to the Redis Stream
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "ingest-api", version)]
pub struct Config {
    #[command(flatten)]
    pub servers: Servers,
    #[command(flatten)]
    pub policy: Policy,
    #[command(flatten)]
    pub http: HttpSettings,
}

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "HTTP server")]
pub struct HttpSettings {
    /// Address that clients connect to
    #[arg(long = "listen-addr", env = "LISTEN_ADDR", value_name = "ADDRESS:PORT")]
    #[arg(default_value = "127.0.0.1:8080", value_parser = address)]
    pub listen: SocketAddr,
    /// Address that serves /metrics; do not expose it to clients
    #[arg(long = "metrics-addr", env = "METRICS_ADDR", value_name = "ADDRESS:PORT")]
    #[arg(default_value = "127.0.0.1:9100", value_parser = address)]
    pub metrics: SocketAddr,
    /// Whether / serves the status page, which shows all projects and needs no key; auto serves it only when
    /// LISTEN_ADDR is a loopback address
    #[arg(long, env = "STATUS_PAGE", value_name = "MODE", default_value = "auto", value_parser = STATUS_PAGE)]
    pub status_page: StatusPage,
    /// Addresses and networks of proxies, separated by commas, or none; only on connections from these does
    /// X-Forwarded-For or Forwarded name the client, for projects that store addresses
    #[arg(long, env = "TRUSTED_PROXIES", value_name = "NETWORKS", default_value = "none")]
    #[arg(value_parser = TrustedProxies::parse)]
    pub trusted_proxies: TrustedProxies,
    /// Connections to Redis, shared by all requests for everything but admissions: each thread that serves
    /// clients has one more for each shard
    #[arg(long, env = "REDIS_CONNECTIONS", value_name = "CONNECTIONS", default_value = "2")]
    #[arg(value_parser = number(1..=64_usize))]
    pub redis_connections: usize,
    #[command(flatten)]
    pub limits: Limits,
}

const STATUS_PAGE: OneOf<StatusPage> =
    OneOf(&[("auto", StatusPage::Auto), ("on", StatusPage::On), ("off", StatusPage::Off)]);

/// The limits of one HTTP server.
#[derive(clap::Args, Clone, Copy, PartialEq, Eq, Debug)]
#[command(next_help_heading = "Limits of the HTTP server")]
pub struct Limits {
    /// Largest request body of POST /v1/events in bytes, as it is sent
    #[arg(long, env = "BODY_BYTES_MAX", value_name = "BYTES", default_value = "4194304")]
    #[arg(value_parser = number(1_024..=BODY_DECODED_BYTES_MAX))]
    pub body_bytes_max: usize,
    /// Largest request body of the routes for SDKs in bytes, as it is sent
    #[arg(long, env = "SDK_BODY_BYTES_MAX", value_name = "BYTES", default_value = "8388608")]
    #[arg(value_parser = number(1_024..=BODY_DECODED_BYTES_MAX))]
    pub sdk_body_bytes_max: usize,
    /// Largest request body of any route in bytes, after decompression
    #[arg(long, env = "BODY_DECODED_BYTES_MAX", value_name = "BYTES", default_value = "16777216")]
    #[arg(value_parser = number(1_024..=BODY_DECODED_BYTES_MAX))]
    pub body_decoded_bytes_max: usize,
    /// Bytes of all request bodies in memory; beyond that, requests are answered 503 overloaded. At least the
    /// sum of BODY_DECODED_BYTES_MAX and the larger of BODY_BYTES_MAX and SDK_BODY_BYTES_MAX
    #[arg(long, env = "BODIES_IN_FLIGHT_BYTES_MAX", value_name = "BYTES", default_value = "268435456")]
    #[arg(value_parser = number(2_048..=BODIES_IN_FLIGHT_BYTES_MAX))]
    pub bodies_in_flight_bytes_max: usize,
    /// Open connections; the next one is closed as soon as it is accepted
    #[arg(long, env = "CONNECTIONS_MAX", value_name = "CONNECTIONS", default_value = "10000")]
    #[arg(value_parser = number(1..=1_000_000_usize))]
    pub connections_max: usize,
    /// Milliseconds that a client may take to send the head of a request
    #[arg(long = "header-timeout-ms", env = "HEADER_TIMEOUT_MS", value_name = "MS", default_value = "5000")]
    #[arg(value_parser = milliseconds(100..=600_000))]
    pub header_timeout: Duration,
    /// Milliseconds that an idle connection stays open; set it higher than the idle timeout of the proxy in
    /// front
    #[arg(long = "idle-timeout-ms", env = "IDLE_TIMEOUT_MS", value_name = "MS", default_value = "75000")]
    #[arg(value_parser = milliseconds(100..=3_600_000))]
    pub idle_timeout: Duration,
    /// Milliseconds that the body of a request may pause; less after pieces of a few bytes
    #[arg(long = "body-timeout-ms", env = "BODY_TIMEOUT_MS", value_name = "MS", default_value = "10000")]
    #[arg(value_parser = milliseconds(100..=600_000))]
    pub body_timeout: Duration,
    /// Milliseconds that the body of a request may take, unless it arrives at 6,000 bytes per second or more
    #[arg(long = "body-time-max-ms", env = "BODY_TIME_MAX_MS", value_name = "MS", default_value = "120000")]
    #[arg(value_parser = milliseconds(100..=3_600_000))]
    pub body_time_max: Duration,
    /// Days after the end of a month, UTC, during which events that were received in it can be cancelled
    #[arg(long, env = "CANCEL_DAYS", value_name = "DAYS", default_value = "35")]
    #[arg(value_parser = number(0..=36_500_u32))]
    pub cancel_days: u32,
    /// Milliseconds after SIGTERM during which connections are still accepted, while /readyz already answers
    /// 503
    #[arg(long = "drain-grace-ms", env = "DRAIN_GRACE_MS", value_name = "MS", default_value = "0")]
    #[arg(value_parser = milliseconds(0..=60_000))]
    pub drain_grace: Duration,
}

/// A quarter of the largest size of an entry's rows, because a row can be longer than its JSON.
const BODY_DECODED_BYTES_MAX: usize = millrace_event::entry::ROWS_BYTES_MAX / 4;
const BODIES_IN_FLIGHT_BYTES_MAX: usize = 1 << 40;

impl Config {
    /// The settings of this process.
    ///
    /// # Errors
    /// The first setting with a bad value.
    pub fn read() -> Result<Self, ConfigError> {
        let config: Self = millrace_settings::parse()?;
        config.http.limits.check()?;
        config.servers.check()?;
        Ok(config)
    }
}

impl Limits {
    /// Memory that the largest request takes: its body as sent and after decompression.
    pub fn request_bytes_max(&self) -> usize {
        self.body_bytes_max.max(self.sdk_body_bytes_max).saturating_add(self.body_decoded_bytes_max)
    }

    /// Checks the limits against each other.
    ///
    /// # Errors
    /// When the largest request would never find room.
    pub fn check(&self) -> Result<(), ConfigError> {
        let largest = self.request_bytes_max();
        let value = self.bodies_in_flight_bytes_max.to_string();
        number(largest..=BODIES_IN_FLIGHT_BYTES_MAX)(&value).map_err(|expected| ConfigError {
            variable: "BODIES_IN_FLIGHT_BYTES_MAX".to_owned(),
            reason: format!(
                "{expected}; the lowest is BODY_DECODED_BYTES_MAX + the larger of BODY_BYTES_MAX and \
                 SDK_BODY_BYTES_MAX"
            ),
            value: Some(value.clone()),
        })?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::{CommandFactory, FromArgMatches};

    use super::*;

    fn read(arguments: &[&str]) -> Result<Config, ConfigError> {
        let arguments = ["ingest-api"].iter().chain(arguments).map(OsString::from);
        let matches = millrace_settings::matches(Config::command(), arguments)?;
        let config = Config::from_arg_matches(&matches).unwrap();
        config.http.limits.check().map(|()| config)
    }

    #[test]
    fn the_defaults_are_valid() {
        let config = read(&[]).unwrap();
        assert_eq!(config.http.listen.port(), 8080);
        assert_eq!(config.http.limits.body_bytes_max, 4 << 20);
        assert_eq!(config.http.limits.sdk_body_bytes_max, 8 << 20);
        assert_eq!(config.http.limits.idle_timeout, Duration::from_secs(75));
    }

    #[test]
    fn a_bad_value_is_refused_with_the_name_of_its_variable() {
        let bad = [
            ("--listen-addr", "", "LISTEN_ADDR"),
            ("--listen-addr", "localhost", "LISTEN_ADDR"),
            ("--metrics-addr", "9100", "METRICS_ADDR"),
            ("--status-page", "yes", "STATUS_PAGE"),
            ("--trusted-proxies", "proxy.example", "TRUSTED_PROXIES"),
            ("--redis-url", "http://x", "REDIS_URL"),
            ("--database-url", "", "DATABASE_URL"),
            ("--redis-connections", "0", "REDIS_CONNECTIONS"),
            ("--body-bytes-max", "4MB", "BODY_BYTES_MAX"),
            ("--sdk-body-bytes-max", "8MB", "SDK_BODY_BYTES_MAX"),
            ("--body-decoded-bytes-max", "99999999999", "BODY_DECODED_BYTES_MAX"),
            ("--bodies-in-flight-bytes-max", "1", "BODIES_IN_FLIGHT_BYTES_MAX"),
            ("--bodies-in-flight-bytes-max", "25165823", "BODIES_IN_FLIGHT_BYTES_MAX"),
            ("--connections-max", "0", "CONNECTIONS_MAX"),
            ("--header-timeout-ms", "", "HEADER_TIMEOUT_MS"),
            ("--idle-timeout-ms", "0", "IDLE_TIMEOUT_MS"),
            ("--body-timeout-ms", "-1", "BODY_TIMEOUT_MS"),
            ("--body-time-max-ms", "2m", "BODY_TIME_MAX_MS"),
            ("--drain-grace-ms", "soon", "DRAIN_GRACE_MS"),
            ("--durability", "maybe", "DURABILITY"),
            ("--stream-shards", "0", "STREAM_SHARDS"),
        ];
        for (flag, value, variable) in bad {
            let flag = format!("{flag}={value}");
            match read(&[&flag]) {
                Err(error) => assert_eq!(error.variable, variable, "{flag}"),
                Ok(_) => panic!("{flag} was accepted"),
            }
        }
    }
}
