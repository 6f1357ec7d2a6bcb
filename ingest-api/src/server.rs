//! The accept loop, the limits of a connection, and the drain.
//!
//! The server stops in three steps. First it reports that it is not ready and, after a grace period, stops
//! accepting. Every answer from then on ends its connection, so busy clients disconnect by themselves and no
//! request is cut off. After a pause, idle connections are closed. Requests that are still being answered
//! have until the deadline.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::head::{AnswerCount, HeadDeadline};
use crate::metrics;
use crate::routes;
use crate::service::Service;
use crate::stage::{Stage, reached};

/// Bytes of a request's head. A longer one is answered 431.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Bytes buffered of one connection while its body is read.
const READ_BUFFER_BYTES_MAX: usize = 128 << 10;
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
    service: Arc<Service>,
    stage: watch::Sender<Stage>,
    shutdown: impl Future<Output = ()>,
) -> usize {
    let connections_max = service.limits.connections_max;
    let slots = Arc::new(Semaphore::new(connections_max));
    let grace = service.limits.drain_grace;
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
                    start_connection(socket, &service, &slots);
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
        start_connection(socket, &service, &slots);
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

/// Serves a connection in its own task, or closes it when there are too many.
fn start_connection(socket: TcpStream, service: &Arc<Service>, slots: &Arc<Semaphore>) {
    let Ok(slot) = Arc::clone(slots).try_acquire_owned() else {
        metrics::connection_refused();
        return;
    };
    let connections_max = service.limits.connections_max;
    metrics::connections(connections_max - slots.available_permits(), connections_max);
    tokio::spawn(serve_connection(socket, Arc::clone(service), slot, Arc::clone(slots)));
}

async fn serve_connection(
    socket: TcpStream,
    service: Arc<Service>,
    slot: OwnedSemaphorePermit,
    slots: Arc<Semaphore>,
) {
    let connections_max = service.limits.connections_max;
    prepare_socket(&socket);
    let closing = reached(service.stage.clone(), Stage::Closing);
    let (head_time_max, idle_time_max) = (service.limits.header_timeout, service.limits.idle_timeout);
    let answers = AnswerCount::default();
    let socket = HeadDeadline::new(socket, answers.clone(), head_time_max);
    let answer = service_fn(move |request| {
        let guard = answers.begin();
        let answer = routes::answer(Arc::clone(&service), request);
        async move {
            let answer = answer.await;
            drop(guard);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(idle_time_max.max(head_time_max))
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(READ_BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(socket), answer)
    );
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = closing => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection failed");
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
