//! The state that all requests of one server share, on any of its threads.

use std::net::SocketAddr;
use std::sync::Arc;

use millrace_event::plan::ProjectId;
use millrace_reconcile::health::{ShardHealth, StreamHealth};
use millrace_reconcile::keeper::CheckPeriods;
use millrace_store::SharedStore;
use millrace_stream::{SharedStream, StreamError};
use tokio::sync::{Semaphore, watch};

use crate::accounts::Accounts;
use crate::audience::StatusPage;
use crate::batch_ids::BatchIds;
use crate::body_reader::BodyReader;
use crate::client_address::TrustedProxies;
use crate::config::Limits;
use crate::error::Problem;
use crate::rejections::Collector;
use crate::reports::ReportGate;
use crate::stage::Stage;
use crate::status::Status;

/// Clients that may wait for the outcome of their batch. A further one gets its answer without waiting.
const WAITERS_MAX: usize = 1_000;

/// The parts that a server is built from.
#[derive(Clone)]
pub struct Deps {
    /// Admits the batches.
    pub stream: SharedStream,
    /// Provides keys, plans and reports. It is never queried on the path of a batch.
    pub store: SharedStore,
    /// Batches are refused while their shard is not durable enough. It must have the shards of `stream`.
    pub stream_health: Arc<StreamHealth>,
    /// How often the server checks `stream_health`. `None` when another part of the process does.
    pub check_periods: Option<CheckPeriods>,
    pub status_page: StatusPage,
    pub trusted_proxies: TrustedProxies,
    pub limits: Limits,
}

/// A clone is the same server. Each thread that serves connections has one, so that no request counts
/// references that other threads count, too.
#[derive(Clone)]
pub struct Service {
    pub stream: SharedStream,
    pub store: SharedStore,
    pub limits: Limits,
    pub trusted_proxies: Arc<TrustedProxies>,
    pub accounts: Arc<Accounts>,
    pub stream_health: Arc<StreamHealth>,
    /// Of batches without an idempotency key. One for all threads, because they share the entries.
    pub batch_ids: Arc<BatchIds>,
    pub status: Arc<Status>,
    pub stage: watch::Receiver<Stage>,
    pub bodies: Arc<BodyReader>,
    pub reports: Arc<ReportGate>,
    /// What this process refuses, for the owners of projects.
    pub rejections: Arc<Collector>,
    /// One permit for each client that waits for the outcome of its batch.
    pub waiters: Arc<Semaphore>,
}

impl Service {
    /// A server at this address that has not read its accounts yet.
    pub fn new(deps: Deps, address: SocketAddr, stage: watch::Receiver<Stage>) -> Self {
        Self {
            batch_ids: Arc::new(BatchIds::new(deps.stream.shards())),
            stream: deps.stream,
            store: deps.store,
            limits: deps.limits,
            trusted_proxies: Arc::new(deps.trusted_proxies),
            accounts: Arc::default(),
            stream_health: deps.stream_health,
            status: Arc::new(Status::new(deps.status_page.audience(address), stage.clone())),
            stage,
            bodies: Arc::new(BodyReader::new(deps.limits)),
            reports: Arc::default(),
            rejections: Arc::default(),
            waiters: Arc::new(Semaphore::new(WAITERS_MAX)),
        }
    }

    /// The same server, for a thread that has a runtime of its own.
    pub fn for_another_runtime(&self) -> Self {
        Self { stream: Arc::clone(&self.stream).for_another_runtime(), ..self.clone() }
    }

    /// Whether the server is stopping.
    pub fn draining(&self) -> bool {
        *self.stage.borrow() > Stage::Serving
    }

    /// The health of the shard that the project belongs to.
    pub fn shard_health(&self, project: ProjectId) -> &ShardHealth {
        self.stream_health.shard(project.shard(self.stream.shards()))
    }

    /// The answer to a failed call of the stream for this project. Has its shard checked.
    pub fn stream_problem(&self, project: ProjectId, error: &StreamError) -> Problem {
        self.shard_health(project).call_failed(error);
        Problem::from(error)
    }
}
