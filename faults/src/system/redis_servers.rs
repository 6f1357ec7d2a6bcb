//! The Redis of an installation: one server, a primary that Sentinels replace when it fails, or a cluster.
//!
//! This module must never decide which server is in charge of a shard: Sentinels and the cluster say it.

use std::path::PathBuf;

use redis::aio::MultiplexedConnection;
use testkit::{Redis, RedisCluster, Sentinels, ServerOptions};

use super::System;

/// The masters of a cluster have the numbers below this.
pub(crate) const MASTERS: usize = 3;

/// The servers of the stream.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum RedisLayout {
    #[default]
    Single,
    /// A primary with so many replicas, and three Sentinels.
    Sentinel { replicas: usize },
    /// Three masters with a replica each.
    Cluster,
    /// The same, and a node can be cut off from the others.
    DivisibleCluster,
}

/// The running servers of the stream.
#[derive(Debug)]
pub enum RedisServers {
    Single(Redis),
    Sentinel(Sentinels),
    Cluster(RedisCluster),
}

impl RedisServers {
    /// Starts the servers. Only a single one has all options; the others have its settings.
    pub(super) async fn start(layout: RedisLayout, options: ServerOptions<'_>) -> Self {
        match layout {
            RedisLayout::Single => Self::Single(Redis::start_options(options).await),
            RedisLayout::Sentinel { replicas } => {
                Self::Sentinel(Sentinels::start(replicas, options.settings).await)
            }
            RedisLayout::Cluster => Self::Cluster(RedisCluster::start(MASTERS, 1, options.settings).await),
            RedisLayout::DivisibleCluster => {
                Self::Cluster(RedisCluster::start_divisible(MASTERS, 1, options.settings).await)
            }
        }
    }

    /// The value of `REDIS_URL`.
    pub fn url(&self) -> String {
        match self {
            Self::Single(redis) => redis.url(),
            Self::Sentinel(sentinels) => sentinels.url(),
            Self::Cluster(cluster) => cluster.url(),
        }
    }

    /// Opens a connection to the server that is in charge of this shard now.
    ///
    /// # Panics
    /// When none is in charge for two minutes, or it does not accept the connection.
    pub async fn connect(&self, shard: u16) -> MultiplexedConnection {
        match self {
            Self::Single(redis) => redis.connect().await,
            Self::Sentinel(sentinels) => sentinels.node(sentinels.primary().await).connect().await,
            Self::Cluster(cluster) => {
                let master = cluster.master_of(&System::stream_key(shard)).await;
                cluster.node(master).connect().await
            }
        }
    }

    /// Continues paused servers and starts dead ones again, until all work together.
    pub(super) async fn heal(&mut self) {
        if let Self::Cluster(cluster) = self {
            cluster.reunite();
        }
        for at in 0..self.count() {
            let node = self.node_mut(at);
            node.resume();
            if !node.is_running() {
                node.restart().await;
            }
        }
        match self {
            Self::Single(_) => {}
            Self::Sentinel(sentinels) => sentinels.settled().await,
            Self::Cluster(cluster) => cluster.settled().await,
        }
    }

    /// The folders of all servers.
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        match self {
            Self::Single(redis) => vec![redis.folder()],
            Self::Sentinel(sentinels) => sentinels.nodes().iter().map(Redis::folder).collect(),
            Self::Cluster(cluster) => cluster.nodes().iter().map(Redis::folder).collect(),
        }
    }

    /// A server by its number. A single one has the number 0.
    pub fn node_mut(&mut self, at: usize) -> &mut Redis {
        match self {
            Self::Single(redis) => redis,
            Self::Sentinel(sentinels) => sentinels.node_mut(at),
            Self::Cluster(cluster) => cluster.node_mut(at),
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Single(_) => 1,
            Self::Sentinel(sentinels) => sentinels.nodes().len(),
            Self::Cluster(cluster) => cluster.nodes().len(),
        }
    }
}

impl System {
    /// The only Redis.
    ///
    /// # Panics
    /// When the layout is another one.
    pub fn redis(&self) -> &Redis {
        match &self.servers {
            RedisServers::Single(redis) => redis,
            _ => panic!("this layout has more than one Redis"),
        }
    }

    /// The only Redis, to kill, pause or restart it.
    ///
    /// # Panics
    /// When the layout is another one.
    pub fn redis_mut(&mut self) -> &mut Redis {
        match &mut self.servers {
            RedisServers::Single(redis) => redis,
            _ => panic!("this layout has more than one Redis"),
        }
    }

    /// # Panics
    /// When the layout has no Sentinels.
    pub fn sentinels(&self) -> &Sentinels {
        match &self.servers {
            RedisServers::Sentinel(sentinels) => sentinels,
            _ => panic!("this layout has no Sentinels"),
        }
    }

    /// # Panics
    /// When the layout has no cluster.
    pub fn cluster(&self) -> &RedisCluster {
        match &self.servers {
            RedisServers::Cluster(cluster) => cluster,
            _ => panic!("this layout has no cluster"),
        }
    }
}
