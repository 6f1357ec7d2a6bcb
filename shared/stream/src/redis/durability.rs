//! Checks whether the Redis server keeps every batch that it has acknowledged, in the sense of
//! [`Durability`]. It must never change a setting, or demand a right that the mode does not need.

use std::collections::HashMap;
use std::time::Instant;

use redis::{Cmd, Value};

use super::core::Core;
use super::error::classify;
use super::link::Link;
use super::reply;
use crate::metrics::{counted, redis_sizes};
use crate::{Durability, DurabilityReport, StreamError};

/// Settings: the name, the value that keeps every acknowledged batch through a `kill -9`, and what another
/// value costs.
const SETTINGS: [(&str, &str, &str); 4] = [
    ("appendonly", "yes", "nothing is on disk"),
    ("appendfsync", "always", "batches are acknowledged before they are on disk"),
    ("no-appendfsync-on-rewrite", "no", "batches are acknowledged before they are on disk during rewrites"),
    ("maxmemory-policy", "noeviction", "counters and markers can be evicted"),
];
/// A replica that has confirmed nothing for longer does not keep up. Redis has the same default.
const LAG_MAX_S: u64 = 10;
/// What a primary without a file means for a batch that only replicas keep.
const EMPTY_PRIMARY: &str = "a primary that is restarted comes back empty, and its replicas copy that";
/// The line of INFO about the last write to the append-only file.
const LAST_WRITE: &str = "aof_last_write_status";

/// Also records the sizes that INFO reports as metrics.
pub(super) async fn durability_report(core: &Core, shard: u16) -> Result<DurabilityReport, StreamError> {
    let asked = Instant::now();
    let link = core.link(shard);
    let mut faults = match core.durability {
        // The settings of one server do not matter: replicas have the batches.
        Durability::Replicated { .. } => Vec::new(),
        Durability::Strict | Durability::Relaxed => setting_faults(link).await?,
    };
    let info = match info(link).await? {
        Ok(info) => info,
        Err(reason) => {
            faults.push(format!("role and {LAST_WRITE} cannot be checked: {reason}"));
            return Ok(DurabilityReport { faults, ..DurabilityReport::default() });
        }
    };
    let info = ServerState::parse(&info);
    let bytes = |name: &str| info.fields.get(name)?.parse().ok();
    redis_sizes(bytes("used_memory"), bytes("maxmemory"), bytes("aof_current_size"));
    match info.fields.get("role") {
        Some(&"master") => {}
        Some(role) => {
            let reason = format!("this Redis is a replica, not the primary (its role is {role})");
            link.connections.give_up(asked, reason.clone());
            return Err(counted(StreamError::ReadOnly(reason)));
        }
        None => faults.push("role cannot be checked: INFO does not report it".to_owned()),
    }
    let mut warnings = Vec::new();
    match core.durability {
        Durability::Replicated { replicas } => {
            faults.extend(info.faults_of_replicated(replicas));
            if info.keeps_no_file() {
                match setting(link, "appendonly").await? {
                    Ok(value) => {
                        faults.push(format!("appendonly is {value:?}, not \"yes\": {EMPTY_PRIMARY}"))
                    }
                    Err(_) => warnings.push(no_file_of_another_operator()),
                }
            }
        }
        Durability::Strict | Durability::Relaxed => {
            faults.extend(info.faults_of_one_server(core.is_behind_sentinel));
        }
    }
    Ok(DurabilityReport { faults, warnings, replicas: info.replicas(), refuses_alone: info.refuses_alone() })
}

/// Who may not read the setting cannot change it: a service promotes a replica in place of a primary that
/// failed, and most have no file.
fn no_file_of_another_operator() -> String {
    format!(
        "this Redis has no append-only file: {EMPTY_PRIMARY}; make sure that its operator promotes a replica and never \
         restarts a primary in its place, or turn the file on"
    )
}

/// The settings that lose acknowledged batches, and those that cannot be asked for.
async fn setting_faults(link: &Link) -> Result<Vec<String>, StreamError> {
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
    Ok(faults)
}

/// What INFO says. Operators who give no one the right to CONFIG do give that to INFO.
struct ServerState<'a> {
    fields: HashMap<&'a str, &'a str>,
}

impl<'a> ServerState<'a> {
    fn parse(info: &'a str) -> Self {
        Self { fields: info.lines().filter_map(|line| line.trim().split_once(':')).collect() }
    }

    /// Whether the server says that it has no append-only file.
    fn keeps_no_file(&self) -> bool {
        self.fields.get("aof_enabled") == Some(&"0")
    }

    /// Attached replicas, in any state.
    fn replicas(&self) -> u32 {
        self.fields.get("connected_slaves").and_then(|replicas| replicas.parse().ok()).unwrap_or(0)
    }

    /// Whether the server refuses writes without enough replicas. INFO has this line exactly when
    /// `min-replicas-to-write` and `min-replicas-max-lag` are both above 0.
    fn refuses_alone(&self) -> bool {
        self.fields.contains_key("min_slaves_good_slaves")
    }

    /// Replicas that have everything, and confirmed so within the last seconds: `slave0` to `slaveN`.
    fn replicas_that_keep_up(&self) -> u32 {
        let lines =
            (0..self.replicas()).filter_map(|number| self.fields.get(format!("slave{number}").as_str()));
        let keeps_up = |line: &&&str| {
            let value = |name| line.split(',').find_map(|field| field.strip_prefix(name));
            let lag: Option<u64> = value("lag=").and_then(|lag| lag.parse().ok());
            value("state=") == Some("online") && lag.is_some_and(|lag| lag <= LAG_MAX_S)
        };
        u32::try_from(lines.filter(keeps_up).count()).unwrap_or(u32::MAX)
    }

    /// For a server that answers for every batch alone.
    fn faults_of_one_server(&self, is_behind_sentinel: bool) -> Vec<String> {
        let mut faults = Vec::new();
        match self.fields.get(LAST_WRITE) {
            Some(&"ok") => {}
            Some(status) => faults.push(format!("{LAST_WRITE} is {status:?}, not \"ok\"")),
            None => faults.push(format!("{LAST_WRITE} cannot be checked: INFO does not report it")),
        }
        if !self.refuses_alone() && (self.replicas() > 0 || is_behind_sentinel) {
            faults.push(
                "a replica could be promoted without what was acknowledged: set min-replicas-to-write to 1 or more, \
                 and min-replicas-max-lag above 0, in the configuration of every server (or set \
                 DURABILITY=replicated)"
                    .to_owned(),
            );
        }
        faults
    }

    /// For batches that so many replicas must have.
    fn faults_of_replicated(&self, demanded: u32) -> Vec<String> {
        let mut faults = Vec::new();
        match self.fields.get("maxmemory_policy") {
            Some(&"noeviction") => {}
            Some(policy) => faults.push(format!(
                "maxmemory-policy is {policy:?}, not \"noeviction\": counters and markers can be evicted"
            )),
            None => faults.push("maxmemory-policy cannot be checked: INFO does not report it".to_owned()),
        }
        let found = self.replicas_that_keep_up();
        if found < demanded {
            let noun = if found == 1 { "replica" } else { "replicas" };
            let verb = if found == 1 { "keeps" } else { "keep" };
            faults.push(format!(
                "Redis has {found} {noun} that {verb} up with it, DURABILITY_REPLICAS demands {demanded}"
            ));
        }
        faults
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const REPLICAS: &str = "role:master\r\nconnected_slaves:3\r\n\
        slave0:ip=127.0.0.1,port=1,state=online,offset=28,lag=1\r\n\
        slave1:ip=::1,port=2,state=wait_bgsave,offset=0,lag=0\r\n\
        slave2:ip=10.0.0.1,port=3,state=online,offset=3,lag=99\r\nmaxmemory_policy:noeviction\r\n";

    #[test]
    fn only_replicas_that_are_online_and_confirm_count_as_keeping_up() {
        let state = ServerState::parse(REPLICAS);
        assert_eq!((state.replicas(), state.replicas_that_keep_up()), (3, 1));
        assert_eq!(state.faults_of_replicated(1), Vec::<String>::new());
        assert_eq!(
            state.faults_of_replicated(2),
            ["Redis has 1 replica that keeps up with it, DURABILITY_REPLICAS demands 2"]
        );
        let evicting =
            ServerState::parse("connected_slaves:0\nmaxmemory_policy:allkeys-lru").faults_of_replicated(1);
        assert!(evicting[0].starts_with("maxmemory-policy is \"allkeys-lru\""), "{evicting:?}");
        assert_eq!(evicting[1], "Redis has 0 replicas that keep up with it, DURABILITY_REPLICAS demands 1");
    }

    #[test]
    fn one_server_must_refuse_writes_alone_when_a_replica_could_take_its_place() {
        let faults = |replicas: &str, is_behind_sentinel| {
            let info = format!("aof_last_write_status:ok\n{replicas}");
            ServerState::parse(&info).faults_of_one_server(is_behind_sentinel)
        };
        assert_eq!(faults("connected_slaves:0", false), Vec::<String>::new());
        for (replicas, is_behind_sentinel) in [("connected_slaves:1", false), ("connected_slaves:0", true)] {
            let refused = faults(replicas, is_behind_sentinel);
            assert!(refused.len() == 1 && refused[0].contains("set min-replicas-to-write"), "{refused:?}");
            let with_minimum = format!("{replicas}\nmin_slaves_good_slaves:0");
            assert_eq!(faults(&with_minimum, is_behind_sentinel), Vec::<String>::new());
        }
    }
}
