//! From what a lane holds to the works of one transaction: unpacking, and setting suspects apart.

use std::collections::VecDeque;

use millrace_event::entry::{Damage, id_of_damaged};
use millrace_event::plan::ProjectId;
use millrace_store::{Payload, WriteRequest};
use millrace_stream::{Delivery, EntryId, SharedStream, StreamError};

use crate::poison;

/// Unpacked bytes of one transaction, at most, its last entry aside.
const TRANSACTION_BYTES_MAX: usize = 32 << 20;

/// An entry on its way through a transaction.
pub struct Loaded {
    /// What the store gets.
    pub work: WriteRequest,
    /// What the stream counts.
    pub packed_bytes: u32,
}

/// Loads the transactions of one lane.
pub struct Loader {
    shard: u16,
    stream: SharedStream,
    /// What a transaction is filled to when all is well.
    events_max: u64,
    /// What the next one is filled to.
    events_goal: u64,
}

impl Loader {
    /// For a lane of this shard.
    pub fn new(shard: u16, stream: SharedStream, transaction_events_max: u64) -> Self {
        Self { shard, stream, events_max: transaction_events_max, events_goal: transaction_events_max }
    }

    /// A transaction of these failed: the next one shall be half as large. One that takes longer than it may, for all the
    /// poison in it or for a slow disk, would otherwise fail for ever.
    pub fn take_less(&mut self, failed: &[WriteRequest]) {
        let events: u64 = failed.iter().map(|work| u64::from(work.count)).sum();
        self.events_goal = (events / 2).max(1);
    }

    /// The last transaction went well: the next one may be twice as large.
    pub fn take_more(&mut self) {
        self.events_goal = (self.events_goal * 2).min(self.events_max);
    }

    /// Unpacks the entries of the next transaction, from the front of what is held; at least one.
    ///
    /// # Errors
    /// [`StreamError`] when an attempt at a suspect could not be noted.
    pub async fn load(&self, held: &VecDeque<Delivery>) -> Result<Vec<Loaded>, StreamError> {
        let mut loaded: Vec<Loaded> = Vec::new();
        let (mut events, mut bytes) = (0_u64, 0_usize);
        for delivery in held {
            if poison::must_be_alone(delivery) {
                if loaded.is_empty() {
                    loaded.push(self.load_suspect(delivery).await?);
                }
                break;
            }
            if events >= self.events_goal || bytes >= TRANSACTION_BYTES_MAX {
                break;
            }
            let next = self.unpack(delivery);
            events += u64::from(next.work.count);
            bytes += match &next.work.body {
                Payload::Rows(rows) => rows.len(),
                Payload::DeadLetter { raw, .. } => raw.len(),
            };
            loaded.push(next);
        }
        Ok(loaded)
    }

    /// An entry that was delivered often goes alone, and into the dead letters when it has ended enough lives.
    async fn load_suspect(&self, delivery: &Delivery) -> Result<Loaded, StreamError> {
        let attempts = self.stream.note_attempt(self.shard, delivery.id).await?;
        let Some(reason) = poison::verdict(attempts) else {
            return Ok(self.unpack(delivery));
        };
        let damage = match &delivery.packed {
            Ok(packed) => Damage {
                reason,
                batch_id: Some(packed.batch_id),
                project: Some(packed.project),
                count: Some(packed.count),
                raw: packed.data.clone(),
            },
            Err(damage) => Damage { reason, ..damage.clone() },
        };
        Ok(self.bury(delivery.id, damage))
    }

    /// An attempt that came back, with whatever error, has not ended the process: it is not held against the entry.
    pub async fn acquit(&self, first: Option<&Delivery>) {
        let Some(suspect) = first.filter(|delivery| poison::must_be_alone(delivery)) else { return };
        if let Err(error) = self.stream.forget_attempts(self.shard, suspect.id).await {
            let id = suspect.id;
            tracing::warn!(%id, %error, "an attempt at entry {id} stays noted: {error}");
        }
    }

    fn unpack(&self, delivery: &Delivery) -> Loaded {
        let packed = match &delivery.packed {
            Ok(packed) => packed,
            Err(damage) => return self.bury(delivery.id, damage.clone()),
        };
        match packed.unpack() {
            Ok(rows) => Loaded {
                work: WriteRequest {
                    entry: delivery.id,
                    shard: self.shard,
                    batch_id: packed.batch_id,
                    project: packed.project,
                    count: packed.count,
                    body: Payload::Rows(rows),
                },
                packed_bytes: size(packed.data.len()),
            },
            Err(damage) => self.bury(delivery.id, damage),
        }
    }

    fn bury(&self, id: EntryId, damage: Damage) -> Loaded {
        let reason = &damage.reason;
        tracing::error!(%id, shard = self.shard, reason, "entry {id} goes to the dead letters: {reason}");
        Loaded {
            packed_bytes: size(damage.raw.len()),
            work: WriteRequest {
                entry: id,
                shard: self.shard,
                batch_id: damage.batch_id.unwrap_or_else(|| id_of_damaged(self.shard, id)),
                project: damage.project.unwrap_or(ProjectId(0)),
                count: damage.count.unwrap_or(1),
                body: Payload::DeadLetter { reason: damage.reason, raw: damage.raw },
            },
        }
    }
}

fn size(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
