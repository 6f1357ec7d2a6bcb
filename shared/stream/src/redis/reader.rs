//! One lane's view of one shard. Each reader has its own connection, because a blocking read on a shared one
//! would block all other calls.

use std::time::Duration;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, RedisError, Value};

use super::connection::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT};
use super::core::Core;
use super::error::{classify, unreachable};
use super::keys::GROUP;
use super::reply::{self, StreamEntry};
use super::retire::retire_command;
use crate::metrics::{counted, taken_over};
use crate::{Delivery, EntryId, Reader, StreamError, TakeOver};

/// The longest wait in one read, so that a half-open socket is noticed.
const BLOCK_MAX: Duration = Duration::from_secs(5);

pub(super) struct RedisReader {
    connection: MultiplexedConnection,
    events: String,
    consumer: String,
}

impl RedisReader {
    pub(super) async fn open(core: &Core, shard: u16, consumer: &str) -> Result<Self, StreamError> {
        let events = core.keys(shard)?.events.clone();
        core.connections.check_circuit().map_err(counted)?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        let connection = core
            .single()
            .map_err(counted)?
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| counted(unreachable(&error)))?;
        Ok(Self { connection, events, consumer: consumer.to_owned() })
    }

    async fn send(&mut self, command: &Cmd) -> Result<Value, StreamError> {
        self.send_waiting(command, Duration::ZERO).await
    }

    /// Sends a command that may block on the server for `wait`. A missing group is created from the beginning
    /// of the stream: from its end, it would skip batches that were admitted before.
    async fn send_waiting(&mut self, command: &Cmd, wait: Duration) -> Result<Value, StreamError> {
        self.connection.set_response_timeout(RESPONSE_TIMEOUT.max(wait + BLOCK_MAX));
        match command.query_async(&mut self.connection).await {
            Ok(value) => Ok(value),
            Err(error) if is_no_group(&error) => {
                let stream = &self.events;
                tracing::info!(
                    stream,
                    group = GROUP,
                    "the stream has no group: creating it from the beginning"
                );
                let mut create = redis::cmd("XGROUP");
                create.arg("CREATE").arg(&self.events).arg(GROUP).arg("0").arg("MKSTREAM");
                match create.query_async::<Value>(&mut self.connection).await {
                    Err(error) if error.code() != Some("BUSYGROUP") => Err(counted(classify(&error))),
                    _ => command
                        .query_async(&mut self.connection)
                        .await
                        .map_err(|error| counted(classify(&error))),
                }
            }
            Err(error) => Err(counted(classify(&error))),
        }
    }

    fn read_command(&self, entries_max: usize, block: Option<Duration>, from: &str) -> Cmd {
        let mut command = redis::cmd("XREADGROUP");
        command.arg("GROUP").arg(GROUP).arg(&self.consumer).arg("COUNT").arg(entries_max.max(1));
        if let Some(block) = block {
            command.arg("BLOCK").arg(u64::try_from(block.as_millis()).unwrap_or(u64::MAX).max(1));
        }
        command.arg("STREAMS").arg(&self.events).arg(from);
        command
    }

    /// How often each of these entries was delivered. All of them are pending for this consumer.
    async fn delivery_counts(&mut self, ids: &[EntryId]) -> Result<Vec<u32>, StreamError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for id in ids {
            let id = id.to_string();
            pipeline.cmd("XPENDING").arg(&self.events).arg(GROUP).arg(&id).arg(&id).arg(1);
        }
        self.connection.set_response_timeout(RESPONSE_TIMEOUT);
        let rows: Vec<Value> =
            pipeline.query_async(&mut self.connection).await.map_err(|error| counted(classify(&error)))?;
        rows.into_iter()
            .map(|row| match reply::array(row)?.pop() {
                Some(row) => {
                    let [_id, _consumer, _idle, delivered] = reply::tuple(row)?;
                    reply::small(delivered)
                }
                None => Ok(1),
            })
            .collect()
    }

    async fn with_counts(&mut self, entries: Vec<StreamEntry>) -> Result<TakeOver, StreamError> {
        let ids: Vec<EntryId> =
            entries.iter().filter(|entry| entry.fields.is_some()).map(|entry| entry.id).collect();
        let mut counts = self.delivery_counts(&ids).await?.into_iter();
        let mut found = TakeOver::default();
        for entry in entries {
            match entry.fields {
                Some(fields) => {
                    found.deliveries.push(reply::delivery(entry.id, &fields, counts.next().unwrap_or(1)));
                }
                None => found.vanished.push(entry.id),
            }
        }
        Ok(found)
    }
}

fn is_no_group(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Extension && error.code() == Some("NOGROUP")
}

/// The entries in a reply to XREADGROUP on one stream.
fn parse_entries(reply: Value) -> Result<Vec<StreamEntry>, StreamError> {
    let Some(stream) = reply::array(reply)?.pop() else {
        return Ok(Vec::new());
    };
    let [_key, entries] = reply::tuple(stream)?;
    reply::array(entries)?.into_iter().map(reply::entry).collect()
}

#[async_trait]
impl Reader for RedisReader {
    async fn next(&mut self, entries_max: usize, wait: Duration) -> Result<Vec<Delivery>, StreamError> {
        let block = (wait >= Duration::from_millis(1)).then(|| wait.min(BLOCK_MAX));
        let command = self.read_command(entries_max, block, ">");
        let entries = parse_entries(self.send_waiting(&command, block.unwrap_or_default()).await?)?;
        Ok(entries
            .into_iter()
            .map(|entry| reply::delivery(entry.id, &entry.fields.unwrap_or_default(), 1))
            .collect())
    }

    async fn own_pending(
        &mut self,
        after: EntryId,
        entries_max: usize,
    ) -> Result<Vec<Delivery>, StreamError> {
        let mut after = after;
        loop {
            let command = self.read_command(entries_max, None, &after.to_string());
            let entries = parse_entries(self.send(&command).await?)?;
            let Some(last) = entries.last().map(|entry| entry.id) else {
                return Ok(Vec::new());
            };
            let found = self.with_counts(entries).await?;
            if !found.vanished.is_empty() {
                // They can never be settled, and would be in every later answer.
                let mut acknowledge = redis::cmd("XACK");
                acknowledge.arg(&self.events).arg(GROUP);
                for id in &found.vanished {
                    acknowledge.arg(id.to_string());
                }
                self.send(&acknowledge).await?;
                taken_over(0, found.vanished.len());
                tracing::error!(entries = ?found.vanished, "pending entries were deleted before they were settled");
            }
            if !found.deliveries.is_empty() {
                return Ok(found.deliveries);
            }
            after = last;
        }
    }

    async fn take_over(&mut self, idle: Duration, entries_max: usize) -> Result<TakeOver, StreamError> {
        let mut taken = Vec::new();
        let mut vanished = Vec::new();
        let mut cursor = "0-0".to_owned();
        loop {
            let mut command = redis::cmd("XAUTOCLAIM");
            command.arg(&self.events).arg(GROUP).arg(&self.consumer);
            command.arg(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)).arg(&cursor);
            command.arg("COUNT").arg(entries_max.saturating_sub(taken.len()).max(1));
            let [next, entries, deleted] = reply::tuple(self.send(&command).await?)?;
            for entry in reply::array(entries)? {
                taken.push(reply::entry(entry)?);
            }
            for id in reply::array(deleted)? {
                vanished.push(reply::entry_id(id)?);
            }
            cursor = reply::text(next)?;
            if cursor == "0-0" || taken.len() >= entries_max {
                break;
            }
        }
        let mut found = self.with_counts(taken).await?;
        found.vanished.append(&mut vanished);
        Ok(found)
    }

    async fn leave(&mut self) -> Result<(), StreamError> {
        let command = retire_command(&self.events, Duration::ZERO, &self.consumer);
        self.send(&command).await.map(drop)
    }
}
