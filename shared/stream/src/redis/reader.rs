//! One lane's view of one shard. Each reader has its own connection, because a blocking read on a shared one
//! would block all other calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, Value};

use super::connection::Connections;
use super::core::Core;
use super::error::{ConnectionHealth, classify, connection_health, describe};
use super::keys::GROUP;
use super::reply::{self, StreamEntry};
use super::retire::retire_command;
use super::slot::RESPONSE_TIMEOUT;
use crate::metrics::{counted, taken_over};
use crate::{Delivery, EntryId, Reader, StreamError, TakeOver};

/// The longest wait in one read, so that a half-open socket is noticed.
const BLOCK_MAX: Duration = Duration::from_secs(5);

pub(super) struct RedisReader {
    connection: MultiplexedConnection,
    opened_at: Instant,
    /// The shared connections to the same primary.
    shared: Arc<Connections>,
    events: String,
    consumer: String,
}

impl RedisReader {
    pub(super) async fn open(core: &Core, shard: u16, consumer: &str) -> Result<Self, StreamError> {
        let events = core.keys(shard)?.events.clone();
        let link = core.link(shard);
        let (connection, opened_at) = link.open().await.map_err(counted)?;
        let shared = Arc::clone(&link.connections);
        Ok(Self { connection, opened_at, shared, events, consumer: consumer.to_owned() })
    }

    async fn send(&mut self, command: &Cmd) -> Result<Value, StreamError> {
        self.send_waiting(command, Duration::ZERO).await
    }

    /// Sends a command that may block on the server for `wait`. A missing group is created from the beginning
    /// of the stream: from its end, it would skip batches that were admitted before.
    async fn send_waiting(&mut self, command: &Cmd, wait: Duration) -> Result<Value, StreamError> {
        self.connection.set_response_timeout(RESPONSE_TIMEOUT.max(wait + BLOCK_MAX));
        match self.query(command).await? {
            Err(error) if is_no_group(&error) => {
                let stream = &self.events;
                tracing::info!(
                    stream,
                    group = GROUP,
                    "the stream has no group: creating it from the beginning"
                );
                let mut create = redis::cmd("XGROUP");
                create.arg("CREATE").arg(&self.events).arg(GROUP).arg("0").arg("MKSTREAM");
                match self.query(&create).await? {
                    Err(error) if error.code() != Some("BUSYGROUP") => Err(counted(classify(&error))),
                    _ => self.query(command).await?.map_err(|error| counted(classify(&error))),
                }
            }
            answer => answer.map_err(|error| counted(classify(&error))),
        }
    }

    /// Sends one command, and gives up all connections to a server that is not the primary any more.
    ///
    /// # Errors
    /// [`StreamError::Unavailable`], counted, when the others were given up meanwhile: this server may answer
    /// or block as before and not be the primary.
    async fn query(&mut self, command: &Cmd) -> Result<Result<Value, RedisError>, StreamError> {
        let sent = Instant::now();
        let answer = tokio::select! {
            biased;
            () = self.shared.doubted(self.opened_at) => {
                let reason = "the connection of a reader may lead to another server than the primary";
                return Err(counted(StreamError::Unavailable(reason.to_owned())));
            }
            answer = command.query_async(&mut self.connection) => answer,
        };
        if let Err(error) = &answer
            && connection_health(error) == ConnectionHealth::Demoted
        {
            self.shared.give_up(sent, describe(error));
        }
        Ok(answer)
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
