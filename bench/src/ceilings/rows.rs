//! The load generator's events as rows, created by the product's parser. As in the generator, ids and times
//! are replaced each time.

use std::io;

use millrace_event::dialect::{self, native};
use millrace_event::event::Origin;
use millrace_event::plan::ProjectId;
use millrace_event::row::{self, EventTime, Row};
use rand::SeedableRng;
use rand::rngs::StdRng;
use uuid::Uuid;

use crate::error::BenchError;
use crate::load::{IdGenerator, batch_json, now_us};

const SEED: u64 = 7;
const BATCH_EVENTS_MAX: usize = 1_000;

/// Rows that are written repeatedly, each time as new events.
pub struct Rows {
    rows: Vec<Vec<u8>>,
    ids: IdGenerator,
}

impl Rows {
    pub fn new(project: i64, events: usize) -> Result<Self, BenchError> {
        let mut random = StdRng::seed_from_u64(SEED);
        let origin = Origin::new(ProjectId(project), Uuid::now_v7());
        let mut rows = Vec::with_capacity(events);
        while rows.len() < events {
            let batch = (events - rows.len()).min(BATCH_EVENTS_MAX);
            let body = batch_json(batch, &mut random);
            let batch =
                dialect::read(&native::JSON, body.as_bytes(), origin, BATCH_EVENTS_MAX).map_err(|error| {
                    BenchError::new(format!("the product rejects a generated event: {error:?}"))
                })?;
            for row in row::split(&batch.rows) {
                rows.push(row?.to_vec());
            }
        }
        Ok(Self { rows, ids: IdGenerator::new() })
    }

    /// Appends all rows as new events, in the order of their times.
    pub fn write(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let (now, mut unstamped) = (now_us(), Vec::new());
        for (index, row) in self.rows.iter().enumerate() {
            let event_id = Uuid::from_u128(self.ids.next_id());
            let parsed = Row::read(row).map_err(io::Error::other)?;
            let time = EventTime::At(now + i64::try_from(index).map_err(io::Error::other)?);
            unstamped.clear();
            Row { event_id, time, ..parsed }.write(&mut unstamped);
            row::write_stamped(&unstamped, now, out);
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Total size of all rows.
    pub fn bytes(&self) -> usize {
        self.rows.iter().map(Vec::len).sum()
    }
}
