//! Settings that API and worker follow in the same way.

use clap::ArgMatches;
use millrace_reconcile::health::Durability;
use millrace_telemetry::process::LogFormat;

use crate::error::ConfigError;
use crate::values::{OneOf, number};

/// The replicas that a batch needs when nothing is set.
const REPLICAS: u32 = 1;

#[derive(clap::Args, Clone, Copy, PartialEq, Eq, Debug)]
#[command(next_help_heading = "Serving")]
pub struct Policy {
    /// Events that may wait to be stored, in each shard; beyond that, posts are answered 503 backlog_full
    #[arg(long, env = "BACKLOG_EVENTS_MAX", value_name = "EVENTS", default_value = "10000000")]
    #[arg(value_parser = number(1..=1_u64 << 50))]
    pub backlog_events_max: u64,
    /// strict: accept events only while Redis syncs every write to disk before it answers; replicated: accept
    /// an event when DURABILITY_REPLICAS replicas of Redis have it; relaxed: accept events with any
    /// configuration of Redis, and lose acknowledged events when it fails
    #[arg(id = DURABILITY, long = "durability", env = "DURABILITY", value_name = "MODE", default_value = "strict")]
    #[arg(value_parser = MODE)]
    mode: Mode,
    /// Replicas of Redis that must have an event before it is acknowledged; for DURABILITY=replicated only
    #[arg(id = DURABILITY_REPLICAS, long = "durability-replicas", env = "DURABILITY_REPLICAS")]
    #[arg(value_name = "REPLICAS", default_value_t = REPLICAS, value_parser = number(1..=16_u32))]
    replicas: u32,
    /// Format of the log on standard error; json writes one object per line
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT", default_value = "text", value_parser = LOG_FORMAT)]
    pub log_format: LogFormat,
}

const DURABILITY: &str = "durability";
const DURABILITY_REPLICAS: &str = "durability_replicas";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Strict,
    Replicated,
    Relaxed,
}

const MODE: OneOf<Mode> =
    OneOf(&[("strict", Mode::Strict), ("replicated", Mode::Replicated), ("relaxed", Mode::Relaxed)]);
const LOG_FORMAT: OneOf<LogFormat> = OneOf(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);

impl Policy {
    /// How safe an event must be before it is acknowledged.
    pub fn durability(&self) -> Durability {
        match self.mode {
            Mode::Strict => Durability::Strict,
            Mode::Replicated => Durability::Replicated { replicas: self.replicas },
            Mode::Relaxed => Durability::Relaxed,
        }
    }

    /// Checks that the settings can be used with an installation on files.
    ///
    /// # Errors
    /// When they demand replicas.
    pub fn check_for_files(&self) -> Result<(), ConfigError> {
        if self.mode != Mode::Replicated {
            return Ok(());
        }
        let reason = "files have no replicas; set REDIS_URL and DATABASE_URL to use servers, or set DURABILITY to \
                      strict";
        Err(bad(DURABILITY, "replicated".to_owned(), reason))
    }
}

/// Checks the settings of a command that has those of [`Policy`]; any other command passes.
///
/// # Errors
/// A number of replicas that no setting asks for.
pub(crate) fn check(matches: &ArgMatches) -> Result<(), ConfigError> {
    let Ok(Some(&mode)) = matches.try_get_one::<Mode>(DURABILITY) else { return Ok(()) };
    match matches.try_get_one::<u32>(DURABILITY_REPLICAS) {
        Ok(Some(&replicas)) if replicas != REPLICAS && mode != Mode::Replicated => {
            let reason = "it needs DURABILITY=replicated; set both, or remove it";
            Err(bad(DURABILITY_REPLICAS, replicas.to_string(), reason))
        }
        _ => Ok(()),
    }
}

fn bad(id: &str, value: String, reason: &str) -> ConfigError {
    ConfigError { variable: id.to_uppercase(), value: Some(value), reason: reason.to_owned() }
}
