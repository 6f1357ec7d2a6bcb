//! Helpers that read bodies and split the resulting rows into fields.

use millrace_event::dialect::{BodyError, Dialect, native, read, segment};
use millrace_event::event::{Batch, Origin, batch_id_of_key};
use millrace_event::plan::ProjectId;
use millrace_event::row;

pub const EVENTS_MAX: usize = 1_000;

pub static DIALECTS: [&Dialect; 9] = [
    &native::JSON,
    &native::NDJSON,
    &segment::BATCH,
    &segment::TRACK,
    &segment::IDENTIFY,
    &segment::PAGE,
    &segment::SCREEN,
    &segment::GROUP,
    &segment::ALIAS,
];

pub fn origin() -> Origin {
    Origin::new(ProjectId(7), batch_id_of_key(ProjectId(7), "some key"))
}

pub fn read_json(body: &str) -> Result<Batch, BodyError> {
    read(&native::JSON, body.as_bytes(), origin(), EVENTS_MAX)
}

/// The variable fields of a row: name, subject, client id, properties, context.
pub fn texts(row: &[u8]) -> Vec<Option<String>> {
    let mut at = 58;
    let mut fields = Vec::new();
    while at < row.len() {
        let length = i32::from_be_bytes(row[at..at + 4].try_into().unwrap());
        at += 4;
        match usize::try_from(length) {
            Ok(length) => {
                let bytes = row[at..at + length].strip_prefix(b"\x01").unwrap_or(&row[at..at + length]);
                fields.push(Some(String::from_utf8(bytes.to_vec()).unwrap()));
                at += length;
            }
            Err(_) => fields.push(None),
        }
    }
    fields
}

pub fn only_row(batch: &Batch) -> Vec<u8> {
    assert_eq!(batch.count, 1, "{batch:?}");
    row::split(&batch.rows).next().unwrap().unwrap().to_vec()
}

pub fn dead_codes(batch: &Batch) -> Vec<(usize, &'static str)> {
    batch.dead.iter().map(|dead| (dead.index, dead.code.into())).collect()
}

pub fn codes(batch: &Batch) -> Vec<(usize, &'static str)> {
    batch.rejected.iter().map(|rejection| (rejection.index, rejection.code.into())).collect()
}
