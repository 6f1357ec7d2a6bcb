//! The generator's events as rows, made by the product's own reader, and renewed as the generator renews its requests.

use std::io;

use millrace_event::dialect::{self, Dialect};
use millrace_event::event::Origin;
use millrace_event::plan::ProjectId;
use millrace_event::row::{self, EventTime, Row};
use rand::SeedableRng;
use rand::rngs::StdRng;
use uuid::Uuid;

use crate::failure::Failure;
use crate::load::{Identities, batch_json, now_us};

const SEED: u64 = 7;
const BATCH_EVENTS_MAX: usize = 1_000;

/// Rows that come again and again, each time as other events.
pub struct Rows {
    rows: Vec<Vec<u8>>,
    ids: Identities,
}

impl Rows {
    /// So many.
    pub fn new(project: i64, events: usize) -> Result<Self, Failure> {
        let mut random = StdRng::seed_from_u64(SEED);
        let origin = Origin { project: ProjectId(project), batch_id: Uuid::now_v7() };
        let mut rows = Vec::with_capacity(events);
        while rows.len() < events {
            let batch = (events - rows.len()).min(BATCH_EVENTS_MAX);
            let body = batch_json(batch, &mut random);
            let batch = dialect::read(Dialect::Native, body.as_bytes(), origin, BATCH_EVENTS_MAX)
                .map_err(|error| Failure::new(format!("an event of ours is refused: {error:?}")))?;
            for row in row::split(&batch.rows) {
                rows.push(row?.to_vec());
            }
        }
        Ok(Self { rows, ids: Identities::new() })
    }

    /// Writes all of them as new events, in the order of their times.
    pub fn write(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let (now, mut one) = (now_us(), Vec::new());
        for (place, row) in self.rows.iter().enumerate() {
            let event_id = Uuid::from_u128(self.ids.next_id());
            let read = Row::read(row).map_err(io::Error::other)?;
            let time = EventTime::At(now + i64::try_from(place).map_err(io::Error::other)?);
            one.clear();
            Row { event_id, time, ..read }.write(&mut one);
            row::write_stamped(&one, now, out);
        }
        Ok(())
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> usize {
        self.rows.iter().map(Vec::len).sum()
    }
}
