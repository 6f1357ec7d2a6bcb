//! The rate of an HTTP server that reads requests and ignores them. It uses the same library and settings as
//! ingest-api.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use testkit::{Launch, Program};
use tokio::net::TcpListener;

use crate::error::BenchError;
use crate::load::{self, Load, Pacing, Shape, Target};
use crate::results::Ceiling;

const CONNECTIONS: usize = 64;
const WARM_UP: Duration = Duration::from_millis(500);

pub(super) async fn measure(events: usize, window: Duration) -> Result<Ceiling, BenchError> {
    let mut program = Program::launch("bench", &Launch { arguments: &["serve-empty"], ..Launch::default() });
    let target = Target::new(program.address().await, "none");
    let shape = Shape::new(events..=events);
    let (connections, pacing, warm_up) = (CONNECTIONS, Pacing::ClosedLoop, WARM_UP);
    let load = Load { target, shape, connections, pacing, warm_up, window };
    let tally = load::start(&load).await?.finish().await?;
    let per_s = tally.requests as f64 / window.as_secs_f64();
    let events_per_s = per_s * events as f64;
    Ok(Ceiling { name: "empty hyper server".to_owned(), events_per_batch: events, per_s, events_per_s })
}

/// Serves until the process is killed.
///
/// # Errors
/// When the server cannot listen.
pub async fn serve() -> Result<(), BenchError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // The task ends when the client closes the connection.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    // An incomplete body also ends the connection, so the error can be ignored.
    drop(request.into_body().collect().await);
    Ok(Response::new(Full::new(Bytes::from_static(b"{}"))))
}
