//! What all requests share: the two places an event can be, the accounts, and the limits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::HeaderMap;
use millrace_reconcile::health::StreamHealth;
use millrace_reconcile::keeper::CheckPeriods;
use millrace_store::SharedStore;
use millrace_stream::SharedStream;
use time::OffsetDateTime;
use tokio::sync::{Semaphore, watch};

use crate::accounts::{Accounts, Known};
use crate::auth;
use crate::body::{Budget, Reserved, Upload};
use crate::config::Limits;
use crate::encoding::{self, DecodeError, Encoding};
use crate::error::Problem;
use crate::status::{Status, StatusPage};

/// WriteRequest on up to this many bytes is done where it stands: it takes less time than handing it over would disturb.
/// WriteRequest on more goes to a thread of its own, so that it delays no other connection.
const INLINE_BYTES_MAX: usize = 256 << 10;
/// Clients that may wait for the outcome of their batch at once; one more is answered without waiting.
const WAITERS_MAX: usize = 1_000;
/// Reports that may be under way at once, so that a slow store cannot gather requests without end.
const REPORTS_MAX: usize = 64;
/// How long a report may take.
const REPORT_TIME_MAX: Duration = Duration::from_secs(5);

/// What the server is made of.
#[derive(Clone)]
pub struct Deps {
    /// Where batches go.
    pub stream: SharedStream,
    /// Where keys, plans and reports come from. Never asked on the way of a batch.
    pub store: SharedStore,
    /// Events are refused while the stream is not durable enough.
    pub stream_health: Arc<StreamHealth>,
    /// How often the server checks `stream_health`; `None` when another part of the process does.
    pub check_periods: Option<CheckPeriods>,
    /// Who may see the status page.
    pub status_page: StatusPage,
    /// See [`Limits`].
    pub limits: Limits,
}

/// How far the server is in stopping.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// Serving.
    Serving,
    /// Not ready any more; every answer is the last one of its connection.
    Draining,
    /// Idle connections are closed, too.
    Closing,
}

/// Returns when the server has come this far.
pub async fn reached(mut stage: watch::Receiver<Stage>, at_least: Stage) {
    if stage.wait_for(|stage| *stage >= at_least).await.is_err() {
        tracing::debug!("the server is gone");
    }
}

/// One server's state.
pub struct Service {
    /// See [`Deps::stream`].
    pub stream: SharedStream,
    /// See [`Deps::store`].
    pub store: SharedStore,
    /// See [`Limits`].
    pub limits: Limits,
    /// Keys and plans.
    pub accounts: Accounts,
    /// See [`Deps::stream_health`].
    pub stream_health: Arc<StreamHealth>,
    /// What the status page is told.
    pub status: Status,
    /// See [`Stage`].
    pub stage: watch::Receiver<Stage>,
    /// Clients that wait for an outcome.
    pub waiters: Arc<Semaphore>,
    reports: Semaphore,
    budget: Arc<Budget>,
    large_work: Arc<Semaphore>,
}

/// A body that is here.
pub struct Received {
    /// As it was sent, for signatures.
    pub raw: Bytes,
    /// As it is read.
    pub decoded: Bytes,
    /// Held until the answer is made.
    pub reserved: Reserved,
}

impl Service {
    /// A server at this address that has not read its accounts yet.
    pub fn new(deps: Deps, address: SocketAddr, stage: watch::Receiver<Stage>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            stream: deps.stream,
            store: deps.store,
            limits: deps.limits,
            accounts: Accounts::default(),
            stream_health: deps.stream_health,
            status: Status::new(deps.status_page.audience(address)),
            stage,
            waiters: Arc::new(Semaphore::new(WAITERS_MAX)),
            reports: Semaphore::new(REPORTS_MAX),
            budget: Budget::new(deps.limits.bodies_in_flight_bytes_max),
            large_work: Arc::new(Semaphore::new(cores)),
        }
    }

    /// Whether the server is on its way out.
    pub fn draining(&self) -> bool {
        *self.stage.borrow() > Stage::Serving
    }

    /// The account of the key in the head of a request.
    ///
    /// # Errors
    /// [`Problem::Unauthenticated`], or [`Problem::Overloaded`] before the accounts are known.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Arc<Known>, Problem> {
        let known = self.accounts.open(&auth::key_in_head(headers)?, OffsetDateTime::now_utc())?;
        known.touch();
        Ok(known)
    }

    /// Reads and decodes a body.
    ///
    /// # Errors
    /// What [`Upload::receive`] and [`encoding::decode`] say.
    pub async fn receive(&self, upload: Upload, encoding: Encoding) -> Result<Received, Problem> {
        let mut reserved = self.budget.open();
        let limits = &self.limits;
        let raw = upload.receive(&mut reserved, limits.body_bytes_max, limits.body_timeout).await?;
        let decoded = self.decode(encoding, &raw).await?;
        if encoding != Encoding::Identity {
            reserved.grow(decoded.len())?;
        }
        Ok(Received { raw, decoded, reserved })
    }

    async fn decode(&self, encoding: Encoding, raw: &Bytes) -> Result<Bytes, DecodeError> {
        let bytes_max = self.limits.body_decoded_bytes_max;
        let inline_max =
            if encoding == Encoding::Identity { bytes_max } else { INLINE_BYTES_MAX.min(bytes_max) };
        // How large the result is, only decoding tells: begin here, and start over elsewhere when it is large.
        match encoding::decode(encoding, raw, inline_max) {
            Err(DecodeError::TooLarge { max }) if max < bytes_max => {
                let raw = raw.clone();
                self.apart(move || encoding::decode(encoding, &raw, bytes_max)).await
            }
            decoded => decoded,
        }
    }

    /// Does work on this many bytes: here, or apart when they are many.
    pub async fn work<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if bytes <= INLINE_BYTES_MAX { work() } else { self.apart(work).await }
    }

    async fn apart<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        // More large pieces of work than cores would only take memory and time from each other.
        let turn = Arc::clone(&self.large_work).acquire_owned().await.expect("never closed");
        let working = tokio::task::spawn_blocking(move || {
            // The work goes on when its client is gone, and keeps its turn.
            let _turn = turn;
            work()
        });
        match working.await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Asks the store for a report, within bounds.
    ///
    /// # Errors
    /// [`Problem::StoreUnavailable`] when it fails or takes too long, [`Problem::Overloaded`] when too many ask.
    pub async fn report<T>(
        &self,
        question: impl Future<Output = Result<T, millrace_store::StoreError>>,
    ) -> Result<T, Problem> {
        let _turn = self
            .reports
            .try_acquire()
            .map_err(|_| Problem::Overloaded("too many reports are being made at once"))?;
        match tokio::time::timeout(REPORT_TIME_MAX, question).await {
            Ok(report) => Ok(report?),
            Err(_) => Err(Problem::StoreUnavailable),
        }
    }
}
