//! The requests of one shard that wait for admission, of all threads of the process.
//!
//! They wait together, so that few requests on many threads still form one group. The thread whose call ends
//! takes all that wait, also those of other threads, and their answers go back in one piece for each thread.
//! Only a full group does not wait for the call of another thread.
//!
//! This module must never hold back a request that could be sent, or lose the requests that wait for a call
//! whose thread ends.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, oneshot};

use super::admit_command::AdmitRequest;
use super::caller_answers::{Answer, CallerAnswers};
use crate::StreamError;
use millrace_event::entry;

/// Events in a group, unless its only batch has more.
const EVENTS_MAX: u32 = 4_096;
/// Bytes of rows in a group, before compression, unless its only batch has more.
const ROWS_BYTES_MAX: usize = 1 << 20;
/// Capacity of a queue. When it is full, callers wait for a slot.
const QUEUE_MAX: usize = 4_096;

/// A request whose caller waits for the decision.
pub(super) struct QueuedRequest {
    pub(super) request: AdmitRequest,
    pub(super) answer: oneshot::Sender<Answer>,
    /// Of the thread that the caller is on.
    pub(super) thread: Arc<CallerAnswers>,
}

/// The queue of one shard.
pub(super) struct ShardQueue {
    waiting: Mutex<Waiting>,
    slots: Semaphore,
    /// A thread has ended during its call.
    abandoned: Notify,
}

#[derive(Default)]
struct Waiting {
    requests: VecDeque<QueuedRequest>,
    /// Their sums.
    events: u64,
    rows_bytes: usize,
    /// Calls under way.
    calls: usize,
}

/// A call under way: another one begins when this is dropped, or with a full group.
pub(super) struct Call<'a> {
    queue: &'a ShardQueue,
    has_ended: bool,
}

impl Default for ShardQueue {
    fn default() -> Self {
        Self { waiting: Mutex::default(), slots: Semaphore::new(QUEUE_MAX), abandoned: Notify::default() }
    }
}

impl ShardQueue {
    /// Adds a request, after waiting for a slot. Returns whether a call can begin now.
    ///
    /// # Errors
    /// None: the queue is never closed.
    pub(super) async fn push(&self, queued: QueuedRequest) -> Result<bool, StreamError> {
        let slot = self.slots.acquire().await;
        slot.map_err(|_| StreamError::Unavailable("the stream is closing".to_owned()))?.forget();
        let mut waiting = self.waiting();
        waiting.push(queued);
        Ok(waiting.can_begin_call())
    }

    /// The requests of the next call. Waits until one can begin: `pushed` is notified of requests of this
    /// thread.
    pub(super) async fn next_call(&self, pushed: &Notify) -> (Call<'_>, Vec<QueuedRequest>) {
        loop {
            let mut abandoned = pin!(self.abandoned.notified());
            // From here on it misses nothing.
            abandoned.as_mut().enable();
            if let Some(call) = self.try_next_call() {
                return call;
            }
            tokio::select! {
                () = pushed.notified() => {}
                () = abandoned => {}
            }
        }
    }

    fn try_next_call(&self) -> Option<(Call<'_>, Vec<QueuedRequest>)> {
        let mut waiting = self.waiting();
        while waiting.can_begin_call() {
            let mut requests = waiting.take_call();
            self.slots.add_permits(requests.len());
            // A batch whose caller no longer waits is not admitted.
            requests.retain(|queued| !queued.answer.is_closed());
            if !requests.is_empty() {
                waiting.calls += 1;
                return Some((Call { queue: self, has_ended: false }, requests));
            }
        }
        None
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call<'_> {
    /// The call has an answer, or failed. The caller must look for the next one.
    pub(super) fn end(mut self) {
        self.has_ended = true;
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.queue.waiting().calls -= 1;
        if !self.has_ended {
            self.queue.abandoned.notify_waiters();
        }
    }
}

impl Waiting {
    fn push(&mut self, queued: QueuedRequest) {
        self.events += u64::from(queued.request.batch.count);
        self.rows_bytes += queued.request.batch.rows_bytes();
        self.requests.push_back(queued);
    }

    /// Whether nothing is under way, or a full group waits.
    fn can_begin_call(&self) -> bool {
        let is_full = self.requests.len() >= entry::BATCHES_MAX
            || self.events >= u64::from(EVENTS_MAX)
            || self.rows_bytes >= ROWS_BYTES_MAX;
        !self.requests.is_empty() && (self.calls == 0 || is_full)
    }

    fn take_call(&mut self) -> Vec<QueuedRequest> {
        let call = next_call(&mut self.requests);
        self.events -= call.iter().map(|queued| u64::from(queued.request.batch.count)).sum::<u64>();
        self.rows_bytes -= call.iter().map(|queued| queued.request.batch.rows_bytes()).sum::<usize>();
        call
    }
}

/// Removes the requests of the next call from the front: the first one, and those after it that fit.
fn next_call(waiting: &mut VecDeque<QueuedRequest>) -> Vec<QueuedRequest> {
    let mut call: Vec<QueuedRequest> = Vec::new();
    let (mut events, mut rows_bytes) = (0_u32, 0);
    while let Some(next) = waiting.front() {
        let batch = &next.request.batch;
        let (events_then, rows_bytes_then) =
            (events.saturating_add(batch.count), rows_bytes + batch.rows_bytes());
        let fits = call.first().is_none_or(|first| {
            call.len() < entry::BATCHES_MAX
                && events_then <= EVENTS_MAX
                && rows_bytes_then <= ROWS_BYTES_MAX
                && first.request.fits_with(&next.request)
        });
        if !fits {
            break;
        }
        (events, rows_bytes) = (events_then, rows_bytes_then);
        call.extend(waiting.pop_front());
    }
    call
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use uuid::Uuid;

    use super::*;
    use crate::redis::admit_command::AdmitPlan;
    use millrace_event::entry::NewBatch;
    use millrace_event::plan::ProjectId;

    fn queued(epoch: &str, count: u32, rows_bytes: usize) -> QueuedRequest {
        let request = AdmitRequest {
            epoch: Arc::new(epoch.to_owned()),
            batch: NewBatch::new(Uuid::nil(), ProjectId(1), count, vec![0; rows_bytes]),
            plan: AdmitPlan { project: ProjectId(1), interval_us: 1, quota: -1, tolerance_us: 1 },
            flags: "-",
            digest: None,
        };
        QueuedRequest { request, answer: oneshot::channel().0, thread: Arc::default() }
    }

    /// A request of one event whose caller waits.
    fn awaited() -> (QueuedRequest, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        (QueuedRequest { answer, ..queued("a", 1, 1) }, answered)
    }

    fn calls(mut waiting: VecDeque<QueuedRequest>) -> Vec<usize> {
        std::iter::from_fn(|| (!waiting.is_empty()).then(|| next_call(&mut waiting).len())).collect()
    }

    #[test]
    fn requests_of_different_epochs_are_in_different_calls() {
        let waiting = ["a", "a", "b", "a"].map(|epoch| queued(epoch, 1, 1));
        assert_eq!(calls(waiting.into()), [2, 1, 1]);
    }

    #[test]
    fn a_call_has_no_more_rows_and_events_than_an_entry_should_unless_one_batch_has() {
        let by_bytes = [ROWS_BYTES_MAX / 2, ROWS_BYTES_MAX / 2, 1, 2 * ROWS_BYTES_MAX, 1];
        assert_eq!(calls(by_bytes.map(|bytes| queued("a", 1, bytes)).into()), [2, 1, 1, 1]);
        let by_events = [EVENTS_MAX - 1, 1, 1, 2 * EVENTS_MAX];
        assert_eq!(calls(by_events.map(|events| queued("a", events, 1)).into()), [2, 1, 1]);
        let many = std::iter::repeat_with(|| queued("a", 1, 1)).take(entry::BATCHES_MAX + 1);
        assert_eq!(calls(many.collect()), [entry::BATCHES_MAX, 1]);
    }

    #[tokio::test]
    async fn requests_wait_for_the_call_of_another_thread_until_their_group_is_full() {
        let queue = ShardQueue::default();
        let (first, _first) = awaited();
        assert!(queue.push(first).await.unwrap(), "nothing is under way");
        let (call, requests) = queue.try_next_call().unwrap();
        assert_eq!(requests.len(), 1);
        let mut callers = Vec::new();
        for place in 1..=entry::BATCHES_MAX {
            let (next, caller) = awaited();
            callers.push(caller);
            assert_eq!(queue.push(next).await.unwrap(), place == entry::BATCHES_MAX, "{place}");
        }
        let (full, requests) = queue.try_next_call().unwrap();
        assert_eq!(requests.len(), entry::BATCHES_MAX);
        let (next, _next) = awaited();
        assert!(!queue.push(next).await.unwrap());
        full.end();
        assert!(queue.try_next_call().is_none(), "the first call is under way");
        call.end();
        assert_eq!(queue.try_next_call().unwrap().1.len(), 1);
    }

    #[tokio::test]
    async fn requests_that_wait_for_a_call_whose_thread_ends_are_sent_by_another_thread() {
        let queue = ShardQueue::default();
        let (first, _first) = awaited();
        queue.push(first).await.unwrap();
        let (call, _) = queue.try_next_call().unwrap();
        let (second, _second) = awaited();
        assert!(!queue.push(second).await.unwrap());
        let never_pushed = Notify::new();
        let mut next = pin!(queue.next_call(&never_pushed));
        assert!(next.as_mut().now_or_never().is_none());
        drop(call);
        assert_eq!(next.await.1.len(), 1);
    }

    #[tokio::test]
    async fn a_batch_whose_caller_has_left_is_not_sent_and_its_slot_is_free() {
        let queue = ShardQueue::default();
        for _ in 0..2 * QUEUE_MAX {
            let (left, caller) = awaited();
            drop(caller);
            assert!(queue.push(left).await.unwrap());
            assert!(queue.try_next_call().is_none());
        }
    }
}
