//! Sends all admissions that wait at the same time in one call. A call with many batches costs the server
//! little more than a call with one, and is fsynced once.
//!
//! There is no timer. A request that arrives while no call is under way is sent immediately; requests that
//! arrive during a call form the next one. One call at a time is enough, because Redis runs one script at a
//! time and syncs before it answers. A second call would only wait in the server, ahead of the reads of the
//! workers, and make the batches smaller.
//!
//! This module must never hold back a request that could be sent, or answer a request with the decision on
//! another.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::admit_command::{AdmitAnswer, AdmitRequest, admit_command, parse_answers};
use super::connection::Connections;
use super::keys::ShardKeys;
use super::replicated;
use super::scripts::Scripts;
use super::shard_witness::ShardWitnesses;
use crate::{AcknowledgedBatch, Decision, StreamError};

/// Batches in one call, at most: the server does nothing else meanwhile.
const BATCHES_MAX: usize = 64;
/// Packed bytes in one call. The batch that exceeds them is the call's last.
const BYTES_MAX: usize = 256 << 10;
/// Capacity of the admission queue. When it is full, callers wait for a slot.
const QUEUE_MAX: usize = 4_096;

/// A request whose caller waits for the decision.
struct QueuedRequest {
    request: AdmitRequest,
    answer: oneshot::Sender<Result<Decision, StreamError>>,
}

/// The queues of all shards. Each is emptied by its [`Batcher`].
pub(super) struct AdmissionQueue {
    queues: Vec<mpsc::Sender<QueuedRequest>>,
}

impl AdmissionQueue {
    /// Starts one batcher for each shard, with the connections of the shard. They end when the queue is
    /// dropped. `replicas` is how many must have a batch before it is answered; `None` when the server alone
    /// answers for it.
    pub(super) fn start(
        connections: impl Fn(u16) -> Arc<Connections>,
        scripts: &Arc<Scripts>,
        witnesses: &Arc<ShardWitnesses>,
        shards: u16,
        backlog_events_max: u64,
        replicas: Option<u32>,
    ) -> Self {
        let start = |shard| {
            let (queue, requests) = mpsc::channel(QUEUE_MAX);
            let batcher = Batcher {
                shard,
                keys: ShardKeys::new(shard),
                witnesses: Arc::clone(witnesses),
                scripts: Arc::clone(scripts),
                connections: connections(shard),
                backlog_events_max,
                replicas,
            };
            tokio::spawn(batcher.run(requests));
            queue
        };
        Self { queues: (0..shards).map(start).collect() }
    }

    /// Queues one request and waits for the decision.
    ///
    /// # Errors
    /// [`StreamError`], not counted.
    pub(super) async fn submit(&self, shard: u16, request: AdmitRequest) -> Result<Decision, StreamError> {
        let (answer, answered) = oneshot::channel();
        let closed = || StreamError::Unavailable("the stream is closing".to_owned());
        self.queues[usize::from(shard)]
            .send(QueuedRequest { request, answer })
            .await
            .map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }
}

/// Takes the requests of one shard off its queue and sends them in batches.
struct Batcher {
    shard: u16,
    keys: ShardKeys,
    witnesses: Arc<ShardWitnesses>,
    scripts: Arc<Scripts>,
    connections: Arc<Connections>,
    backlog_events_max: u64,
    replicas: Option<u32>,
}

impl Batcher {
    async fn run(self, mut queue: mpsc::Receiver<QueuedRequest>) {
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                let Some(first) = queue.recv().await else { return };
                waiting.push_back(first);
            }
            while waiting.len() < BATCHES_MAX
                && let Ok(next) = queue.try_recv()
            {
                waiting.push_back(next);
            }
            // A batch whose caller no longer waits is not admitted.
            waiting.retain(|queued| !queued.answer.is_closed());
            if !waiting.is_empty() {
                self.send(next_call(&mut waiting)).await;
            }
        }
    }

    /// Makes one call and answers every caller in it.
    async fn send(&self, call: Vec<QueuedRequest>) {
        let requests: Vec<_> = call.iter().map(|queued| &queued.request).collect();
        let script = &self.scripts.admit;
        let command = admit_command(script, &self.keys, self.backlog_events_max, &requests);
        let answered = match self.replicas {
            None => {
                let answer = self.connections.try_eval(script, &command).await;
                answer.and_then(|answer| parse_answers(answer, call.len()))
            }
            Some(replicas) => {
                let connections = &self.connections;
                replicated::admit(connections, self.shard, script, command, call.len(), replicas).await
            }
        };
        let answers = match answered {
            Ok(answers) => answers,
            Err(error) => vec![Err(error); call.len()],
        };
        self.remember(&requests, &answers);
        for (queued, answer) in call.into_iter().zip(answers) {
            // A caller that no longer waits can repeat the request safely, because of its batch id.
            queued.answer.send(answer.map(|answer| answer.decision)).ok();
        }
    }

    /// Remembers what is in the stream, before any caller is answered.
    fn remember(&self, requests: &[&AdmitRequest], answers: &[Result<AdmitAnswer, StreamError>]) {
        let Some(known) = self.witnesses.shard(self.shard) else { return };
        known.acknowledged.remember(requests.iter().zip(answers).filter_map(|(request, answer)| {
            let packed = &request.packed;
            let id = answer.as_ref().ok()?.entry?;
            Some(AcknowledgedBatch {
                id,
                batch_id: packed.batch_id,
                project: packed.project,
                count: packed.count,
            })
        }));
    }
}

/// Removes the requests of the next call from the front: the first one, and those after it that fit.
fn next_call(waiting: &mut VecDeque<QueuedRequest>) -> Vec<QueuedRequest> {
    let mut call: Vec<QueuedRequest> = Vec::new();
    let mut bytes = 0;
    while let Some(next) = waiting.front() {
        let fits =
            call.first().is_none_or(|first| bytes < BYTES_MAX && first.request.fits_with(&next.request));
        if !fits {
            break;
        }
        bytes += next.request.bytes();
        call.extend(waiting.pop_front());
    }
    call
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use millrace_event::entry::PackedBatch;
    use millrace_event::plan::ProjectId;

    fn queued(epoch: &str, bytes: usize) -> QueuedRequest {
        let request = AdmitRequest {
            project_key: String::new(),
            marker_key: String::new(),
            epoch: Arc::new(epoch.to_owned()),
            packed: PackedBatch {
                batch_id: Uuid::nil(),
                project: ProjectId(1),
                count: 1,
                rows_bytes: 1,
                data: vec![0; bytes].into(),
            },
            interval_us: 1,
            tolerance_us: 1,
            quota: -1,
            flags: "-",
            digest: None,
        };
        QueuedRequest { request, answer: oneshot::channel().0 }
    }

    fn calls(mut waiting: VecDeque<QueuedRequest>) -> Vec<usize> {
        std::iter::from_fn(|| (!waiting.is_empty()).then(|| next_call(&mut waiting).len())).collect()
    }

    #[test]
    fn requests_of_different_epochs_are_in_different_calls() {
        let waiting = ["a", "a", "b", "a"].map(|epoch| queued(epoch, 1));
        assert_eq!(calls(waiting.into()), [2, 1, 1]);
    }

    #[test]
    fn a_call_ends_with_the_request_that_exceeds_its_bytes() {
        let waiting = [BYTES_MAX / 2, BYTES_MAX, 1, 2 * BYTES_MAX].map(|bytes| queued("a", bytes));
        assert_eq!(calls(waiting.into()), [2, 2]);
    }
}
