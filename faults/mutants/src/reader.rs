//! The reader of a lane with a bug around it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millrace_event::EntryId;
use millrace_stream::{Delivery, Reader, StreamError, TakeOver};

use crate::mutant::Mutant;
use crate::redis::Redis;

/// Deliveries after which a worker writes an entry alone.
const SUSPECT_DELIVERIES: u32 = 3;

pub struct MutantReader {
    pub inner: Box<dyn Reader>,
    pub mutant: Mutant,
    /// `None` when the stream is a file.
    pub redis: Option<Arc<Redis>>,
    pub shard: u16,
    pub consumer: String,
}

impl MutantReader {
    fn suspect(&self, deliveries: &mut [Delivery]) {
        if self.mutant == Mutant::FailureCountsAsPoison {
            for delivery in deliveries {
                delivery.delivered = delivery.delivered.max(SUSPECT_DELIVERIES);
            }
        }
    }
}

#[async_trait]
impl Reader for MutantReader {
    async fn next(&mut self, entries_max: usize, wait: Duration) -> Result<Vec<Delivery>, StreamError> {
        let mut deliveries = self.inner.next(entries_max, wait).await?;
        self.suspect(&mut deliveries);
        Ok(deliveries)
    }

    async fn own_pending(
        &mut self,
        after: EntryId,
        entries_max: usize,
    ) -> Result<Vec<Delivery>, StreamError> {
        let mut deliveries = self.inner.own_pending(after, entries_max).await?;
        self.suspect(&mut deliveries);
        Ok(deliveries)
    }

    async fn take_over(&mut self, idle: Duration, entries_max: usize) -> Result<TakeOver, StreamError> {
        let mut taken = self.inner.take_over(idle, entries_max).await?;
        self.suspect(&mut taken.deliveries);
        Ok(taken)
    }

    async fn leave(&mut self) -> Result<(), StreamError> {
        if let (Mutant::ConsumerDeletedWithPending, Some(redis)) = (self.mutant, &self.redis) {
            redis.delete_consumer(self.shard, &self.consumer).await;
        }
        self.inner.leave().await
    }
}
