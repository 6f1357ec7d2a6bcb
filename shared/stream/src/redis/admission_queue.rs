//! Sends all admissions that wait at the same time as a group: in one call, and in one entry. A call with
//! many batches costs the server little more than a call with one, and is fsynced once.
//!
//! There is no timer. A request that arrives while no call is under way is sent immediately; requests that
//! arrive during a call form the next one. One call at a time is enough until a group is full, because Redis
//! runs one script at a time and syncs before it answers. A second call would only wait in the server, ahead
//! of the reads of the workers, and make the groups smaller.
//!
//! Each thread that serves clients has a batcher for each shard, with a connection of its own. They share the
//! queue of the shard (`shard_queue`).
//!
//! This module must never answer a request with the decision on another.

use std::sync::Arc;

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::admit_command::{AdmitAnswer, AdmitRequest, admit_command, parse_answers};
use super::caller_answers::CallerAnswers;
use super::connection::OwnConnection;
use super::core::Core;
use super::keys::ShardKeys;
use super::replicated;
use super::scripts::Scripts;
use super::shard_queue::{QueuedRequest, ShardQueue};
use super::shard_witness::{ShardWitnesses, TrustedEpoch};
use crate::{AcknowledgedBatch, Decision, StreamError};
use millrace_event::entry::{NewBatch, PackedEntry};

/// What one thread needs to admit batches.
pub(super) struct AdmissionQueue {
    shards: Vec<ThreadQueue>,
    answers: Arc<CallerAnswers>,
    tasks: Vec<JoinHandle<()>>,
}

/// The queue of a shard, and how to wake the batcher of this thread.
struct ThreadQueue {
    queue: Arc<ShardQueue>,
    pushed: Arc<Notify>,
}

impl AdmissionQueue {
    /// Starts one batcher for each shard in this runtime. They end when this is dropped.
    pub(super) fn start(core: &Core) -> Self {
        let answers = Arc::new(CallerAnswers::default());
        let mut tasks = vec![tokio::spawn(Arc::clone(&answers).pass_on())];
        let mut shards = Vec::new();
        for (shard, queue) in (0..core.shard_count).zip(&core.queues) {
            let (queue, pushed) = (Arc::clone(queue), Arc::new(Notify::new()));
            let batcher = Batcher {
                shard,
                keys: ShardKeys::new(shard),
                witnesses: Arc::clone(&core.witnesses),
                scripts: Arc::clone(&core.scripts),
                connection: core.link(shard).connections.open_own(),
                backlog_events_max: core.backlog_events_max,
                replicas: core.replicas(),
                answers: Arc::clone(&answers),
            };
            tasks.push(tokio::spawn(batcher.run(Arc::clone(&queue), Arc::clone(&pushed))));
            shards.push(ThreadQueue { queue, pushed });
        }
        Self { shards, answers, tasks }
    }

    /// Queues one request and waits for the decision.
    ///
    /// # Errors
    /// [`StreamError`], not counted.
    pub(super) async fn submit(&self, shard: u16, request: AdmitRequest) -> Result<Decision, StreamError> {
        let (answer, answered) = oneshot::channel();
        let ThreadQueue { queue, pushed } = &self.shards[usize::from(shard)];
        let queued = QueuedRequest { request, answer, thread: Arc::clone(&self.answers) };
        if queue.push(queued).await? {
            pushed.notify_one();
        }
        // It may have been sent when its batcher ended.
        answered.await.unwrap_or_else(|_| Err(StreamError::Unknown("the stream is closing".to_owned())))
    }
}

impl Drop for AdmissionQueue {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Takes the requests of one shard off its queue and sends them in groups.
struct Batcher {
    shard: u16,
    keys: ShardKeys,
    witnesses: Arc<ShardWitnesses>,
    scripts: Arc<Scripts>,
    connection: OwnConnection,
    backlog_events_max: u64,
    /// How many must have a batch before it is answered; `None` when the server alone answers for it.
    replicas: Option<u32>,
    /// Of the thread that this batcher runs on.
    answers: Arc<CallerAnswers>,
}

impl Batcher {
    async fn run(self, queue: Arc<ShardQueue>, pushed: Arc<Notify>) {
        loop {
            let (call, requests) = queue.next_call(&pushed).await;
            self.send(requests).await;
            call.end();
        }
    }

    /// Makes one call and answers every caller in it.
    async fn send(&self, call: Vec<QueuedRequest>) {
        let requests: Vec<_> = call.iter().map(|queued| &queued.request).collect();
        let answers = match self.ask(&requests).await {
            Ok(answers) => answers,
            // Nothing was sent.
            Err(StreamError::EpochChanged) => vec![Ok(AdmitAnswer::EPOCH_CHANGED); call.len()],
            Err(error) => vec![Err(error); call.len()],
        };
        self.remember(&requests, &answers);
        self.answer(call.into_iter().zip(answers));
    }

    /// The answer to each of these requests, which have one epoch. It may have been withdrawn while they
    /// waited.
    async fn ask(
        &self,
        requests: &[&AdmitRequest],
    ) -> Result<Vec<Result<AdmitAnswer, StreamError>>, StreamError> {
        let (Some(known), Some(first)) = (self.witnesses.shard(self.shard), requests.first()) else {
            return Err(StreamError::EpochChanged);
        };
        let epoch = TrustedEpoch { known, epoch: &first.epoch };
        let script = &self.scripts.admit;
        let entry = PackedEntry::pack(requests.iter().map(|request| &request.batch));
        let command = admit_command(script, &self.keys, self.backlog_events_max, requests, &entry);
        match self.replicas {
            None => {
                let answer = self.connection.eval_under(epoch, script, &command).await;
                answer.and_then(|answer| parse_answers(answer, requests.len()))
            }
            Some(replicas) => {
                replicated::admit(&self.connection, epoch, script, command, requests.len(), replicas).await
            }
        }
    }

    /// Answers every caller, those of another thread together.
    fn answer(&self, call: impl Iterator<Item = (QueuedRequest, Result<AdmitAnswer, StreamError>)>) {
        let mut elsewhere: Vec<(Arc<CallerAnswers>, Vec<_>)> = Vec::new();
        for (QueuedRequest { answer: caller, thread, .. }, answer) in call {
            let answer = answer.map(|answer| answer.decision);
            if Arc::ptr_eq(&thread, &self.answers) {
                // A caller that no longer waits can repeat the request safely, because of its batch id.
                caller.send(answer).ok();
                continue;
            }
            match elsewhere.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &thread)) {
                Some((_, answers)) => answers.push((caller, answer)),
                None => elsewhere.push((thread, vec![(caller, answer)])),
            }
        }
        for (thread, answers) in elsewhere {
            thread.add(answers);
        }
    }

    /// Remembers what is in the stream, before any caller is answered.
    fn remember(&self, requests: &[&AdmitRequest], answers: &[Result<AdmitAnswer, StreamError>]) {
        let Some(known) = self.witnesses.shard(self.shard) else { return };
        known.acknowledged.remember(requests.iter().zip(answers).filter_map(|(request, answer)| {
            let NewBatch { batch_id, project, count, .. } = request.batch;
            let id = answer.as_ref().ok()?.entry?;
            Some(AcknowledgedBatch { id, batch_id, project, count })
        }));
    }
}
