//! Checks whether the Redis server keeps every batch that it has acknowledged.

use std::collections::HashMap;

use super::core::Core;
use super::error::{ConnectionHealth, classify, connection_health};
use super::reply;
use crate::StreamError;
use crate::metrics::{counted, redis_sizes};

/// Settings: the name, the value that keeps every acknowledged batch through a `kill -9`, and what another
/// value costs.
const SETTINGS: [(&str, &str, &str); 4] = [
    ("appendonly", "yes", "nothing is on disk"),
    ("appendfsync", "always", "batches are acknowledged before they are on disk"),
    ("no-appendfsync-on-rewrite", "no", "batches are acknowledged before they are on disk during rewrites"),
    ("maxmemory-policy", "noeviction", "counters and markers can be evicted"),
];
/// Lines of INFO, and the value of each on a healthy server.
const STATES: [(&str, &str); 2] = [("role", "master"), ("aof_last_write_status", "ok")];

/// Also records the sizes that INFO reports as metrics.
pub(super) async fn durability_faults(core: &Core) -> Result<Vec<String>, StreamError> {
    let mut faults = Vec::new();
    for (name, durable, cost) in SETTINGS {
        match setting(core, name).await? {
            Ok(value) if value == durable => {}
            Ok(value) => faults.push(format!("{name} is {value:?}, not {durable:?}: {cost}")),
            Err(reason) => faults.push(format!("{name} cannot be checked: {reason}")),
        }
    }
    let mut command = redis::cmd("INFO");
    let text = reply::text(core.ask(command.arg("everything")).await?)?;
    let info: HashMap<&str, &str> = text.lines().filter_map(|line| line.trim().split_once(':')).collect();
    let bytes = |name: &str| info.get(name)?.parse().ok();
    redis_sizes(bytes("used_memory"), bytes("maxmemory"), bytes("aof_current_size"));
    for (name, healthy) in STATES {
        match info.get(name) {
            Some(&value) if value == healthy => {}
            Some(value) => faults.push(format!("{name} is {value:?}, not {healthy:?}")),
            None => faults.push(format!("{name} cannot be checked: INFO does not report it")),
        }
    }
    Ok(faults)
}

/// The value of a setting, or why the server did not report it.
async fn setting(core: &Core, name: &str) -> Result<Result<String, String>, StreamError> {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg(name);
    match core.try_ask(&command).await? {
        Ok(answer) => match reply::array(answer)?.pop() {
            Some(value) => Ok(Ok(reply::text(value)?)),
            None => Ok(Err("the server has no such setting".to_owned())),
        },
        Err(error) if connection_health(&error) == ConnectionHealth::Usable => Ok(Err(error.to_string())),
        Err(error) => Err(counted(classify(&error))),
    }
}
