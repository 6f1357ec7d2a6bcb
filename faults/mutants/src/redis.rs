//! Commands to Redis that a bug sends past the stream. The keys are those of
//! `shared/stream/src/redis/keys.rs`, and the strings of markers those of `marker.rs` next to it.

use ::redis::aio::MultiplexedConnection;
use ::redis::{Client, Cmd, RedisResult, Value};
use millrace_event::{BatchGroup, BatchId};
use tokio::sync::Mutex;

const GROUP: &str = "workers";
/// Entries that a trimmed stream keeps.
const ENTRIES_MAX: usize = 50;

/// Places of a group that share a string of markers.
const PLACES: usize = 64;
const HEADER_BYTES: usize = 4;
const RECORD_BYTES: usize = 35;

/// A connection of its own.
pub struct Redis {
    client: Client,
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Redis {
    pub fn new(url: &str) -> RedisResult<Self> {
        Ok(Self { client: Client::open(url)?, connection: Mutex::default() })
    }

    pub async fn create_group_at_the_end(&self, shard: u16) {
        let mut command = ::redis::cmd("XGROUP");
        command.arg("CREATE").arg(events(shard)).arg(GROUP).arg("$").arg("MKSTREAM");
        self.send(&command).await;
    }

    pub async fn delete_consumer(&self, shard: u16, consumer: &str) {
        let mut command = ::redis::cmd("XGROUP");
        command.arg("DELCONSUMER").arg(events(shard)).arg(GROUP).arg(consumer);
        self.send(&command).await;
    }

    pub async fn trim(&self, shard: u16) {
        let mut command = ::redis::cmd("XTRIM");
        command.arg(events(shard)).arg("MAXLEN").arg(ENTRIES_MAX);
        self.send(&command).await;
    }

    /// Deletes the marker of a batch.
    pub async fn forget_batch(&self, shard: u16, batch: BatchId) {
        match BatchGroup::of(batch) {
            None => self.send(::redis::cmd("DEL").arg(format!("{{s{shard}}}:batch:{batch}"))).await,
            Some(group) => {
                let place = usize::from(group.place - 1) % PLACES;
                let mut command = ::redis::cmd("SETRANGE");
                command.arg(markers(shard, group)).arg(HEADER_BYTES + place * RECORD_BYTES);
                self.send(command.arg(&[0_u8; RECORD_BYTES][..])).await;
            }
        }
    }

    /// Deletes the markers of all batches that share a string with this one.
    pub async fn forget_group(&self, shard: u16, batch: BatchId) {
        if let Some(group) = BatchGroup::of(batch) {
            self.send(::redis::cmd("DEL").arg(markers(shard, group))).await;
        }
    }

    /// An error is logged and changes nothing else: a drill may have stopped Redis, or the group may exist.
    async fn send(&self, command: &Cmd) {
        let mut connection = self.connection.lock().await;
        let sent = match connection.take() {
            Some(open) => self.send_on(open, command).await,
            None => match self.client.get_multiplexed_async_connection().await {
                Ok(open) => self.send_on(open, command).await,
                Err(error) => Err(error),
            },
        };
        match sent {
            Ok(open) => *connection = Some(open),
            Err(error) => tracing::debug!(%error, "a command of the mutant failed"),
        }
    }

    /// Returns the connection while it can be used again.
    async fn send_on(
        &self,
        mut open: MultiplexedConnection,
        command: &Cmd,
    ) -> RedisResult<MultiplexedConnection> {
        match command.query_async::<Value>(&mut open).await {
            Err(error) if error.is_unrecoverable_error() => Err(error),
            _ => Ok(open),
        }
    }
}

fn markers(shard: u16, group: BatchGroup) -> String {
    format!("{{s{shard}}}:batch:{}:{}", group.id, usize::from(group.place - 1) / PLACES)
}

fn events(shard: u16) -> String {
    format!("{{s{shard}}}:events")
}
