//! The settings of stream-worker.

use std::net::SocketAddr;
use std::time::Duration;

use crate::webhook::{AllowedHosts, allowed_hosts};
use millrace_settings::{ConfigError, OneOf, Policy, Servers, address, milliseconds, number};

/// When a committed entry is removed from the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SettleAfter {
    /// After the commit. A commit waits for standbys only with `synchronous_standby_names`.
    Commit,
    /// When enough standbys have the commit on disk.
    Standby,
}

/// Moves events from the Redis Stream into PostgreSQL, each exactly once
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "stream-worker", version)]
pub struct Config {
    #[command(flatten)]
    pub servers: Servers,
    #[command(flatten)]
    pub policy: Policy,
    /// Address that serves /metrics and /healthz; do not expose it to clients
    #[arg(long = "metrics-addr", env = "METRICS_ADDR", value_name = "ADDRESS:PORT")]
    #[arg(default_value = "127.0.0.1:9101", value_parser = address, help_heading = "Serving")]
    pub metrics: SocketAddr,
    #[command(flatten)]
    pub settings: Settings,
}

/// How lanes and upkeep work.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Worker")]
pub struct Settings {
    /// Lanes for each shard; each lane has its own connections and its own transactions
    #[arg(long = "worker-lanes", env = "WORKER_LANES", value_name = "LANES", default_value = "2")]
    #[arg(value_parser = number(1..=64_u16))]
    pub lanes: u16,
    /// Events at which a transaction is full
    #[arg(long, env = "TRANSACTION_EVENTS_MAX", value_name = "EVENTS", default_value = "20000")]
    #[arg(value_parser = number(1..=1_000_000_u64))]
    pub transaction_events_max: u64,
    /// Milliseconds between the starts of two small transactions of a lane; an event after a pause is stored
    /// immediately. `millrace` on files uses 10 when it is not set
    // On a disk shared with admission, many small commits cost more than they gain.
    #[arg(long = "transaction-pace-ms", env = "TRANSACTION_PACE_MS", value_name = "MS", default_value = "0")]
    #[arg(value_parser = milliseconds(0..=1_000))]
    pub transaction_pace: Duration,
    /// Milliseconds without activity after which another lane takes over the entries of a lane
    #[arg(long = "takeover-idle-ms", env = "TAKEOVER_IDLE_MS", value_name = "MS", default_value = "15000")]
    #[arg(value_parser = milliseconds(100..=86_400_000))]
    pub takeover_idle: Duration,
    /// Milliseconds after which a transaction of a worker counts as stuck, and upkeep ends it
    #[arg(long = "transaction-age-max-ms", env = "TRANSACTION_AGE_MAX_MS", value_name = "MS")]
    #[arg(default_value = "60000", value_parser = milliseconds(1_000..=86_400_000))]
    pub transaction_age_max: Duration,
    /// When a stored batch leaves the stream. commit: after the commit; standby: when standbys of PostgreSQL
    /// have the commit on disk, so that a failover to one of them loses nothing. standby needs the rights of
    /// pg_monitor
    #[arg(long, env = "SETTLE_AFTER", value_name = "WHEN", default_value = "commit")]
    #[arg(value_parser = SETTLE_AFTER)]
    pub settle_after: SettleAfter,
    /// With SETTLE_AFTER=standby: the number of standbys that must have a commit on disk
    #[arg(long, env = "SETTLE_STANDBYS", value_name = "STANDBYS", default_value = "1")]
    #[arg(value_parser = number(1..=16_u16))]
    pub settle_standbys: u16,
    /// Days that events and dead letters are kept; 0 keeps them indefinitely. On PostgreSQL, events with a
    /// timestamp are removed by that timestamp, a whole day at a time. Events outside the daily partitions,
    /// dead letters, and everything on files are removed by the time at which they were received
    #[arg(long, env = "RETENTION_DAYS", value_name = "DAYS", default_value = "0", value_parser = days_or_zero)]
    // The full path keeps clap from reading this as "an optional flag".
    pub retention_days: std::option::Option<u32>,
    /// Days that the ledger of batches is kept; usage is kept indefinitely
    #[arg(long, env = "LEDGER_DAYS", value_name = "DAYS", default_value = "40")]
    #[arg(value_parser = number(2..=DAYS_MAX))]
    pub ledger_days: u32,
    /// Milliseconds between two rounds of upkeep
    #[arg(
        long = "upkeep-interval-ms",
        env = "UPKEEP_INTERVAL_MS",
        value_name = "MS",
        default_value = "10000"
    )]
    #[arg(value_parser = milliseconds(50..=3_600_000))]
    pub upkeep_interval: Duration,
    /// Hosts that notifications of thresholds may be sent to although their addresses are not public,
    /// separated by commas: names and IP addresses, without ports. Without it, only public addresses are
    /// connected to
    #[arg(long, env = "NOTIFY_ALLOW_HOSTS", value_name = "HOSTS", value_parser = allowed_hosts)]
    pub notify_allow_hosts: Option<AllowedHosts>,
}

const SETTLE_AFTER: OneOf<SettleAfter> =
    OneOf(&[("commit", SettleAfter::Commit), ("standby", SettleAfter::Standby)]);
const DAYS_MAX: u32 = 36_500;

/// 0 is `None`: no limit.
fn days_or_zero(text: &str) -> Result<Option<u32>, String> {
    number(0..=DAYS_MAX)(text).map(|days| (days > 0).then_some(days))
}

impl Settings {
    /// The standbys that must have an entry before it is settled; 0 means none.
    pub fn standbys(&self) -> u16 {
        match self.settle_after {
            SettleAfter::Commit => 0,
            SettleAfter::Standby => self.settle_standbys,
        }
    }
}

impl Config {
    /// The settings of this process.
    ///
    /// # Errors
    /// The first setting with a bad value.
    pub fn read() -> Result<Self, ConfigError> {
        let config: Self = millrace_settings::parse()?;
        config.servers.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn zero_retention_days_mean_no_limit() {
        let days =
            |text| Config::parse_from(["stream-worker", "--retention-days", text]).settings.retention_days;
        assert_eq!((days("0"), days("30")), (None, Some(30)));
    }
}
