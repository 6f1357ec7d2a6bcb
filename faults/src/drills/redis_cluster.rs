//! A Redis Cluster loses a master, moves a slot, or is divided.
//!
//! A drill must never attack a node without knowing that a shard with load is on it.

use std::sync::Arc;
use std::time::Duration;

use testkit::oracle::{Invariant, Load, Project};
use testkit::{ServerOptions, eventually};

use super::redis_ha::{FAILOVER, MIN_REPLICAS, last_id, replicated};
use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, MASTERS, RedisLayout, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "cluster master killed",
        target: "redis cluster",
        fault: "SIGKILL of the master of a shard under load; its replica is promoted",
        expected: "shards on other masters work; with DURABILITY=replicated nothing is lost, nothing twice",
        tier: Tier::Quick,
        run: |drill| Box::pin(master_killed(drill)),
    },
    Row {
        name: "cluster slot moved",
        target: "redis cluster",
        fault: "the slot of a shard moves to another master under load, and back",
        expected: "503 at most; the counters stay exact under the same epoch; nothing is lost, nothing twice",
        tier: Tier::Quick,
        run: |drill| Box::pin(slot_moved(drill)),
    },
    Row {
        name: "cluster master paused and replaced",
        target: "redis cluster",
        fault: "SIGSTOP of a master until its replica is promoted, then SIGCONT: it still believes that it is the master",
        expected: "what it executes late is confirmed by no replica, and not acknowledged; nothing is lost",
        tier: Tier::Nightly,
        run: |drill| Box::pin(master_paused(drill, Replica::Runs)),
    },
    Row {
        name: "cluster master paused without a replica",
        target: "redis cluster",
        fault: "SIGSTOP of a master whose replica is dead, for longer than the node timeout, then SIGCONT",
        expected: "shards on other masters work; the others wait for a replica; nothing is lost",
        tier: Tier::Nightly,
        run: |drill| Box::pin(master_paused(drill, Replica::Killed)),
    },
    Row {
        name: "cluster master cut off from the others",
        target: "redis cluster",
        fault: "the bus of a master is cut, which clients and its replica still reach and which believes that all is well; the others promote the replica",
        expected: "with DURABILITY=replicated it confirms nothing from then on; shards on other masters work; nothing is lost, nothing twice",
        tier: Tier::Quick,
        run: |drill| Box::pin(master_cut_off(drill, Confirmation::ByReplicas)),
    },
    Row {
        name: "cluster master cut off, strict",
        target: "redis cluster",
        fault: "the same with DURABILITY=strict and min-replicas-to-write 1; requests wait at the master while the replica is promoted",
        expected: "it refuses every write after that, because it has no replica; nothing is lost, nothing twice",
        tier: Tier::Nightly,
        run: |drill| Box::pin(master_cut_off(drill, Confirmation::ByMaster)),
    },
];

/// The project whose shard is attacked.
const VICTIM: &str = "alpha";
/// Longer than a drill, in milliseconds.
const NEVER_MS: &str = "600000";
/// Longer than the nodes wait before they give up another one.
const PAUSE: Duration = Duration::from_secs(5);

/// What becomes of the replica of a paused master.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Replica {
    Runs,
    Killed,
}

/// Who answers for a batch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Confirmation {
    ByReplicas,
    ByMaster,
}

fn cluster() -> Layout<'static> {
    Layout { shards: 4, ..replicated(RedisLayout::Cluster) }
}

impl System {
    /// Waits until clients of this project have so many more requests acknowledged.
    async fn project_acknowledges(&self, project: &str, more: u64) {
        let project = self.project(project);
        let goal = project.history.tally().acknowledged + more;
        eventually(FAILOVER, "more requests of a project to be acknowledged", async || {
            project.history.tally().acknowledged >= goal
        })
        .await;
    }

    async fn slot_of_victim(&self) -> u16 {
        self.cluster().slot_of(&Self::stream_key(self.shard_of(&self.project(VICTIM)))).await
    }

    /// The projects whose shards are on other masters than this one.
    async fn projects_elsewhere(&self, master: usize) -> Vec<Arc<Project>> {
        let mut elsewhere = Vec::new();
        for (project, _) in &self.projects {
            let key = Self::stream_key(self.shard_of(project));
            if self.cluster().master_of(&key).await != master {
                elsewhere.push(Arc::clone(project));
            }
        }
        elsewhere
    }

    /// Waits until a replica is promoted in place of this master, which does not answer.
    async fn replaced(&mut self, slot: u16, master: usize) {
        eventually(FAILOVER, "a replica to be promoted", async || {
            self.cluster().master_of_slot(slot).await != master
        })
        .await;
        self.note(Effect::Promoted, 1);
    }
}

fn acknowledged(projects: &[Arc<Project>]) -> u64 {
    projects.iter().map(|project| project.history.tally().acknowledged).sum()
}

async fn master_killed(drill: Drill) -> Verdict {
    let mut system = System::start(drill, cluster()).await;
    // What a worker has stored may be missing on the replica, if it was not acknowledged.
    system.expect_rebuild();
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    let slot = system.slot_of_victim().await;
    let master = system.cluster().master_of_slot(slot).await;
    let elsewhere = system.projects_elsewhere(master).await;
    system.kill_redis(master).await;
    let before = acknowledged(&elsewhere);
    system.replaced(slot, master).await;
    system.note(Effect::ServedMeanwhile, acknowledged(&elsewhere) - before);
    // The new master has no replica, which replicated mode demands.
    system.servers.node_mut(master).restart().await;
    system.project_acknowledges(VICTIM, 20).await;
    let needs = [
        (Effect::Acknowledged, 70),
        (Effect::Unknown, 1),
        (Effect::Killed, 1),
        (Effect::Promoted, 1),
        (Effect::ServedMeanwhile, 1),
    ];
    system.finish(clients, &needs).await
}

async fn slot_moved(drill: Drill) -> Verdict {
    let mut system = System::start(drill, cluster()).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    let slot = system.slot_of_victim().await;
    let first = system.cluster().master_of_slot(slot).await;
    let second = (first + 1) % MASTERS;
    for to in [second, first] {
        let moved = system.cluster().move_slot(slot, to).await;
        system.note(Effect::SlotMoved, u64::from(moved > 0));
        system.project_acknowledges(VICTIM, 20).await;
    }
    let needs = [(Effect::Acknowledged, 90), (Effect::SlotMoved, 2)];
    system.finish(clients, &needs).await
}

/// A master that does not answer believes afterwards that it still is one, until another node tells it.
async fn master_paused(drill: Drill, replica: Replica) -> Verdict {
    let mut system = System::start(drill, cluster()).await;
    system.expect_rebuild();
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    let slot = system.slot_of_victim().await;
    let master = system.cluster().master_of_slot(slot).await;
    let elsewhere = system.projects_elsewhere(master).await;
    if replica == Replica::Killed {
        let at = system.cluster().replica_of(master).await;
        system.kill_redis(at).await;
    }
    system.servers.node_mut(master).pause();
    let before = acknowledged(&elsewhere);
    match replica {
        Replica::Runs => system.replaced(slot, master).await,
        Replica::Killed => tokio::time::sleep(PAUSE).await,
    }
    system.note(Effect::ServedMeanwhile, acknowledged(&elsewhere) - before);
    system.servers.node_mut(master).resume();
    system.heal().await;
    system.project_acknowledges(VICTIM, 20).await;
    let mut needs = vec![(Effect::Acknowledged, 70), (Effect::Unknown, 1), (Effect::ServedMeanwhile, 1)];
    needs.push(match replica {
        Replica::Runs => (Effect::Promoted, 1),
        Replica::Killed => (Effect::Killed, 1),
    });
    system.finish(clients, &needs).await
}

/// Clients reach both the old master and its replica that was promoted. The old one does not learn of it, and
/// does not notice that it is alone.
async fn master_cut_off(drill: Drill, confirmation: Confirmation) -> Verdict {
    let divisible = RedisLayout::DivisibleCluster;
    let layout = match confirmation {
        Confirmation::ByReplicas => replicated(divisible),
        Confirmation::ByMaster => {
            let redis = ServerOptions { settings: MIN_REPLICAS, ..ServerOptions::default() };
            Layout { redis_layout: divisible, redis, workers: 1, ..Layout::default() }
        }
    };
    let mut system = System::start(drill, Layout { shards: 4, ..layout }).await;
    if confirmation == Confirmation::ByReplicas {
        system.expect_rebuild();
    }
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    let (shard, slot) = (system.shard_of(&system.project(VICTIM)), system.slot_of_victim().await);
    let master = system.cluster().master_of_slot(slot).await;
    let elsewhere = system.projects_elsewhere(master).await;
    system.cluster().node(master).run(&["CONFIG", "SET", "cluster-node-timeout", NEVER_MS]).await;
    system.cluster().cut_off(master);
    if confirmation == Confirmation::ByMaster {
        system.cluster().node(master).pause_writes(1).await;
    }
    let before = acknowledged(&elsewhere);
    system.replaced(slot, master).await;
    let last = last_id(system.cluster().node(master), shard).await;
    if confirmation == Confirmation::ByMaster {
        system.cluster().node(master).run(&["CLIENT", "UNPAUSE"]).await;
    }
    system.more_unanswered(10).await;
    system.note(Effect::ServedMeanwhile, acknowledged(&elsewhere) - before);
    let now = last_id(system.cluster().node(master), shard).await;
    if confirmation == Confirmation::ByMaster && now != last {
        system.violated(Invariant::NothingLost, format!("the old master went from {last} to {now}"));
    }
    if system.cluster().node(master).role().await.as_deref() != Some("master") {
        system.violated(Invariant::Bounded, "the old master has learned that it is none".to_owned());
    }
    system.heal().await;
    system.project_acknowledges(VICTIM, 20).await;
    let needs = [
        (Effect::Acknowledged, 70),
        (Effect::Unknown, 10),
        (Effect::Promoted, 1),
        (Effect::ServedMeanwhile, 1),
    ];
    system.finish(clients, &needs).await
}
