//! Collects the events of a body, and says why a body yields none.

use std::borrow::Cow;

use super::builder::EventBuilder;
use crate::entry::ROWS_BYTES_MAX;
use crate::event::{Batch, Origin, Rejection};
use crate::excerpt::excerpt;
use crate::undeliverable::{CALL_BYTES_MAX, UndeliverableCall};

/// Why a body yields no batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BodyError {
    /// Not JSON, or not in a form of the dialect.
    InvalidJson {
        /// What is wrong, and where.
        message: String,
    },
    /// The body has the right form but contains no event.
    EmptyBatch,
    TooManyEvents {
        /// Events in the body.
        found: usize,
        /// The limit.
        max: usize,
    },
    /// With a copy of the envelope's fields in each event, the rows are too large for an entry.
    RowsTooLarge {
        /// The limit, in bytes.
        max: usize,
    },
    /// Every event was rejected by a dialect that rejects invalid events.
    NoValidEvent { rejected: Vec<Rejection> },
}

/// Takes the events of a body from a dialect that reads the whole body itself. An event that it cannot read
/// becomes a dead letter.
pub struct EventSink {
    origin: Origin,
    events_max: usize,
    /// Also those after the limit.
    found: usize,
    batch: Batch,
}

impl EventSink {
    pub(super) fn new(origin: Origin, events_max: usize) -> Self {
        Self { origin, events_max, found: 0, batch: Batch::default() }
    }

    /// Adds the next event of the body, which `read` makes of its index. Events after the limit are counted
    /// and not read. `sent` is the text of a dead letter.
    ///
    /// # Errors
    /// [`BodyError::RowsTooLarge`].
    pub(super) fn add<'e, 's>(
        &mut self,
        read: impl FnOnce(usize, Origin) -> Result<EventBuilder<'e>, Rejection>,
        sent: impl FnOnce() -> Cow<'s, [u8]>,
    ) -> Result<(), BodyError> {
        let index = self.found;
        self.found += 1;
        if index >= self.events_max {
            return Ok(());
        }
        match read(index, self.origin) {
            Ok(mut event) => {
                event.place_address(self.origin);
                event.write(self.origin.project, &mut self.batch.rows);
                self.batch.count += 1;
            }
            Err(rejection) => add_dead_letter(rejection, &sent(), self.origin, &mut self.batch),
        }
        if self.batch.rows.len() > ROWS_BYTES_MAX {
            return Err(BodyError::RowsTooLarge { max: ROWS_BYTES_MAX });
        }
        Ok(())
    }

    /// The batch.
    ///
    /// # Errors
    /// [`BodyError::TooManyEvents`].
    pub(super) fn finish(self) -> Result<Batch, BodyError> {
        if self.found > self.events_max {
            return Err(BodyError::TooManyEvents { found: self.found, max: self.events_max });
        }
        Ok(self.batch)
    }
}

/// Accepts an invalid event as a dead letter, without the keys in its text.
pub(super) fn add_dead_letter(rejection: Rejection, sent: &[u8], origin: Origin, batch: &mut Batch) {
    let call = excerpt(sent, CALL_BYTES_MAX, origin.key_hash.as_ref());
    let message = match rejection.field.as_deref() {
        Some(field) if !rejection.message.contains(field) => format!("{field}: {}", rejection.message),
        _ => rejection.message.clone(),
    };
    let (project, code) = (origin.project, rejection.code.into());
    UndeliverableCall { project, code, message: &message, call: &call }.write(&mut batch.rows);
    batch.count += 1;
    batch.dead.push(rejection);
}
