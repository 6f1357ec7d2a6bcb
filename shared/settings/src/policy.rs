//! Settings that API and worker follow in the same way.

use millrace_reconcile::health::Durability;
use millrace_telemetry::process::LogFormat;

use crate::values::{OneOf, number};

#[derive(clap::Args, Clone, Copy, PartialEq, Eq, Debug)]
#[command(next_help_heading = "Serving")]
pub struct Policy {
    /// Events that may wait to be stored, in each shard; beyond that, posts are answered 503 backlog_full
    #[arg(long, env = "BACKLOG_EVENTS_MAX", value_name = "EVENTS", default_value = "10000000")]
    #[arg(value_parser = number(1..=1_u64 << 50))]
    pub backlog_events_max: u64,
    /// strict: accept events only while Redis syncs every write to disk before it answers; relaxed: accept
    /// events with any configuration of Redis, and lose acknowledged events when it fails
    #[arg(long, env = "DURABILITY", value_name = "MODE", default_value = "strict", value_parser = DURABILITY)]
    pub durability: Durability,
    /// Format of the log on standard error; json writes one object per line
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT", default_value = "text", value_parser = LOG_FORMAT)]
    pub log_format: LogFormat,
}

const DURABILITY: OneOf<Durability> =
    OneOf(&[("strict", Durability::Strict), ("relaxed", Durability::Relaxed)]);
const LOG_FORMAT: OneOf<LogFormat> = OneOf(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);
