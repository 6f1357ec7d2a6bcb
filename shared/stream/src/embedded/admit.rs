//! Letting one batch in, as one of many in the writer's transaction.

use super::markers;
use super::position::Position;
use super::writer::Turn;
use crate::{Admission, Decision, Epoch};
use millrace_event::entry::PackedBatch;
use millrace_event::plan::{Plan, Refusal};

/// An [`Admission`] that can be handed to the writer.
pub(super) struct Request {
    pub(super) packed: PackedBatch,
    pub(super) plan: Plan,
    pub(super) digest: Option<[u8; 16]>,
    pub(super) awaited: bool,
    /// The epoch the caller trusts.
    pub(super) trusted: Epoch,
    /// Events that may wait.
    pub(super) backlog_events_max: u64,
}

impl Request {
    /// Decides, and appends and counts what is let in. Whatever refuses stands before the first change.
    pub(super) fn decide(&self, turn: &mut Turn<'_>) -> rusqlite::Result<Decision> {
        let Self { packed, plan, .. } = self;
        let (file, books) = (turn.file, &mut turn.books);
        if books.shard.epoch != Some(self.trusted) {
            return Ok(Decision::EpochChanged);
        }
        let now_us = books.shard.now_us();
        let mut project = books.project(file, packed.project)?;
        let limit_state = project.limit_state(now_us);
        if let Some(marker) = markers::find(file, packed.batch_id, now_us / 1_000)? {
            let differs = marker.digest.is_some() && self.digest.is_some() && marker.digest != self.digest;
            return Ok(match differs {
                true => Decision::Conflict { limit_state },
                false => Decision::Repeated { received_ms: marker.received_ms, limit_state },
            });
        }
        let count = u64::from(packed.count);
        if books.shard.events + count > self.backlog_events_max {
            return Ok(Decision::BacklogFull { limit_state });
        }
        let charged = match limit_state.charge(plan, count) {
            Ok(charged) => charged,
            Err(Refusal::Rate { wait_us }) => return Ok(Decision::RateLimited { wait_us, limit_state }),
            Err(Refusal::Quota) => return Ok(Decision::QuotaExceeded { limit_state }),
        };

        let position = books.shard.last.next().max(Position::at_ms(now_us / 1_000));
        books.shard.last = position;
        books.shard.entries += 1;
        books.shard.events += count;
        books.shard.bytes += packed.data.len() as u64;
        (project.tat_us, project.used) = (charged.tat_us, charged.used);
        project.month = millrace_event::plan::month_of(now_us);
        project.accepted += count;
        project.pending += i64::from(packed.count);
        books.set_project(packed.project, project);
        append(turn, position, packed)?;
        let admission = Admission { packed, plan, digest: self.digest, awaited: self.awaited };
        markers::insert(file, &admission, position.ms())?;
        Ok(Decision::Admitted { received_ms: position.ms(), limit_state: charged })
    }
}

fn append(turn: &mut Turn<'_>, position: Position, packed: &PackedBatch) -> rusqlite::Result<()> {
    let mut insert = turn.file.prepare_cached("INSERT INTO entries VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6)")?;
    let (batch_id, project) = (packed.batch_id.as_bytes(), packed.project.0);
    insert.execute((position, batch_id, project, packed.count, packed.rows_bytes, &packed.data[..]))?;
    turn.appended.push((position, packed.clone()));
    Ok(())
}
