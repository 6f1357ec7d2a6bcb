//! Whether this server keeps what it has acknowledged.

use std::collections::HashMap;

use super::{RedisStream, reply};
use crate::StreamError;
use crate::metrics;

/// Settings, the value that keeps every acknowledged batch through a kill -9, and what another value costs.
const SETTINGS: [(&str, &str, &str); 4] = [
    ("appendonly", "yes", "nothing is on disk"),
    ("appendfsync", "always", "batches are acknowledged before they are on disk"),
    ("no-appendfsync-on-rewrite", "no", "batches are acknowledged before they are on disk during rewrites"),
    ("maxmemory-policy", "noeviction", "counters and markers can be evicted"),
];
/// Lines of INFO, and the value they have while all is well.
const STATES: [(&str, &str); 2] = [("role", "master"), ("aof_last_write_status", "ok")];

impl RedisStream {
    /// See [`crate::Stream::durability_faults`].
    pub(super) async fn faults(&self) -> Result<Vec<String>, StreamError> {
        let mut faults = Vec::new();
        for (setting, strict, cost) in SETTINGS {
            match self.setting(setting).await? {
                Ok(value) if value == strict => {}
                Ok(value) => faults.push(format!("{setting} is {value:?}, not {strict:?}: {cost}")),
                Err(reason) => faults.push(format!("{setting} cannot be checked: {reason}")),
            }
        }
        let mut command = redis::cmd("INFO");
        let text = reply::text(self.ask(command.arg("everything")).await?)?;
        let info: HashMap<&str, &str> = text.lines().filter_map(|line| line.trim().split_once(':')).collect();
        let bytes = |name: &str| info.get(name)?.parse().ok();
        metrics::redis_size(bytes("used_memory"), bytes("maxmemory"), bytes("aof_current_size"));
        for (name, good) in STATES {
            match info.get(name) {
                Some(&value) if value == good => {}
                Some(value) => faults.push(format!("{name} is {value:?}, not {good:?}")),
                None => faults.push(format!("{name} cannot be checked: INFO does not tell")),
            }
        }
        Ok(faults)
    }

    /// The value of a setting, or why the server would not tell.
    async fn setting(&self, name: &str) -> Result<Result<String, String>, StreamError> {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg(name);
        match self.try_ask(&command).await? {
            Ok(answer) => match reply::array(answer)?.pop() {
                Some(value) => Ok(Ok(reply::text(value)?)),
                None => Ok(Err("the server does not know it".to_owned())),
            },
            Err(error) if matches!(super::error::health(&error), super::error::Health::Good) => {
                Ok(Err(error.to_string()))
            }
            Err(error) => Err(super::error::counted(super::error::meaning(&error))),
        }
    }
}
