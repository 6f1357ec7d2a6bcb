//! The settings of the stream on Redis.

use super::source::RedisSource;
use crate::Durability;

/// Settings of a [`super::RedisStream`].
#[derive(Clone, Debug)]
pub struct RedisOptions {
    pub source: RedisSource,
    /// What an acknowledgement must promise.
    pub durability: Durability,
    /// Shards that the projects are spread over; at least 1. Fixed for the life of an installation.
    pub shards: u16,
    /// Events that may wait in one shard.
    pub backlog_events_max: u64,
    /// Shared connections for everything but admissions and blocking reads; at least 1. Each runtime that
    /// admits batches has one more for each shard.
    pub connections: usize,
}

impl RedisOptions {
    /// One shard, strict, with the defaults of the programs.
    pub fn new(source: impl Into<RedisSource>) -> Self {
        Self {
            source: source.into(),
            durability: Durability::Strict,
            shards: 1,
            backlog_events_max: 10_000_000,
            connections: 2,
        }
    }
}
