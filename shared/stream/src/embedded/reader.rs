//! One lane's view of the stream.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::core::Core;
use super::position::Position;
use super::queries;
use crate::{Delivery, EntryId, Reader, StreamError, TakeOver};
use millrace_event::entry::{Damage, PackedEntry};

pub(super) struct EmbeddedReader {
    core: Arc<Core>,
    consumer: Arc<str>,
    /// The last entry on disk.
    last: watch::Receiver<Position>,
}

impl EmbeddedReader {
    pub(super) fn new(core: Arc<Core>, consumer: &str) -> Self {
        let last = core.dispatch.subscribe();
        Self { core, consumer: consumer.into(), last }
    }

    /// Delivers the next new entries to this consumer, from memory or from the file.
    async fn deliver_new(&self, entries_max: usize) -> Result<Vec<Delivery>, StreamError> {
        let delivery = |(position, entry)| delivery(position, 1, entry);
        if let Some(entries) = self.deliver_recent(entries_max) {
            return Ok(entries
                .into_iter()
                .map(|(position, entry)| delivery((position, Ok(entry))))
                .collect());
        }
        let (dispatch, consumer) = (Arc::clone(&self.core.dispatch), Arc::clone(&self.consumer));
        let entries = self.core.reads.read(move |file| {
            let _taking = dispatch.lock_taking();
            let after = dispatch.deliveries().last();
            let entries = queries::entries_after(file, after, entries_max.max(1))?;
            dispatch.deliveries().deliver(&consumer, entries.iter().map(|(position, _)| *position));
            Ok(entries)
        });
        Ok(entries.await?.into_iter().map(delivery).collect())
    }

    /// The same from memory. `None` when the file must be read.
    fn deliver_recent(&self, entries_max: usize) -> Option<Vec<(Position, PackedEntry)>> {
        let dispatch = &self.core.dispatch;
        let _taking = dispatch.lock_taking();
        let after = dispatch.deliveries().last();
        let entries = dispatch.recent().take_after(after, entries_max.max(1))?;
        dispatch.deliveries().deliver(&self.consumer, entries.iter().map(|(position, _)| *position));
        Some(entries)
    }

    /// Reads entries that are pending for this consumer. Entries that were settled meanwhile are left out and
    /// forgotten.
    async fn fetch(&self, pending: Vec<(Position, u32)>) -> Result<Vec<Delivery>, StreamError> {
        let dispatch = Arc::clone(&self.core.dispatch);
        let fetched = self.core.reads.read(move |file| {
            let mut deliveries = Vec::with_capacity(pending.len());
            let mut removed = Vec::new();
            for (position, delivered) in pending {
                match queries::entry_at(file, position)? {
                    Some(entry) => deliveries.push(delivery(position, delivered, entry)),
                    None => removed.push(position),
                }
            }
            dispatch.deliveries().forget(&removed);
            Ok(deliveries)
        });
        fetched.await
    }
}

fn delivery(position: Position, delivered: u32, entry: Result<PackedEntry, Damage>) -> Delivery {
    Delivery { id: position.id(), delivered, entry }
}

#[async_trait]
impl Reader for EmbeddedReader {
    async fn next(&mut self, entries_max: usize, wait: Duration) -> Result<Vec<Delivery>, StreamError> {
        self.core.dispatch.deliveries().touch(&self.consumer);
        let deadline = Instant::now() + wait;
        loop {
            let last = *self.last.borrow_and_update();
            if last > self.core.dispatch.deliveries().last() {
                let deliveries = self.deliver_new(entries_max).await?;
                if !deliveries.is_empty() {
                    return Ok(deliveries);
                }
            }
            // Another lane may have taken the new entries.
            if wait.is_zero() {
                return Ok(Vec::new());
            }
            match timeout_at(deadline, self.last.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(StreamError::Unavailable("the stream is closed".to_owned())),
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
            let pending = {
                let mut deliveries = self.core.dispatch.deliveries();
                deliveries.touch(&self.consumer);
                deliveries.deliver_again(&self.consumer, after, entries_max.max(1))
            };
            let Some((last, _)) = pending.last() else {
                return Ok(Vec::new());
            };
            after = *last;
            let deliveries = self.fetch(pending).await?;
            if !deliveries.is_empty() {
                return Ok(deliveries);
            }
        }
    }

    /// No entry can vanish: only settling removes entries from the file.
    async fn take_over(&mut self, idle: Duration, entries_max: usize) -> Result<TakeOver, StreamError> {
        let taken = {
            let mut deliveries = self.core.dispatch.deliveries();
            deliveries.touch(&self.consumer);
            deliveries.take_over(&self.consumer, idle, entries_max)
        };
        let deliveries = if taken.is_empty() { Vec::new() } else { self.fetch(taken).await? };
        Ok(TakeOver { deliveries, vanished: Vec::new() })
    }

    async fn leave(&mut self) -> Result<(), StreamError> {
        self.core.dispatch.deliveries().retire(Duration::ZERO, Some(&self.consumer));
        Ok(())
    }
}
