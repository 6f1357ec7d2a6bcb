//! One answer to "where is the primary of this shard", for every discovery.

use std::sync::Arc;
use std::time::Instant;

use redis::ConnectionInfo;
use tokio::sync::{mpsc, oneshot, watch};

use super::lookup::{Found, Lookup, Request};
use crate::redis::address::Discovery;
use crate::redis::source::RedisSource;

/// Requests that wait for the next lookup, at most. More wait for room.
const REQUESTS_MAX: usize = 64;

pub(in crate::redis) struct Locator {
    discovery: Discovery,
    kind: Kind,
}

enum Kind {
    Fixed(RedisSource),
    LookedUp { requests: mpsc::Sender<Request>, published: watch::Sender<Option<Arc<Found>>> },
}

impl Locator {
    /// Starts the lookups, for an address that needs them. They end when this is dropped.
    ///
    /// # Errors
    /// When the source cannot be read, or the address is invalid.
    pub(in crate::redis) fn start(source: RedisSource, shards: u16) -> Result<Self, String> {
        let discovery = source.read()?.discovery;
        let kind = match &discovery {
            Discovery::Fixed => Kind::Fixed(source),
            Discovery::Sentinel { .. } | Discovery::Cluster => {
                let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
                let published = watch::Sender::new(None);
                tokio::spawn(Lookup::new(source, shards).run(inbox, published.clone()));
                Kind::LookedUp { requests, published }
            }
        };
        Ok(Self { discovery, kind })
    }

    pub(in crate::redis) fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// How to connect to the primary of the shard now.
    ///
    /// # Errors
    /// Why that is not known, in words.
    pub(in crate::redis) async fn primary(&self, shard: u16) -> Result<ConnectionInfo, String> {
        match &self.kind {
            Kind::Fixed(source) => {
                let address = source.read().map_err(|reason| format!("REDIS_URL: {reason}"))?;
                match address.discovery {
                    Discovery::Fixed => Ok(address.fixed().clone()),
                    _ => Err("REDIS_URL leads to several servers now: restart this program".to_owned()),
                }
            }
            Kind::LookedUp { requests, .. } => {
                let (request, found) = oneshot::channel();
                let closed = || "the stream is closing".to_owned();
                requests.send(request).await.map_err(|_| closed())?;
                found.await.map_err(|_| closed())?.primary(shard).clone()
            }
        }
    }

    /// Returns when the primary of the shard is at another place than this one, with a time before which it
    /// was. Never returns for a fixed address, whose server is noticed by what it answers.
    pub(in crate::redis) async fn left(&self, shard: u16, place: &ConnectionInfo) -> Instant {
        let Kind::LookedUp { published, .. } = &self.kind else { return std::future::pending().await };
        let mut published = published.subscribe();
        let elsewhere =
            |found: &Option<Arc<Found>>| found.as_ref().is_some_and(|found| found.leaves(shard, place));
        let found = published.wait_for(elsewhere).await.ok().and_then(|found| Some(found.as_ref()?.found_at));
        match found {
            Some(found_at) => found_at,
            // The sender lives as long as self.
            None => std::future::pending().await,
        }
    }

    /// Whether the last lookup found the primary of the shard elsewhere.
    pub(in crate::redis) fn has_left(&self, shard: u16, place: &ConnectionInfo) -> bool {
        match &self.kind {
            Kind::Fixed(_) => false,
            Kind::LookedUp { published, .. } => {
                published.borrow().as_ref().is_some_and(|found| found.leaves(shard, place))
            }
        }
    }
}

impl Found {
    fn primary(&self, shard: u16) -> &Result<ConnectionInfo, String> {
        &self.primaries[usize::from(shard)]
    }

    /// A lookup that failed says nothing about the place.
    fn leaves(&self, shard: u16, place: &ConnectionInfo) -> bool {
        self.primary(shard).as_ref().is_ok_and(|now| now.addr() != place.addr())
    }
}
