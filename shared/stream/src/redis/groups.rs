//! Admissions that wait at the same moment go in one call: it costs the server little more than one of them alone, and is
//! fsynced once.
//!
//! There is no timer. A request that finds no call under way goes at once, alone; only while one is do others gather
//! behind it. One call at a time is enough, for the server runs one at a time and syncs before it answers: a second one
//! under way would wait there, in front of the readers, and take away from the groups what makes them cheap. What this
//! room must never do: keep a request back that could go, or answer one with the verdict of another.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::admit::{Request, call, verdicts};
use super::connection::{Connections, Script};
use super::keys::ShardKeys;
use crate::{Decision, StreamError};

/// Batches of one call, at most: the server does nothing else meanwhile.
const BATCHES_MAX: usize = 64;
/// PackedBatch bytes of one call, its last batch aside.
const BYTES_MAX: usize = 256 << 10;
/// Requests that wait before callers wait to be let wait.
const QUEUE_MAX: usize = 4_096;

/// Somebody who waits for a verdict.
struct Waiting {
    request: Request,
    answer: oneshot::Sender<Result<Decision, StreamError>>,
}

/// The ways in, one for each shard.
pub(super) struct Groups {
    queues: Vec<mpsc::Sender<Waiting>>,
}

impl Groups {
    /// Begins to take requests. They end when this is dropped.
    pub(super) fn start(connections: &Arc<Connections>, shards: u16, backlog_events_max: u64) -> Self {
        let script = Arc::new(super::admit::script());
        let start = |shard| {
            let (queue, waiting) = mpsc::channel(QUEUE_MAX);
            let way = Way {
                keys: ShardKeys::new(shard),
                script: Arc::clone(&script),
                connections: Arc::clone(connections),
                backlog_events_max,
            };
            tokio::spawn(way.run(waiting));
            queue
        };
        Self { queues: (0..shards).map(start).collect() }
    }

    /// Has one batch admitted.
    ///
    /// # Errors
    /// [`StreamError`], not counted.
    pub(super) async fn admit(&self, shard: u16, request: Request) -> Result<Decision, StreamError> {
        let (answer, answered) = oneshot::channel();
        let gone = || StreamError::Unavailable("the stream is being closed".to_owned());
        self.queues[usize::from(shard)].send(Waiting { request, answer }).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// The way into one shard.
struct Way {
    keys: ShardKeys,
    script: Arc<Script>,
    connections: Arc<Connections>,
    backlog_events_max: u64,
}

impl Way {
    async fn run(self, mut waiting: mpsc::Receiver<Waiting>) {
        let mut gathered = VecDeque::new();
        loop {
            if gathered.is_empty() {
                let Some(first) = waiting.recv().await else { return };
                gathered.push_back(first);
            }
            while gathered.len() < BATCHES_MAX
                && let Ok(next) = waiting.try_recv()
            {
                gathered.push_back(next);
            }
            // Who has gone away is not admitted for nothing.
            gathered.retain(|waiting| !waiting.answer.is_closed());
            if !gathered.is_empty() {
                self.ask(next_group(&mut gathered)).await;
            }
        }
    }

    /// Makes one call and tells everybody in it.
    async fn ask(&self, group: Vec<Waiting>) {
        let requests: Vec<_> = group.iter().map(|waiting| &waiting.request).collect();
        let command = call(&self.script, &self.keys, self.backlog_events_max, &requests);
        let answer = self.connections.eval(&self.script, &command).await;
        let answers = match answer.and_then(|answer| verdicts(answer, group.len())) {
            Ok(answers) => answers,
            Err(error) => vec![Err(error); group.len()],
        };
        for (waiting, answer) in group.into_iter().zip(answers) {
            // Whoever asked may have gone away; the batch id makes it safe to ask again.
            waiting.answer.send(answer).ok();
        }
    }
}

/// As many of those gathered as go together, the first of them in any case.
fn next_group(gathered: &mut VecDeque<Waiting>) -> Vec<Waiting> {
    let mut group: Vec<Waiting> = Vec::new();
    let mut bytes = 0;
    while let Some(next) = gathered.front() {
        let goes_along =
            group.first().is_none_or(|first| bytes < BYTES_MAX && first.request.goes_with(&next.request));
        if !goes_along {
            break;
        }
        bytes += next.request.bytes();
        group.extend(gathered.pop_front());
    }
    group
}
