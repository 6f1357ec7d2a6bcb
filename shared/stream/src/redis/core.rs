//! The state that all calls share: the links to the primaries, keys, and the epochs that this process trusts.

use std::sync::Arc;

use super::address::Discovery;
use super::keys::ShardKeys;
use super::link::Link;
use super::location::Locator;
use super::options::RedisOptions;
use super::pool;
use super::route::{ConnectedLinks, Route};
use super::scripts::Scripts;
use super::shard_queue::ShardQueue;
use super::shard_witness::{LinkWitness, ShardWitnesses};
use crate::{Durability, Epoch, StreamError, metrics};

pub(super) struct Core {
    pub(super) shard_count: u16,
    /// What an acknowledgement must promise.
    pub(super) durability: Durability,
    /// Whether Sentinels may put a replica in the place of the server.
    pub(super) is_behind_sentinel: bool,
    pub(super) scripts: Arc<Scripts>,
    /// Events that may wait in one shard.
    pub(super) backlog_events_max: u64,
    /// Of each shard, the requests of all threads that wait for admission.
    pub(super) queues: Vec<Arc<ShardQueue>>,
    /// One for all shards, or one for each.
    links: Arc<[Link]>,
    keys: Vec<ShardKeys>,
    /// The trusted epochs, and the batches that this process acknowledged.
    pub(super) witnesses: Arc<ShardWitnesses>,
}

impl Core {
    /// Starts to connect in the background.
    pub(super) fn start(options: RedisOptions) -> Result<Self, StreamError> {
        let RedisOptions { source, durability, shards, backlog_events_max, connections } = options;
        let shard_count = shards.max(1);
        let locator = Locator::start(source, shard_count)
            .map_err(|reason| StreamError::Refused(format!("REDIS_URL: {reason}")))?;
        let locator = Arc::new(locator);
        let is_behind_sentinel = matches!(locator.discovery(), Discovery::Sentinel { .. });
        let link_count = if *locator.discovery() == Discovery::Cluster { shard_count } else { 1 };
        let shards_of_link = shard_count / link_count;
        let connected = Arc::new(ConnectedLinks::new(link_count));
        let witnesses = Arc::new(ShardWitnesses::new(shard_count));
        let link = |shard| {
            let witness = LinkWitness::new(&witnesses, shard..shard + shards_of_link);
            Link::start(Route::new(&locator, &connected, shard), connections, witness)
        };
        let links: Arc<[Link]> = (0..link_count).map(link).collect();
        observe_pools(&links);
        let scripts = Arc::new(Scripts::new());
        metrics::BACKLOG_EVENTS_MAX.set(backlog_events_max.saturating_mul(shard_count.into()) as f64);
        Ok(Self {
            shard_count,
            backlog_events_max,
            queues: (0..shard_count).map(|_| Arc::default()).collect(),
            durability,
            is_behind_sentinel,
            scripts,
            links,
            keys: (0..shard_count).map(ShardKeys::new).collect(),
            witnesses,
        })
    }

    /// How many replicas must have a batch before it is acknowledged.
    pub(super) fn replicas(&self) -> Option<u32> {
        replicas_of(self.durability)
    }

    pub(super) fn keys(&self, shard: u16) -> Result<&ShardKeys, StreamError> {
        self.keys.get(usize::from(shard)).ok_or_else(|| {
            StreamError::Refused(format!("there is no shard {shard}: this stream has {}", self.shard_count))
        })
    }

    /// What leads to the primary of the shard.
    pub(super) fn link(&self, shard: u16) -> &Link {
        link_of(&self.links, shard)
    }

    /// A text about the server of a shard; names the shard when there are several servers.
    pub(super) fn name(&self, shard: u16, text: &str) -> String {
        if self.links.len() == 1 { text.to_owned() } else { format!("shard {shard}: {text}") }
    }

    /// As [`Core::name`], for the reason of an error.
    pub(super) fn named(&self, shard: u16, mut error: StreamError) -> StreamError {
        if let Some(reason) = error.reason_mut() {
            *reason = self.name(shard, reason);
        }
        error
    }

    pub(super) fn trusted_epoch(&self, shard: u16) -> Option<Arc<String>> {
        self.witnesses.shard(shard)?.trusted()
    }

    /// Also while the shard is withdrawn.
    pub(super) fn trusted_last(&self, shard: u16) -> Option<Epoch> {
        self.witnesses.shard(shard)?.trusted_last()
    }

    pub(super) fn trust_epoch(&self, shard: u16, epoch: Epoch) {
        if let Some(known) = self.witnesses.shard(shard) {
            known.trust(epoch);
        }
    }
}

/// Of several links, each leads to one shard.
fn link_of(links: &[Link], shard: u16) -> &Link {
    match links {
        [only] => only,
        several => &several[usize::from(shard)],
    }
}

/// Records the use of the pools for as long as the links live.
fn observe_pools(links: &Arc<[Link]>) {
    let links = Arc::downgrade(links);
    pool::observe(move || Some(links.upgrade()?.iter().map(Link::pool).collect()));
}

fn replicas_of(durability: Durability) -> Option<u32> {
    match durability {
        Durability::Replicated { replicas } => Some(replicas),
        Durability::Strict | Durability::Relaxed => None,
    }
}
