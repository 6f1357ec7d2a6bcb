//! Taking committed entries out of the stream.

use super::connection::Script;
use super::keys::GROUP;
use super::{RedisStream, error, reply};
use crate::{EntryId, Settlement, StreamError};

const SETTLE: &str = concat!("#!lua flags=allow-oom", include_str!("clock.lua"), include_str!("settle.lua"));
/// A full server must still be able to isolate poison, so that it can drain.
const NOTE_ATTEMPT: &str = "#!lua flags=allow-oom\nreturn redis.call('HINCRBY', KEYS[1], ARGV[1], 1)";
/// Entries settled by one call of the script, so that others get their turn in between.
const CHUNK_ENTRIES: usize = 256;

/// The scripts of this file.
pub(super) struct Scripts {
    settle: Script,
    note_attempt: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self { settle: Script::new(SETTLE), note_attempt: Script::new(NOTE_ATTEMPT) }
    }
}

impl RedisStream {
    /// See [`crate::Stream::settle`].
    pub(super) async fn settle_all(
        &self,
        shard: u16,
        settlements: &[Settlement],
    ) -> Result<u64, StreamError> {
        let mut settled = 0;
        for chunk in settlements.chunks(CHUNK_ENTRIES) {
            settled += self.settle_chunk(shard, chunk).await?;
        }
        Ok(settled)
    }

    async fn settle_chunk(&self, shard: u16, settlements: &[Settlement]) -> Result<u64, StreamError> {
        let keys = self.keys(shard)?;
        let epoch = self.trusted(shard).ok_or_else(|| error::counted(StreamError::EpochChanged))?;
        let mut command = self.settlement.settle.call(4 + 2 * settlements.len());
        command.arg(&keys.events).arg(&keys.epoch).arg(&keys.shard_hash).arg(&keys.attempts);
        for settlement in settlements {
            command.arg(keys.marker(settlement.batch_id)).arg(keys.project(settlement.project));
        }
        command.arg(epoch.as_str()).arg(GROUP);
        for settlement in settlements {
            let outcome = settlement.outcome;
            command.arg(settlement.id.to_string()).arg(settlement.count).arg(settlement.bytes);
            command.arg(outcome.stored).arg(outcome.duplicate).arg(outcome.dead);
        }
        match reply::integer(self.connections.eval(&self.settlement.settle, &command).await?)? {
            -1 => Err(error::counted(StreamError::EpochChanged)),
            settled => Ok(settled.unsigned_abs()),
        }
    }

    /// See [`crate::Stream::note_attempt`].
    pub(super) async fn attempt_noted(&self, shard: u16, id: EntryId) -> Result<u32, StreamError> {
        let mut command = self.settlement.note_attempt.call(1);
        command.arg(&self.keys(shard)?.attempts).arg(id.to_string());
        reply::small(self.connections.eval(&self.settlement.note_attempt, &command).await?)
    }

    /// See [`crate::Stream::forget_attempts`].
    pub(super) async fn attempts_forgotten(&self, shard: u16, id: EntryId) -> Result<(), StreamError> {
        let mut command = redis::cmd("HDEL");
        command.arg(&self.keys(shard)?.attempts).arg(id.to_string());
        self.connections.send(&command).await.map(drop).map_err(error::counted)
    }
}
