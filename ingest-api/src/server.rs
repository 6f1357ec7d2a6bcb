//! The accept loop, the number of connections, and the drain.
//!
//! The server stops in three steps. First it reports that it is not ready and, after a grace period, stops
//! accepting. Every answer from then on ends its connection, so busy clients disconnect by themselves and no
//! request is cut off. After a pause, idle connections are closed. Requests that are still being answered
//! have until the deadline.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::config::Limits;
use crate::connection::{self, ConnectionTimes};
use crate::cores::Cores;
use crate::metrics;
use crate::routes;
use crate::service::Service;
use crate::stage::{Stage, reached};

/// A busy client sends its next request sooner, and an SDK later.
const REST_AFTER: Duration = Duration::from_secs(1);
/// A client that does not acknowledge data for this long is gone.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(20);
/// How long to wait after the operating system refused a connection (no file descriptors left).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// While draining, how long an idle connection may still send a request.
const IDLE_GRACE: Duration = Duration::from_millis(1_000);
/// From the end of accepting until all connections are dropped.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(8);

/// Accepts and serves until `shutdown` is ready, then drains. Returns how many connections did not end in
/// time.
pub async fn serve(
    listener: TcpListener,
    cores: &Cores<Service>,
    limits: Limits,
    stage: watch::Sender<Stage>,
    shutdown: impl Future<Output = ()>,
) -> usize {
    let Limits { connections_max, drain_grace: grace, .. } = limits;
    let slots = Arc::new(Semaphore::new(connections_max));
    let mut stop = pin!(async {
        shutdown.await;
        tracing::info!("stopping; /readyz answers 503 from now on");
        stage.send_replace(Stage::Draining);
        tokio::time::sleep(grace).await;
    });
    let mut failing = false;
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    failing = false;
                    start_connection(socket, cores, connections_max, &slots);
                }
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, "cannot accept connections; trying again");
                    }
                    failing = true;
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // Dropping the listener would reset connections that the operating system has accepted already.
    while let Some(Ok((socket, _))) = futures_util::FutureExt::now_or_never(listener.accept()) {
        start_connection(socket, cores, connections_max, &slots);
    }
    drop(listener);
    drain(&stage, &slots, connections_max).await
}

async fn drain(stage: &watch::Sender<Stage>, slots: &Semaphore, connections_max: usize) -> usize {
    let all = u32::try_from(connections_max).expect("the setting is bounded");
    let deadline = tokio::time::Instant::now() + DRAIN_TIME_MAX;
    if tokio::time::timeout(IDLE_GRACE, slots.acquire_many(all)).await.is_ok() {
        return 0;
    }
    stage.send_replace(Stage::Closing);
    if tokio::time::timeout_at(deadline, slots.acquire_many(all)).await.is_ok() {
        return 0;
    }
    connections_max - slots.available_permits()
}

/// Serves a connection on one of the threads, or closes it when there are too many.
fn start_connection(
    socket: TcpStream,
    cores: &Cores<Service>,
    connections_max: usize,
    slots: &Arc<Semaphore>,
) {
    let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
        metrics::connection_refused();
        return;
    };
    metrics::connections(connections_max - slots.available_permits(), connections_max);
    prepare_socket(&socket);
    // This runtime forgets the socket. That of the thread that serves it waits for its bytes.
    match socket.into_std() {
        Ok(socket) => {
            let slots = Arc::clone(slots);
            cores.serve(move |service| serve_connection(socket, service, slot, slots));
        }
        Err(error) => tracing::debug!(%error, "cannot hand over a socket"),
    }
}

async fn serve_connection(
    socket: std::net::TcpStream,
    service: Arc<Service>,
    slot: OwnedSemaphorePermit,
    slots: Arc<Semaphore>,
) {
    let Limits { connections_max, header_timeout, idle_timeout, .. } = service.limits;
    let closing = reached(service.stage.clone(), Stage::Closing);
    let times = ConnectionTimes { head: header_timeout, idle: idle_timeout, rest_after: REST_AFTER };
    let answer = |request, state| routes::answer(Arc::clone(&service), request, state);
    match TcpStream::from_std(socket) {
        Ok(socket) => {
            if let Err(error) = connection::serve(socket, answer, times, closing).await {
                tracing::debug!(%error, "a connection failed");
            }
        }
        Err(error) => tracing::debug!(%error, "cannot take over a socket"),
    }
    drop(slot);
    metrics::connections(connections_max - slots.available_permits(), connections_max);
}

fn prepare_socket(socket: &TcpStream) {
    let options = socket2::SockRef::from(socket);
    let prepared =
        socket.set_nodelay(true).and_then(|()| options.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX)));
    if let Err(error) = prepared {
        tracing::debug!(%error, "cannot set the options of a socket");
    }
}
