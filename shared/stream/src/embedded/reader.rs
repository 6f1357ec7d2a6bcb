//! One lane's view of the stream.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::position::Position;
use super::{Core, reads};
use crate::{Delivery, EntryId, Reader, StreamError, TakeOver};
use millrace_event::entry::PackedBatch;

pub(super) struct EmbeddedReader {
    core: Arc<Core>,
    consumer: Arc<str>,
    admitted: watch::Receiver<Position>,
}

impl EmbeddedReader {
    pub(super) fn new(core: Arc<Core>, consumer: &str) -> Self {
        let admitted = core.shared.admitted.subscribe();
        Self { core, consumer: consumer.into(), admitted }
    }

    /// Hands this consumer the next entries that nobody was handed.
    async fn hand_out(&self, entries_max: usize) -> Result<Vec<Delivery>, StreamError> {
        let delivery = |(position, packed)| delivery(position, 1, packed);
        if let Some(entries) = self.hand_out_fresh(entries_max) {
            return Ok(entries.into_iter().map(delivery).collect());
        }
        let (shared, consumer) = (Arc::clone(&self.core.shared), Arc::clone(&self.consumer));
        let entries = self.core.reads.read(move |file| {
            let _turn = shared.handing_out();
            let after = shared.deliveries().last();
            let entries = reads::entries_after(file, after, entries_max.max(1))?;
            shared.deliveries().hand(&consumer, entries.iter().map(|(position, _)| *position));
            Ok(entries)
        });
        Ok(entries.await?.into_iter().map(delivery).collect())
    }

    /// The same from memory; `None` when the file has to be read.
    fn hand_out_fresh(&self, entries_max: usize) -> Option<Vec<(Position, PackedBatch)>> {
        let shared = &self.core.shared;
        let _turn = shared.handing_out();
        let after = shared.deliveries().last();
        let entries = shared.fresh().take_after(after, entries_max.max(1))?;
        shared.deliveries().hand(&self.consumer, entries.iter().map(|(position, _)| *position));
        Some(entries)
    }

    /// Reads entries that were handed to this consumer. Those that have left the stream since are left out, and forgotten.
    async fn fetch(&self, handed: Vec<(Position, u32)>) -> Result<Vec<Delivery>, StreamError> {
        let shared = Arc::clone(&self.core.shared);
        let fetched = self.core.reads.read(move |file| {
            let mut deliveries = Vec::with_capacity(handed.len());
            let mut gone = Vec::new();
            for (position, delivered) in handed {
                match reads::entry_at(file, position)? {
                    Some(packed) => deliveries.push(delivery(position, delivered, packed)),
                    None => gone.push(position),
                }
            }
            shared.deliveries().forget(&gone);
            Ok(deliveries)
        });
        fetched.await
    }
}

fn delivery(position: Position, delivered: u32, packed: PackedBatch) -> Delivery {
    Delivery { id: position.id(), delivered, packed: Ok(packed) }
}

#[async_trait]
impl Reader for EmbeddedReader {
    async fn next(&mut self, entries_max: usize, wait: Duration) -> Result<Vec<Delivery>, StreamError> {
        self.core.shared.deliveries().see(&self.consumer);
        let deadline = Instant::now() + wait;
        loop {
            let last = *self.admitted.borrow_and_update();
            if last > self.core.shared.deliveries().last() {
                let deliveries = self.hand_out(entries_max).await?;
                if !deliveries.is_empty() {
                    return Ok(deliveries);
                }
            }
            // What was there may have gone to another lane; then there is nothing again.
            if wait.is_zero() {
                return Ok(Vec::new());
            }
            match timeout_at(deadline, self.admitted.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(StreamError::Unavailable("the stream was closed".to_owned())),
                Err(_) => return Ok(Vec::new()),
            }
        }
    }

    async fn own_pending(
        &mut self,
        after: EntryId,
        entries_max: usize,
    ) -> Result<Vec<Delivery>, StreamError> {
        let mut after = Position::of(after).unwrap_or_default();
        loop {
            let handed = {
                let mut deliveries = self.core.shared.deliveries();
                deliveries.see(&self.consumer);
                deliveries.hand_again(&self.consumer, after, entries_max.max(1))
            };
            let Some((last, _)) = handed.last() else {
                return Ok(Vec::new());
            };
            after = *last;
            let deliveries = self.fetch(handed).await?;
            if !deliveries.is_empty() {
                return Ok(deliveries);
            }
        }
    }

    /// Finds nothing vanished: only settling takes entries out of the file.
    async fn take_over(&mut self, idle: Duration, entries_max: usize) -> Result<TakeOver, StreamError> {
        let taken = {
            let mut deliveries = self.core.shared.deliveries();
            deliveries.see(&self.consumer);
            deliveries.take_over(&self.consumer, idle, entries_max)
        };
        let deliveries = if taken.is_empty() { Vec::new() } else { self.fetch(taken).await? };
        Ok(TakeOver { deliveries, vanished: Vec::new() })
    }

    async fn leave(&mut self) -> Result<(), StreamError> {
        self.core.shared.deliveries().retire(Duration::ZERO, Some(&self.consumer));
        Ok(())
    }
}
