//! The settings of API and worker in one process.

use std::net::SocketAddr;

use ingest_api::StatusPage;
use ingest_api::config::{LimitArgs, Limits, status_page};
use millrace_settings::{ConfigError, Durability, address, number};
use stream_worker::config::{Settings, WorkArgs};

use crate::place::Place;

/// Admission and the lanes share one disk there.
const PACE_MS_ON_FILES: &str = "10";

/// Settings as text: from flags, or from the environment.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Serving, when there is no command")]
pub(crate) struct ServeArgs {
    /// Where clients connect
    #[arg(long, env = "LISTEN_ADDR", default_value = "127.0.0.1:8080")]
    listen_addr: String,
    /// Where /metrics is served; keep it away from clients
    #[arg(long, env = "METRICS_ADDR", default_value = "127.0.0.1:9100")]
    metrics_addr: String,
    /// The status page at /, which tells of all projects without a key: on, off, or auto: when LISTEN_ADDR is loopback
    #[arg(long, env = "STATUS_PAGE", default_value = "auto")]
    status_page: String,
    /// Connections to Redis over which admissions are multiplexed
    #[arg(long, env = "REDIS_CONNECTIONS", default_value = "2")]
    redis_connections: String,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    work: WorkArgs,
}

/// [`ServeArgs`], checked.
pub(crate) struct Serve {
    pub(crate) listen: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) status_page: StatusPage,
    pub(crate) redis_connections: usize,
    pub(crate) limits: Limits,
    pub(crate) work: Settings,
}

impl ServeArgs {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first [`ConfigError`].
    pub(crate) fn check(&self, durability: Durability, place: &Place) -> Result<Serve, ConfigError> {
        let pace_ms = match place {
            Place::Servers(_) => "0",
            Place::Folder(_) => PACE_MS_ON_FILES,
        };
        Ok(Serve {
            listen: address("LISTEN_ADDR", &self.listen_addr)?,
            metrics: address("METRICS_ADDR", &self.metrics_addr)?,
            status_page: status_page(&self.status_page)?,
            redis_connections: number("REDIS_CONNECTIONS", &self.redis_connections, 1..=64)?,
            limits: self.limits.check()?,
            work: self.work.check(durability, pace_ms)?,
        })
    }
}
