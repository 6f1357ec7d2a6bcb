//! Sentinels replace a primary by a replica, which may be behind.
//!
//! A drill must never rely on a replica that happens to have everything: it stops the writes first, or it
//! demands what replicas have confirmed.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use testkit::oracle::{Clients, Invariant, Load};
use testkit::{Redis, ServerOptions, eventually};

use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, RedisLayout, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "sentinel primary killed",
        target: "redis and replicas",
        fault: "SIGKILL of the primary under load; a replica is promoted; the old primary comes back later",
        expected: "with DURABILITY=replicated no acknowledged event is lost, none twice",
        tier: Tier::Quick,
        run: |drill| Box::pin(primary_killed(drill)),
    },
    Row {
        name: "sentinel old primary returns",
        target: "redis and replicas",
        fault: "after a failover the old primary starts alone with its own configuration, and Sentinels name it the primary",
        expected: "it refuses every write, because it has no replica; no acknowledged event is lost",
        tier: Tier::Quick,
        run: |drill| Box::pin(old_primary_returns(drill)),
    },
    Row {
        name: "replica behind, confirmations demanded",
        target: "redis and replicas",
        fault: "the replica is paused under load, the primary killed, and the replica promoted with what it had on disk",
        expected: "with DURABILITY=replicated 503 while it is paused; no acknowledged event is lost",
        tier: Tier::Nightly,
        run: |drill| Box::pin(replica_behind_confirming(drill)),
    },
    Row {
        name: "replica behind, loss named",
        target: "redis and replicas",
        fault: "the same with DURABILITY=strict and min-replicas-to-write 1, where acknowledged events are lost",
        expected: "`millrace audit` names exactly the events that are missing; nothing twice; quota and counters are rebuilt",
        tier: Tier::Nightly,
        run: |drill| Box::pin(replica_behind_naming(drill)),
    },
];

/// The deadline of a change of primaries. Generous: Sentinels may need several attempts.
pub(super) const FAILOVER: Duration = Duration::from_secs(120);
pub(super) const REPLICATED: &[(&str, &str)] = &[("DURABILITY", "replicated")];
/// In the configuration of every server.
pub(super) const MIN_REPLICAS: &[(&str, &str)] = &[("min-replicas-to-write", "1")];
pub(super) fn replicated(redis_layout: RedisLayout) -> Layout<'static> {
    Layout { redis_layout, workers: 1, api: REPLICATED, worker: REPLICATED, ..Layout::default() }
}

fn strict(replicas: usize) -> Layout<'static> {
    let redis = ServerOptions { settings: MIN_REPLICAS, ..ServerOptions::default() };
    let redis_layout = RedisLayout::Sentinel { replicas };
    Layout { redis_layout, redis, workers: 1, ..Layout::default() }
}

impl System {
    /// Waits until the Sentinels name another server than this one.
    async fn promoted_in_place_of(&mut self, old: usize) -> usize {
        let new = eventually(FAILOVER, "a replica to be promoted", async || {
            let primary = self.sentinels().primary().await;
            if primary == old {
                Err("the Sentinels still name the old primary".to_owned())
            } else {
                Ok(primary)
            }
        })
        .await;
        self.note(Effect::Promoted, 1);
        new
    }

    pub(super) async fn kill_redis(&mut self, at: usize) {
        self.servers.node_mut(at).kill().await;
        self.note(Effect::Killed, 1);
    }

    /// Starts a server again from its files and makes it follow the primary, as Sentinels do after some time.
    async fn restart_as_replica(&mut self, at: usize, primary: usize) {
        self.servers.node_mut(at).restart().await;
        let port = self.sentinels().node(primary).port().to_string();
        self.sentinels().node(at).run(&["REPLICAOF", "127.0.0.1", &port]).await;
    }
}

/// The highest id that this shard has had on this server.
pub(super) async fn last_id(server: &Redis, shard: u16) -> String {
    let mut ask = redis::cmd("XINFO");
    ask.arg("STREAM").arg(System::stream_key(shard));
    let mut info: HashMap<String, redis::Value> =
        ask.query_async(&mut server.connect().await).await.expect("Redis answers a drill");
    let id = info.remove("last-generated-id").expect("every stream has one");
    redis::from_redis_value(id).expect("an id is text")
}

async fn last_ids(server: &Redis) -> Vec<String> {
    let mut ids = Vec::new();
    for shard in 0..Layout::default().shards {
        ids.push(last_id(server, shard).await);
    }
    ids
}

async fn primary_killed(drill: Drill) -> Verdict {
    let mut system = System::start(drill, replicated(RedisLayout::Sentinel { replicas: 2 })).await;
    // What a worker has stored may be missing on the replica, if it was not acknowledged.
    system.expect_rebuild();
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    let old = system.sentinels().primary().await;
    system.kill_redis(old).await;
    system.promoted_in_place_of(old).await;
    clients.acknowledge(100).await;
    let needs = [
        (Effect::Acknowledged, 150),
        (Effect::Unknown, 1),
        (Effect::Killed, 1),
        (Effect::Promoted, 1),
        (Effect::Reconnected, 1),
    ];
    system.finish(clients, &needs).await
}

async fn old_primary_returns(drill: Drill) -> Verdict {
    let mut system = System::start(drill, strict(2)).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    let old = system.sentinels().primary().await;
    system.sentinels().node(old).pause_writes(2).await;
    system.kill_redis(old).await;
    let new = system.promoted_in_place_of(old).await;
    clients.acknowledge(50).await;

    // Before it starts: Sentinels that still know the failover would tell the others through it.
    system.sentinels().name_primary(old).await;
    system.servers.node_mut(old).restart().await;
    let before = last_ids(system.sentinels().node(old)).await;
    // So that the programs ask the Sentinels again.
    system.sentinels().node(new).run(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    system.more_unanswered(30).await;
    let role = system.sentinels().node(old).role().await;
    let after = last_ids(system.sentinels().node(old)).await;
    if before != after || role.as_deref() != Some("master") {
        let text = format!("the old primary, as {role:?}, went from {before:?} to {after:?}");
        system.violated(Invariant::NothingLost, text);
    }
    system.sentinels().name_primary(new).await;
    let port = system.sentinels().node(new).port().to_string();
    system.sentinels().node(old).run(&["REPLICAOF", "127.0.0.1", &port]).await;
    clients.acknowledge(50).await;
    let needs =
        [(Effect::Acknowledged, 150), (Effect::Unknown, 30), (Effect::Killed, 1), (Effect::Promoted, 1)];
    system.finish(clients, &needs).await
}

/// Kills the primary and promotes the only replica, which is paused, with what it has on its disk: what was
/// sent to it meanwhile is lost with its process.
async fn fail_over_to_the_past(system: &mut System) {
    let (old, new) = (0, 1);
    system.kill_redis(old).await;
    system.restart_as_replica(new, old).await;
    system.promoted_in_place_of(old).await;
    system.restart_as_replica(old, new).await;
}

/// Waits until so many more requests have ended, acknowledged or not.
async fn ended(system: &System, clients: &Clients, more: u64) {
    let goal = system.unanswered() + clients.acknowledged() + more;
    eventually(FAILOVER, "more requests to end", async || {
        system.unanswered() + clients.acknowledged() >= goal
    })
    .await;
}

async fn replica_behind_confirming(drill: Drill) -> Verdict {
    let mut system = System::start(drill, replicated(RedisLayout::Sentinel { replicas: 1 })).await;
    system.expect_rebuild();
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    system.servers.node_mut(1).pause();
    // Stored without a confirmation, and then left in the stream.
    ended(&system, &clients, 20).await;
    system.pause_workers();
    ended(&system, &clients, 40).await;
    fail_over_to_the_past(&mut system).await;
    system.resume_workers();
    clients.acknowledge(50).await;
    let needs = [(Effect::Acknowledged, 100), (Effect::Killed, 1), (Effect::Promoted, 1)];
    system.finish(clients, &needs).await
}

async fn replica_behind_naming(drill: Drill) -> Verdict {
    let mut system = System::start(drill, strict(1)).await;
    system.expect_rebuild();
    // No event in two batches, so that a lost batch is a lost event.
    let load = Load { copy_one_in: u32::MAX, ..Load::default() };
    let clients = system.load(load);
    clients.acknowledge(50).await;
    system.servers.node_mut(1).pause();
    // Stored, but not on the replica.
    clients.acknowledge(30).await;
    system.pause_workers();
    clients.acknowledge(60).await;
    fail_over_to_the_past(&mut system).await;
    system.resume_workers();
    clients.acknowledge(50).await;
    system.heal().await;
    system.come_to_rest(clients).await;

    system.expect_what_the_audit_names().await;
    let clients = system.load(load);
    clients.acknowledge(20).await;
    let needs = [
        (Effect::Acknowledged, 200),
        (Effect::Killed, 1),
        (Effect::Promoted, 1),
        (Effect::Rebuilt, 1),
        (Effect::LostAndNamed, 60),
    ];
    system.finish(clients, &needs).await
}

impl System {
    /// Exactly the events that `millrace audit` names now are expected to be missing at the end. It must not
    /// hold then, and must say so.
    pub(super) async fn expect_what_the_audit_names(&mut self) {
        let audit = self.audit(&["--json"]).await;
        let report: serde_json::Value = serde_json::from_str(&audit.stdout).expect("--json prints JSON");
        let mut named: BTreeMap<i64, u64> = BTreeMap::new();
        for lost in report["lost"].as_array().into_iter().flatten() {
            let project = lost["project"].as_i64().expect("a project has a number");
            *named.entry(project).or_default() += lost["events"].as_u64().expect("a count of events");
        }
        let text = self.audit(&[]).await.stdout;
        let is_said = text.contains("missing") && text.contains("DOES NOT HOLD");
        if audit.code != Some(1) || report["holds"] != false || !is_said {
            self.violated(Invariant::NothingLost, format!("events are missing, and the audit says: {text}"));
        }
        self.note(Effect::LostAndNamed, named.values().sum());
        self.expect_losses(named);
    }
}
