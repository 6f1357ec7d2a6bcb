//! The worker's settings.

use std::net::SocketAddr;
use std::time::Duration;

use millrace_settings::{ConfigError, Durability, Policy, PolicyArgs, Servers, ServersArgs, address, number};

/// Settings as text: from flags, or from the environment.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "stream-worker", version, about = "Drains the stream into PostgreSQL, every event once")]
pub struct Args {
    #[command(flatten)]
    servers: ServersArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Where /metrics and /healthz are served
    #[arg(long, env = "METRICS_ADDR", default_value = "127.0.0.1:9101")]
    metrics_addr: String,
    #[command(flatten)]
    work: WorkArgs,
}

/// How the work is done, as text.
#[derive(clap::Args, Clone, Debug)]
pub struct WorkArgs {
    /// Lanes for each shard, each with a connection of its own to stream and store
    #[arg(long, env = "WORKER_LANES", default_value = "2")]
    worker_lanes: String,
    /// Events after which a transaction is not filled further
    #[arg(long, env = "TRANSACTION_EVENTS_MAX", default_value = "20000")]
    transaction_events_max: String,
    /// Milliseconds from the beginning of a small transaction to that of the next one of the same lane [default: 0; on files 10]
    #[arg(long, env = "TRANSACTION_PACE_MS")]
    transaction_pace_ms: Option<String>,
    /// Milliseconds of silence after which a lane's entries are taken over by another
    #[arg(long, env = "TAKEOVER_IDLE_MS", default_value = "15000")]
    takeover_idle_ms: String,
    /// Milliseconds after which a transaction of ours counts as stuck and is ended
    #[arg(long, env = "TRANSACTION_AGE_MAX_MS", default_value = "60000")]
    transaction_age_max_ms: String,
    /// Days events and dead letters are kept, by their timestamp; 0 keeps them for ever
    #[arg(long, env = "RETENTION_DAYS", default_value = "0")]
    retention_days: String,
    /// Days the ledger of batches is kept, at least 2; usage is kept for ever
    #[arg(long, env = "LEDGER_DAYS", default_value = "40")]
    ledger_days: String,
    /// Milliseconds between two rounds of upkeep
    #[arg(long, env = "UPKEEP_INTERVAL_MS", default_value = "10000")]
    upkeep_interval_ms: String,
}

/// [`Args`], checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// See [`Servers`].
    pub servers: Servers,
    /// See [`Policy`].
    pub policy: Policy,
    /// Where the metrics listener binds.
    pub metrics: SocketAddr,
    /// See [`Settings`].
    pub settings: Settings,
}

/// How the work is done.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether a stream that is not durable is to be complained of.
    pub durability: Durability,
    /// For each shard.
    pub lanes: u16,
    /// A transaction is closed at the first entry that reaches it.
    pub transaction_events_max: u64,
    /// A lane begins no sooner than this after it has begun a small transaction. On a disk that it shares with admission,
    /// many small commits cost more than they gain; an event after a silence is written at once all the same.
    pub transaction_pace: Duration,
    /// See [`millrace_stream::Reader::take_over`].
    pub takeover_idle: Duration,
    /// See [`millrace_store::UpkeepPolicy::transaction_age_max`].
    pub transaction_age_max: Duration,
    /// See [`millrace_store::UpkeepPolicy::retention_days`].
    pub retention_days: Option<u32>,
    /// See [`millrace_store::UpkeepPolicy::ledger_days`].
    pub ledger_days: u32,
    /// Between two rounds of upkeep.
    pub upkeep_interval: Duration,
}

impl Args {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first [`ConfigError`].
    pub fn check(&self) -> Result<Config, ConfigError> {
        let policy = self.policy.check()?;
        Ok(Config {
            servers: self.servers.check()?,
            policy,
            metrics: address("METRICS_ADDR", &self.metrics_addr)?,
            settings: self.work.check(policy.durability, "0")?,
        })
    }
}

impl WorkArgs {
    /// Checks every setting. `pace_ms` is the pace when nobody has set one.
    ///
    /// # Errors
    /// The first [`ConfigError`].
    pub fn check(&self, durability: Durability, pace_ms: &str) -> Result<Settings, ConfigError> {
        let ms = |variable, value, range| number(variable, value, range).map(Duration::from_millis);
        let retention_days = number("RETENTION_DAYS", &self.retention_days, 0..=36_500)?;
        Ok(Settings {
            durability,
            lanes: number("WORKER_LANES", &self.worker_lanes, 1..=64)?,
            transaction_events_max: number(
                "TRANSACTION_EVENTS_MAX",
                &self.transaction_events_max,
                1..=1_000_000,
            )?,
            transaction_pace: ms(
                "TRANSACTION_PACE_MS",
                self.transaction_pace_ms.as_deref().unwrap_or(pace_ms),
                0..=1_000,
            )?,
            takeover_idle: ms("TAKEOVER_IDLE_MS", &self.takeover_idle_ms, 100..=86_400_000)?,
            transaction_age_max: ms(
                "TRANSACTION_AGE_MAX_MS",
                &self.transaction_age_max_ms,
                1_000..=86_400_000,
            )?,
            retention_days: (retention_days > 0).then_some(retention_days),
            ledger_days: number("LEDGER_DAYS", &self.ledger_days, 2..=36_500)?,
            upkeep_interval: ms("UPKEEP_INTERVAL_MS", &self.upkeep_interval_ms, 50..=3_600_000)?,
        })
    }
}
