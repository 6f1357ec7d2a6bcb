//! Clients that admit batches to some shards for as long as a test needs, and what they were answered.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millrace_event::entry::PackedBatch;
use millrace_event::plan::ProjectId;
use millrace_stream::redis::{RedisOptions, RedisStream};
use millrace_stream::{Admission, BatchId, Decision, EntryId, SharedStream, StreamError};
use testkit::eventually;
use tokio::task::{JoinHandle, JoinSet};
use uuid::Uuid;

use crate::suite::*;

/// A pause after a refusal, so that a shard that is away is not asked in a tight loop.
const PAUSE: Duration = Duration::from_millis(5);

/// Opens a stream of this many shards, with a new and trusted epoch in each.
pub async fn open_shards(url: &str, shards: u16) -> SharedStream {
    let stream: SharedStream = RedisStream::new(RedisOptions { shards, ..RedisOptions::new(url) }).unwrap();
    prepare_shards(&stream, shards).await;
    stream
}

/// Begins a new and trusted epoch in each shard.
pub async fn prepare_shards(stream: &SharedStream, shards: u16) {
    for shard in 0..shards {
        eventually(DEADLINE, &format!("shard {shard}"), async || stream.epoch(shard).await).await;
        stream.fence(shard, EPOCH).await.unwrap();
        assert!(stream.rebuild(shard, EPOCH, &[], &[], EntryId::default()).await.unwrap());
        stream.trust_epoch(shard, EPOCH);
    }
}

/// Admits one batch to a shard. Its project has the shard's number.
pub async fn admit_to(stream: &SharedStream, shard: u16, batch_id: BatchId) -> Result<Decision, StreamError> {
    let packed = PackedBatch::pack(batch_id, ProjectId(shard.into()), 1, b"row");
    let plan = plan();
    stream.admit(&Admission { packed: &packed, plan: &plan, digest: None, awaited: false }).await
}

/// Waits until a batch is admitted to the shard.
pub async fn admitted_to(stream: &SharedStream, shard: u16) -> BatchId {
    let what = format!("an admission to shard {shard}");
    eventually(LONG, &what, async || {
        let batch_id = Uuid::now_v7();
        admit_to(stream, shard, batch_id).await.map(|decision| {
            assert_admitted(decision);
            batch_id
        })
    })
    .await
}

/// For a failover on a slow machine.
pub const LONG: Duration = Duration::from_secs(60);

/// Every batch in a shard.
pub async fn batches_in(stream: &SharedStream, shard: u16) -> HashSet<BatchId> {
    let pending = eventually(LONG, "the batches", async || stream.pending_batches(shard).await).await;
    pending.iter().map(|batch| batch.batch_id).collect()
}

/// What the clients were answered.
#[derive(Default, Debug)]
pub struct Answers {
    pub acknowledged: Vec<BatchId>,
    pub unknown: Vec<BatchId>,
    pub refused: Vec<(BatchId, StreamError)>,
}

/// Clients of one shard.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Answers>>,
}

impl Load {
    pub fn start(stream: &SharedStream, shard: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (stream, stop) = (Arc::clone(stream), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut answers = Answers::default();
                while !stop.load(Ordering::Relaxed) {
                    let batch_id = Uuid::now_v7();
                    match admit_to(&stream, shard, batch_id).await {
                        Ok(decision) => {
                            assert_admitted(decision);
                            answers.acknowledged.push(batch_id);
                            continue;
                        }
                        Err(StreamError::Unknown(_)) => answers.unknown.push(batch_id),
                        Err(error) => answers.refused.push((batch_id, error)),
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                answers
            })
        };
        let clients = (0..4).map(client).collect();
        Self { stop, clients }
    }

    pub async fn end(self) -> Answers {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Answers::default();
        for client in self.clients {
            let answers = client.await.unwrap();
            all.acknowledged.extend(answers.acknowledged);
            all.unknown.extend(answers.unknown);
            all.refused.extend(answers.refused);
        }
        all
    }
}

/// Eight clients with connections of their own, which admit batches of two events until the first call that
/// the server does not answer.
pub struct UntilLost(JoinSet<Vec<BatchId>>);

impl UntilLost {
    pub async fn start(harness: &dyn Harness) -> Self {
        let mut clients = JoinSet::new();
        for _ in 0..8 {
            let stream = another(harness).await;
            clients.spawn(async move {
                let mut acknowledged = Vec::new();
                loop {
                    let (packed, plan) = (batch(2), plan());
                    let admission = Admission { packed: &packed, plan: &plan, digest: None, awaited: false };
                    match stream.admit(&admission).await {
                        Ok(decision) => {
                            assert_admitted(decision);
                            acknowledged.push(packed.batch_id);
                        }
                        Err(StreamError::Unknown(_) | StreamError::Unavailable(_)) => return acknowledged,
                        Err(error) => panic!("{error:?}"),
                    }
                }
            });
        }
        Self(clients)
    }

    /// The batches that were acknowledged, once every client has lost the server.
    pub async fn acknowledged(mut self) -> Vec<BatchId> {
        let mut acknowledged = Vec::new();
        while let Some(client) = self.0.join_next().await {
            acknowledged.extend(client.unwrap());
        }
        acknowledged
    }
}
