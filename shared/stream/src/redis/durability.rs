//! Checks whether the Redis server keeps every batch that it has acknowledged.

use std::collections::HashMap;
use std::time::Instant;

use redis::{Cmd, Value};

use super::core::Core;
use super::error::classify;
use super::link::Link;
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
/// The line of INFO about the last write to the append-only file.
const LAST_WRITE: &str = "aof_last_write_status";

/// Also records the sizes that INFO reports as metrics.
pub(super) async fn durability_faults(core: &Core, shard: u16) -> Result<Vec<String>, StreamError> {
    let asked = Instant::now();
    let link = core.link(shard);
    let mut faults = Vec::new();
    let mut unknown: Vec<(Vec<&str>, String)> = Vec::new();
    for (name, durable, cost) in SETTINGS {
        match setting(link, name).await? {
            Ok(value) if value == durable => {}
            Ok(value) => faults.push(format!("{name} is {value:?}, not {durable:?}: {cost}")),
            Err(reason) => match unknown.last_mut().filter(|(_, last)| *last == reason) {
                Some((names, _)) => names.push(name),
                None => unknown.push((vec![name], reason)),
            },
        }
    }
    let unknown =
        unknown.iter().map(|(names, reason)| format!("{} cannot be checked: {reason}", names.join(", ")));
    faults.extend(unknown);
    let info = match info(link).await? {
        Ok(info) => info,
        Err(reason) => {
            faults.push(format!("role and {LAST_WRITE} cannot be checked: {reason}"));
            return Ok(faults);
        }
    };
    let info: HashMap<&str, &str> = info.lines().filter_map(|line| line.trim().split_once(':')).collect();
    let bytes = |name: &str| info.get(name)?.parse().ok();
    redis_sizes(bytes("used_memory"), bytes("maxmemory"), bytes("aof_current_size"));
    match info.get("role") {
        Some(&"master") => {}
        Some(role) => {
            let reason = format!("this Redis is a replica, not the primary (its role is {role})");
            link.connections.give_up(asked, reason.clone());
            return Err(counted(StreamError::ReadOnly(reason)));
        }
        None => faults.push("role cannot be checked: INFO does not report it".to_owned()),
    }
    match info.get(LAST_WRITE) {
        Some(&"ok") => {}
        Some(status) => faults.push(format!("{LAST_WRITE} is {status:?}, not \"ok\"")),
        None => faults.push(format!("{LAST_WRITE} cannot be checked: INFO does not report it")),
    }
    Ok(faults)
}

/// The value of a setting, or why the server did not report it.
async fn setting(link: &Link, name: &str) -> Result<Result<String, String>, StreamError> {
    let mut command = redis::cmd("CONFIG");
    command.arg("GET").arg(name);
    match answer(link, &command).await? {
        Ok(answer) => match reply::array(answer)?.pop() {
            Some(value) => Ok(Ok(reply::text(value)?)),
            None => Ok(Err("the server has no such setting".to_owned())),
        },
        Err(reason) => Ok(Err(reason)),
    }
}

/// The text of INFO, or why the server did not send it.
async fn info(link: &Link) -> Result<Result<String, String>, StreamError> {
    let mut command = redis::cmd("INFO");
    match answer(link, command.arg("everything")).await? {
        Ok(answer) => Ok(Ok(reply::text(answer)?)),
        Err(reason) => Ok(Err(reason)),
    }
}

/// The answer of a healthy server, or why it refused to answer.
async fn answer(link: &Link, command: &Cmd) -> Result<Result<Value, String>, StreamError> {
    match link.try_ask(command).await? {
        Ok(answer) => Ok(Ok(answer)),
        // Such as a user without the right, or a command that the operator removed.
        Err(error) => match classify(&error) {
            StreamError::Refused(reason) => Ok(Err(reason)),
            error => Err(counted(error)),
        },
    }
}
