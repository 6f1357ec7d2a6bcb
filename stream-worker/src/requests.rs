//! The write requests of one entry: one for each admitted batch, in order.
//!
//! What cannot be read becomes dead letters. A letter has nothing of other batches in it, because they may be
//! of other projects. When the rows of an entry with several batches do not decompress, no bytes of it can be
//! assigned to a batch: each batch then has an empty letter, and one more letter, which counts no events and
//! belongs to no project, keeps the whole entry.

use bytes::Bytes;
use millrace_event::entry::{Damage, EntryBatch, PackedEntry, id_of_damaged, pack_rows};
use millrace_event::plan::ProjectId;
use millrace_store::{Payload, WriteRequest};
use millrace_stream::{BatchId, Delivery, EntryId};

/// Makes the requests of an entry of one shard.
#[derive(Clone, Copy)]
pub struct EntryRequests<'a> {
    pub shard: u16,
    pub delivery: &'a Delivery,
}

impl EntryRequests<'_> {
    /// The requests that write the entry.
    pub fn written(self) -> Vec<WriteRequest> {
        match &self.delivery.entry {
            Ok(entry) => match entry.unpack() {
                Ok(batches) => {
                    batches.into_iter().map(|(batch, rows)| self.of_batch(entry, batch, rows)).collect()
                }
                Err(reason) => self.unread(&reason),
            },
            Err(damage) => vec![self.of_damage(damage, damage.reason.clone())],
        }
    }

    /// The requests that put the entry into the dead letters without reading its rows.
    pub fn set_aside(self, reason: &str) -> Vec<WriteRequest> {
        match &self.delivery.entry {
            Ok(entry) if entry.batches.len() > 1 => match entry.unpack() {
                Ok(batches) => batches
                    .into_iter()
                    .map(|(batch, rows)| self.dead(batch, reason.to_owned(), pack_rows(&rows)))
                    .collect(),
                Err(damage) => self.unread(&format!("{reason}; {damage}")),
            },
            _ => self.unread(reason),
        }
    }

    /// The same without decompressing the rows.
    pub fn unread(self, reason: &str) -> Vec<WriteRequest> {
        let entry = match &self.delivery.entry {
            Ok(entry) => entry,
            Err(damage) => return vec![self.of_damage(damage, reason.to_owned())],
        };
        if let [batch] = entry.batches[..] {
            return vec![self.dead(batch, reason.to_owned(), entry.data.clone())];
        }
        let whole = id_of_damaged(self.shard, self.delivery.id);
        let of_batch =
            format!("{reason}; the bytes of the whole entry are in the dead letter of batch {whole}");
        let mut requests: Vec<_> =
            entry.admitted().map(|batch| self.dead(*batch, of_batch.clone(), Bytes::new())).collect();
        let payload = Payload::DeadLetter { reason: reason.to_owned(), raw: entry.raw() };
        requests.push(self.request(whole, ProjectId(0), 0, payload));
        requests
    }

    fn of_batch(self, entry: &PackedEntry, batch: EntryBatch, rows: Bytes) -> WriteRequest {
        match batch.check(&rows) {
            Ok(()) => self.request(batch.batch_id, batch.project, batch.count, Payload::Rows(rows)),
            Err(reason) => {
                let is_alone = entry.batches.len() == 1;
                self.dead(batch, reason, if is_alone { entry.data.clone() } else { pack_rows(&rows) })
            }
        }
    }

    fn of_damage(self, damage: &Damage, reason: String) -> WriteRequest {
        let Damage { batch_id, project, count, raw, .. } = damage;
        let batch_id = batch_id.unwrap_or_else(|| id_of_damaged(self.shard, self.delivery.id));
        let payload = Payload::DeadLetter { reason, raw: raw.clone() };
        self.request(batch_id, project.unwrap_or(ProjectId(0)), count.unwrap_or(1), payload)
    }

    fn dead(self, batch: EntryBatch, reason: String, raw: Bytes) -> WriteRequest {
        let payload = Payload::DeadLetter { reason, raw };
        self.request(batch.batch_id, batch.project, batch.count, payload)
    }

    fn request(self, batch_id: BatchId, project: ProjectId, count: u32, payload: Payload) -> WriteRequest {
        let (entry, shard): (EntryId, u16) = (self.delivery.id, self.shard);
        WriteRequest { entry, shard, batch_id, project, count, payload }
    }
}

#[cfg(test)]
mod tests {
    use millrace_event::entry::NewBatch;
    use millrace_event::row::{EventTime, Row};
    use uuid::Uuid;

    use super::*;

    fn rows(project: i64, name: &str) -> Vec<u8> {
        let mut rows = Vec::new();
        let row = Row { time: EventTime::Undated, ..Row::bare(ProjectId(project), Uuid::nil(), name) };
        row.write(&mut rows);
        rows
    }

    fn batch(project: i64, rows: Vec<u8>) -> NewBatch {
        NewBatch::new(Uuid::from_u128(project.unsigned_abs().into()), ProjectId(project), 1, rows)
    }

    /// An entry of three batches, of which the second was not admitted and the third is of the wrong project.
    fn delivery() -> Delivery {
        let batches = [batch(1, rows(1, "one")), batch(2, rows(2, "two")), batch(3, rows(4, "four"))];
        let mut entry = PackedEntry::pack(&batches);
        entry.batches[1].is_admitted = false;
        Delivery { id: EntryId { ms: 5, seq: 0 }, delivered: 1, entry: Ok(entry) }
    }

    /// Project, count, and reason and payload of a dead letter.
    type Found = (i64, u32, Option<(String, Bytes)>);

    fn reasons(requests: &[WriteRequest]) -> Vec<Found> {
        let dead = |request: &WriteRequest| match &request.payload {
            Payload::Rows(_) => None,
            Payload::DeadLetter { reason, raw } => Some((reason.clone(), raw.clone())),
        };
        requests.iter().map(|request| (request.project.0, request.count, dead(request))).collect()
    }

    #[test]
    fn a_batch_with_malformed_rows_is_dead_and_the_others_are_written() {
        let delivery = delivery();
        let found = reasons(&EntryRequests { shard: 0, delivery: &delivery }.written());
        assert_eq!((found.len(), &found[0]), (2, &(1, 1, None)), "what was not admitted is not written");
        let (reason, raw) = found[1].2.clone().expect("dead");
        assert!(reason.contains("belongs to project 4"), "{reason}");
        assert_eq!(raw, pack_rows(&rows(4, "four")), "the letter has the rows of its batch alone");
    }

    #[test]
    fn of_an_entry_that_does_not_decompress_nothing_is_lost() {
        let mut delivery = delivery();
        let whole = delivery.entry.clone().unwrap();
        let data = Bytes::copy_from_slice(&whole.data[..whole.data.len() - 1]);
        let torn = PackedEntry { data, ..whole };
        delivery.entry = Ok(torn.clone());
        let found = reasons(&EntryRequests { shard: 0, delivery: &delivery }.written());
        let counts: Vec<_> = found.iter().map(|(project, count, _)| (*project, *count)).collect();
        assert_eq!(counts, [(1, 1), (3, 1), (0, 0)]);
        let payloads: Vec<_> = found.into_iter().map(|(.., dead)| dead.expect("dead").1).collect();
        assert_eq!(payloads, [Bytes::new(), Bytes::new(), torn.raw()]);
    }

    #[test]
    fn a_batch_that_is_set_aside_can_be_redriven() {
        let delivery = delivery();
        let found = reasons(&EntryRequests { shard: 0, delivery: &delivery }.set_aside("why"));
        let (reason, raw) = found[0].2.clone().expect("dead");
        assert_eq!(reason, "why");
        assert_eq!(millrace_event::entry::unpack_dead(ProjectId(1), 1, &raw), Ok(rows(1, "one")));
    }
}
