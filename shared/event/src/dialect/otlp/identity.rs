//! The identities of records that have no id.

use std::collections::HashMap;

use uuid::Uuid;

use crate::event::derived_uuid;

/// Counts the records with the same content in one request.
#[derive(Default)]
pub(super) struct Identities(HashMap<Uuid, u32>);

impl Identities {
    /// The identity of the next record with this content. It depends on how many of the same were before, and
    /// not on the other records of the request.
    pub(super) fn next(&mut self, content: &[&[u8]]) -> Uuid {
        let first = derived_uuid(content);
        let before = self.0.entry(first).or_default();
        let event_id = match *before {
            0 => first,
            before => derived_uuid(&[b"equal log record", first.as_bytes(), &before.to_be_bytes()]),
        };
        *before += 1;
        event_id
    }
}
