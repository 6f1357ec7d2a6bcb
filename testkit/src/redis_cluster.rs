//! A real Redis Cluster: masters that share the slots evenly, and their replicas.

use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use redis::Value;

use crate::authority::Certificate;
use crate::cluster_bus::ClusterBus;
use crate::eventually::eventually;
use crate::redis::{Redis, query};

const SLOTS: usize = 16_384;
/// How long a node may be silent before the others promote its replica, in milliseconds.
const NODE_TIMEOUT_MS: &str = "1500";
const DEADLINE: Duration = Duration::from_secs(120);
/// Longer than a server tries to hand over: asking it earlier would start over.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(6);
/// Keys that one MIGRATE moves.
const MIGRATED_KEYS: usize = 100;

/// Settings of every node. Without full coverage, the loss of one node leaves the slots of the others
/// served.
const SETTINGS: &[(&str, &str)] = &[
    ("cluster-enabled", "yes"),
    ("cluster-node-timeout", NODE_TIMEOUT_MS),
    ("cluster-require-full-coverage", "no"),
    ("cluster-replica-validity-factor", "0"),
    ("repl-diskless-sync-delay", "0"),
];

/// A cluster. Its nodes have numbers: first the masters, then the first replica of each, and so on. After a
/// failover they keep their numbers. Dropping it kills every node.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
    /// Of a cluster whose nodes can be cut off.
    bus: Option<ClusterBus>,
}

/// What a node says of itself.
struct Myself {
    id: String,
    is_master: bool,
    config_epoch: u64,
    /// Ranges of slots.
    slots: Vec<(u16, u16)>,
}

impl RedisCluster {
    /// Starts this many masters with this many replicas each, and waits until all of them are ready.
    /// `settings` are added to those of every node.
    ///
    /// # Panics
    /// When a server cannot be started or the cluster does not form.
    pub async fn start(masters: usize, replicas: usize, settings: &[(&str, &str)]) -> Self {
        let settings = [SETTINGS, settings].concat();
        let starting = (0..masters * (1 + replicas)).map(|_| Redis::start_cluster_node(&settings));
        let cluster = Self { nodes: join_all(starting).await, bus: None };
        cluster.form(masters).await;
        cluster
    }

    /// As [`RedisCluster::start`], with a proxy between the nodes: one can be cut off from the others.
    ///
    /// # Panics
    /// See [`RedisCluster::start`].
    pub async fn start_divisible(masters: usize, replicas: usize, settings: &[(&str, &str)]) -> Self {
        let count = masters * (1 + replicas);
        let mut bus = ClusterBus::open(count).await;
        let own: Vec<_> = (0..count).map(|node| bus.settings(node)).collect();
        let starting = own.iter().map(|own| async {
            let own = own.each_ref().map(|(name, value)| (*name, value.as_str()));
            Redis::start_cluster_node(&[SETTINGS, &own, settings].concat()).await
        });
        let nodes = join_all(starting).await;
        let ports: Vec<_> = nodes.iter().filter_map(Redis::cluster_port).collect();
        bus.serve(&ports);
        let cluster = Self { nodes, bus: Some(bus) };
        cluster.form(masters).await;
        cluster
    }

    /// As [`RedisCluster::start`], with TLS between the nodes and for clients: with this certificate, which
    /// `ca` has signed.
    ///
    /// # Panics
    /// See [`RedisCluster::start`].
    pub async fn start_secured(
        masters: usize,
        replicas: usize,
        certificate: &Certificate,
        ca: &Path,
    ) -> Self {
        let starting = (0..masters * (1 + replicas)).map(|_| async {
            let own = Redis::secured(certificate, ca);
            let own: Vec<_> = own.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            Redis::start_cluster_node(&[SETTINGS, &own].concat()).await
        });
        let cluster = Self { nodes: join_all(starting).await, bus: None };
        cluster.form(masters).await;
        cluster
    }

    /// Makes one cluster of the nodes, the first of which are the masters.
    async fn form(&self, masters: usize) {
        for (at, node) in self.nodes.iter().enumerate() {
            // Different from the start, so that no two nodes have to agree on who gives way.
            node.run(&["CLUSTER", "SET-CONFIG-EPOCH", &(at + 1).to_string()]).await;
            if at < masters {
                let [first, next] = [at, at + 1].map(|part| part * SLOTS / masters);
                let range = [first.to_string(), (next - 1).to_string()];
                node.run(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]]).await;
            }
            let bus = self.bus.as_ref().map(|bus| bus.port(at)).or(node.cluster_port());
            if let Some(bus) = bus.filter(|_| at > 0) {
                let [port, bus] = [node.peer_port(), bus].map(|port| port.to_string());
                self.nodes[0].run(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
            }
        }
        let known = format!("cluster_known_nodes:{}", self.nodes.len());
        self.every_node_says(&["CLUSTER", "INFO"], &known).await;
        for (at, node) in self.nodes.iter().enumerate().skip(masters) {
            let master = self.myself(at % masters).await.expect("a new node answers").id;
            node.run(&["CLUSTER", "REPLICATE", &master]).await;
        }
        self.settled().await;
    }

    /// From now on this node and the others cannot reach each other, and cannot agree on anything. Clients
    /// reach all of them, and replication continues.
    ///
    /// # Panics
    /// When the cluster was not started divisible.
    pub fn cut_off(&self, node: usize) {
        self.bus.as_ref().expect("the cluster was started divisible").cut_off(node);
    }

    /// All nodes can reach each other again.
    pub fn reunite(&self) {
        if let Some(bus) = &self.bus {
            bus.heal();
        }
    }

    /// `redis+cluster://` with all nodes; `rediss+cluster://` when they have TLS.
    pub fn url(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.peer_port())).collect();
        let scheme = if self.nodes[0].tls_port().is_some() { "rediss" } else { "redis" };
        format!("{scheme}+cluster://{}", nodes.join(","))
    }

    pub fn node(&self, at: usize) -> &Redis {
        &self.nodes[at]
    }

    /// To kill, pause, resume or restart it. It keeps its part in the cluster in its own files.
    pub fn node_mut(&mut self, at: usize) -> &mut Redis {
        &mut self.nodes[at]
    }

    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// Waits until every node that answers serves the cluster and, if it is a replica, has its master's data.
    ///
    /// # Panics
    /// When that takes more than two minutes.
    pub async fn settled(&self) {
        self.every_node_says(&["CLUSTER", "INFO"], "cluster_state:ok").await;
        self.every_node_says(&["INFO", "replication"], "").await;
    }

    /// The slot of this key.
    ///
    /// # Panics
    /// When no node answers.
    pub async fn slot_of(&self, key: &str) -> u16 {
        for node in &self.nodes {
            if let Ok(Value::Int(slot)) = query(node.port(), &["CLUSTER", "KEYSLOT", key]).await {
                return u16::try_from(slot).expect("a slot is below 16384");
            }
        }
        panic!("no node of the cluster answers");
    }

    /// The node that is the master of this slot, as far as those that answer know.
    ///
    /// # Panics
    /// When there is none for two minutes.
    pub async fn master_of_slot(&self, slot: u16) -> usize {
        eventually(DEADLINE, &format!("a master of slot {slot}"), async || {
            let claims = join_all((0..self.nodes.len()).map(|at| self.myself(at))).await;
            let claims = claims.into_iter().enumerate().filter_map(|(at, myself)| Some((at, myself?)));
            let claims = claims.filter(|(_, myself)| myself.is_master && myself.has(slot));
            claims.max_by_key(|(_, myself)| myself.config_epoch).map(|(at, _)| at)
        })
        .await
    }

    /// The node that is the master of this key.
    ///
    /// # Panics
    /// See [`RedisCluster::master_of_slot`].
    pub async fn master_of(&self, key: &str) -> usize {
        self.master_of_slot(self.slot_of(key).await).await
    }

    /// A replica of this master that answers.
    ///
    /// # Panics
    /// When there is none for two minutes.
    pub async fn replica_of(&self, master: usize) -> usize {
        let port = format!("master_port:{}", self.nodes[master].port());
        eventually(DEADLINE, &format!("a replica of node {master}"), async || {
            let infos = join_all(self.nodes.iter().map(|node| query(node.port(), &["INFO", "replication"])));
            infos.await.iter().position(|info| info.as_ref().is_ok_and(|info| lines(info).contains(&port)))
        })
        .await
    }

    /// Makes this replica the master in place of its master, which works along (`CLUSTER FAILOVER`). Returns once
    /// it says so itself. On a busy machine a server gives up after five seconds, and is asked again.
    ///
    /// # Panics
    /// When the replica refuses.
    pub async fn hand_over_to(&self, replica: usize) {
        let mut asked: Option<Instant> = None;
        eventually(DEADLINE, &format!("node {replica} to be a master"), async || {
            if self.myself(replica).await.is_some_and(|myself| myself.is_master) {
                return true;
            }
            if asked.is_none_or(|asked| asked.elapsed() > HAND_OVER_TIMEOUT) {
                self.nodes[replica].run(&["CLUSTER", "FAILOVER"]).await;
                asked = Some(Instant::now());
            }
            false
        })
        .await;
    }

    /// Begins to move a slot to another node: both know of it, and no key was moved.
    ///
    /// # Panics
    /// When a node refuses.
    pub async fn begin_move(&self, slot: u16, to: usize) {
        let from = self.master_of_slot(slot).await;
        let [source, target] = [self.id(from).await, self.id(to).await];
        let slot = slot.to_string();
        self.nodes[to].run(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]).await;
        self.nodes[from].run(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]).await;
    }

    /// Moves the keys of a slot whose move has begun, and then the slot. Returns the number of keys.
    ///
    /// # Panics
    /// When a node refuses.
    pub async fn finish_move(&self, slot: u16, to: usize) -> usize {
        let from = self.master_of_slot(slot).await;
        let (slot, count) = (slot.to_string(), MIGRATED_KEYS.to_string());
        let port = self.nodes[to].port().to_string();
        let mut moved = 0;
        loop {
            let mut ask = redis::cmd("CLUSTER");
            ask.arg("GETKEYSINSLOT").arg(&slot).arg(&count);
            let keys = ask.query_async::<Vec<String>>(&mut self.nodes[from].connect().await).await;
            let keys = keys.expect("a master lists its keys");
            if keys.is_empty() {
                break;
            }
            moved += keys.len();
            let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            migrate.extend(keys.iter().map(String::as_str));
            self.nodes[from].run(&migrate).await;
        }
        let target = self.id(to).await;
        // The new master first: between the two, both must lead to it.
        for at in [to, from] {
            self.nodes[at].run(&["CLUSTER", "SETSLOT", &slot, "NODE", &target]).await;
        }
        moved
    }

    /// Moves a slot with its keys. Returns the number of keys.
    ///
    /// # Panics
    /// When a node refuses.
    pub async fn move_slot(&self, slot: u16, to: usize) -> usize {
        self.begin_move(slot, to).await;
        self.finish_move(slot, to).await
    }

    async fn id(&self, at: usize) -> String {
        eventually(DEADLINE, "a node to say who it is", async || self.myself(at).await).await.id
    }

    /// `None` when the node does not answer.
    async fn myself(&self, at: usize) -> Option<Myself> {
        let nodes = query(self.nodes[at].port(), &["CLUSTER", "NODES"]).await.ok()?;
        lines(&nodes).iter().find_map(|line| Myself::read(line))
    }

    /// Waits until every node that answers has this line in its answer, and no replica waits for its master.
    async fn every_node_says(&self, words: &[&str], line: &str) {
        eventually(DEADLINE, &format!("{line:?} of every node"), async || {
            for node in &self.nodes {
                let Ok(answer) = query(node.port(), words).await else { continue };
                let answer = lines(&answer);
                let has_line = line.is_empty() || answer.iter().any(|answered| answered == line);
                if !has_line || answer.iter().any(|answered| answered == "master_link_status:down") {
                    return Err(answer.join(" "));
                }
            }
            Ok(())
        })
        .await;
    }
}

impl Myself {
    /// `ID ADDRESS FLAGS MASTER PING PONG EPOCH LINK SLOTS…`
    fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let flags: Vec<&str> = words.get(2)?.split(',').collect();
        if !flags.contains(&"myself") {
            return None;
        }
        // A slot that moves is in brackets.
        let slots = words.get(8..)?.iter().filter(|range| !range.starts_with('['));
        let slots = slots.filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some((first.parse().ok()?, last.parse().ok()?))
        });
        Some(Self {
            id: words[0].to_owned(),
            is_master: flags.contains(&"master"),
            config_epoch: words.get(6)?.parse().ok()?,
            slots: slots.collect(),
        })
    }

    fn has(&self, slot: u16) -> bool {
        self.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    }
}

fn lines(answer: &Value) -> Vec<String> {
    let text = match answer {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::VerbatimString { text, .. } | Value::SimpleString(text) => text.clone(),
        _ => String::new(),
    };
    text.lines().map(|line| line.trim().to_owned()).collect()
}
