//! One connection, from its first byte to its end.
//!
//! hyper holds 16 KiB of buffers for each connection and memory for an answer. An SDK keeps its connection
//! open and is silent most of the time, so a connection without a request for a second or two is taken apart:
//! only its socket is kept, and hyper gets it back when bytes arrive. This module must never take a
//! connection apart while anything is half received or half sent.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1::{self, Parts};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::answer::{self, Answer};
use crate::client_socket::ClientSocket;
use crate::connection_state::ConnectionState;

/// Bytes of a request's head. A longer one is answered 431.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Bytes buffered of one connection while its body is read.
const READ_BUFFER_BYTES_MAX: usize = 128 << 10;

/// The deadlines of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConnectionTimes {
    /// For a head, from its first byte.
    pub head: Duration,
    /// Without a request, until the connection is closed.
    pub idle: Duration,
    /// Without a request, until its memory is released; up to twice as long.
    pub rest_after: Duration,
}

/// How a conversation ended.
enum Ended<S> {
    Closed(hyper::Result<()>),
    /// The client is silent.
    Resting(Parts<TokioIo<ClientSocket>, S>),
}

/// Answers all requests of a client, until it leaves, a deadline passes, or `closing` is ready and the
/// request that is being answered has its answer.
///
/// # Errors
/// Why the connection ended early.
pub async fn serve<A: Future<Output = Answer>>(
    socket: TcpStream,
    answer: impl Fn(Request<Incoming>, ConnectionState) -> A,
    times: ConnectionTimes,
    closing: impl Future<Output = ()>,
) -> hyper::Result<()> {
    let peer = socket.peer_addr().ok().map(|address| address.ip());
    let state = ConnectionState::from_peer(peer);
    let mut closing = pin!(closing);
    let mut socket = ClientSocket::new(socket, state.clone(), times.head);
    let mut service = service_fn(|request| {
        let guard = state.begin_answer();
        let answering = answer(request, state.clone());
        let state = &state;
        async move {
            let answer = answering.await;
            if answer::is_stream(&answer) {
                state.begin_stream();
            }
            drop(guard);
            Ok::<_, Infallible>(answer)
        }
    });
    // A client that only connects costs no more than one that rests.
    let mut idle = times.idle;
    loop {
        if !socket.has_unread() {
            let next = tokio::select! {
                () = closing.as_mut() => return Ok(()),
                next = timeout(idle, socket.readable()) => next,
            };
            if !matches!(next, Ok(Ok(()))) {
                return Ok(());
            }
        }
        let parts = match converse(socket, service, &state, times, closing.as_mut()).await {
            Ended::Closed(result) => return result,
            Ended::Resting(parts) => parts,
        };
        idle = times.idle.saturating_sub(times.rest_after);
        (socket, service) = (parts.io.into_inner(), parts.service);
        // The beginning of a head, which arrived with the request before it.
        socket.unread(parts.read_buf);
    }
}

async fn converse<S, F>(
    socket: ClientSocket,
    service: S,
    state: &ConnectionState,
    times: ConnectionTimes,
    mut closing: Pin<&mut impl Future<Output = ()>>,
) -> Ended<S>
where
    S: Service<Request<Incoming>, Response = Answer, Error = Infallible, Future = F>,
    F: Future<Output = Result<Answer, Infallible>>,
{
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(times.idle.max(times.head))
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(READ_BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(socket), service);
    let mut before = state.answers();
    loop {
        tokio::select! {
            biased;
            served = &mut connection => return Ended::Closed(served),
            () = closing.as_mut() => {
                Pin::new(&mut connection).graceful_shutdown();
                return Ended::Closed(connection.await);
            }
            () = sleep(times.rest_after) => {
                let answers = state.answers();
                if answers == before && state.is_at_rest() {
                    return Ended::Resting(connection.into_parts());
                }
                before = answers;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::StreamExt;
    use http_body_util::StreamBody;
    use hyper::StatusCode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// So short that every pause of a test is longer.
    const REST_AFTER: Duration = Duration::from_millis(10);
    const PAUSE: Duration = Duration::from_millis(100);
    const LARGE: usize = 16 << 20;
    const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    fn times() -> ConnectionTimes {
        let long = Duration::from_secs(60);
        ConnectionTimes { head: long, idle: long, rest_after: REST_AFTER }
    }

    /// `/large` has a large answer, `/stream` one that does not end. The others are short.
    async fn answer(request: Request<Incoming>, _: ConnectionState) -> Answer {
        match request.uri().path() {
            "/large" => answer::with_type(StatusCode::OK, "text/plain", Bytes::from(vec![b'Z'; LARGE])),
            "/stream" => {
                let ticks = futures_util::stream::unfold((), async |()| {
                    sleep(PAUSE).await;
                    Some((Ok(hyper::body::Frame::data(Bytes::from_static(b"tick"))), ()))
                });
                answer::event_stream(StreamBody::new(ticks.boxed()))
            }
            _ => answer::json_text(StatusCode::OK, "{}"),
        }
    }

    async fn sockets() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, served) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.unwrap(), served.unwrap().0)
    }

    async fn served_client() -> TcpStream {
        let (client, served) = sockets().await;
        tokio::spawn(serve(served, answer, times(), std::future::pending()));
        client
    }

    /// Reads until the answer ends with this text.
    async fn read_to(client: &mut TcpStream, end: &str) -> String {
        let mut read = Vec::new();
        while !read.ends_with(end.as_bytes()) {
            assert!(client.read_buf(&mut read).await.unwrap() > 0, "closed after {} bytes", read.len());
        }
        String::from_utf8_lossy(&read).into_owned()
    }

    #[tokio::test]
    async fn a_silent_connection_is_taken_apart_and_answers_the_next_requests() {
        let (mut client, served) = sockets().await;
        let state = ConnectionState::default();
        let socket = ClientSocket::new(served, state.clone(), times().head);
        let service = service_fn(|request| async {
            let guard = state.begin_answer();
            let answer = answer(request, state.clone()).await;
            drop(guard);
            Ok::<_, Infallible>(answer)
        });
        client.write_all(GET).await.unwrap();
        let mut closing = pin!(std::future::pending());
        let ended = converse(socket, service, &state, times(), closing.as_mut()).await;
        assert!(matches!(ended, Ended::Resting(_)));
        assert_eq!(state.answers(), 2, "after its answer");

        let mut client = served_client().await;
        for _ in 0..3 {
            tokio::time::sleep(PAUSE).await;
            client.write_all(GET).await.unwrap();
            assert!(read_to(&mut client, "{}").await.starts_with("HTTP/1.1 200"));
        }
    }

    #[tokio::test]
    async fn a_head_that_arrives_in_parts_is_complete_also_behind_another_request() {
        let mut client = served_client().await;
        let (begin, end) = GET.split_at(9);
        client.write_all(&[GET, begin].concat()).await.unwrap();
        read_to(&mut client, "{}").await;
        for _ in 0..2 {
            tokio::time::sleep(PAUSE).await;
            client.write_all(&[end, begin].concat()).await.unwrap();
            assert!(read_to(&mut client, "{}").await.starts_with("HTTP/1.1 200"));
        }
    }

    #[tokio::test]
    async fn a_client_that_reads_late_gets_its_whole_answer() {
        let mut client = served_client().await;
        client.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        client.read_exact(&mut first).await.unwrap();
        tokio::time::sleep(PAUSE).await;
        client.write_all(GET).await.unwrap();
        let rest = read_to(&mut client, "{}").await;
        assert!(rest.len() > LARGE, "{} bytes", rest.len());
        assert_eq!(rest.matches('Z').count(), LARGE);
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_never_cut() {
        let mut client = served_client().await;
        client.write_all(b"GET /stream HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        for _ in 0..5 {
            read_to(&mut client, "tick\r\n").await;
        }
    }

    #[tokio::test]
    async fn closing_ends_a_silent_connection() {
        let (mut client, served) = sockets().await;
        let serving = tokio::spawn(serve(served, answer, times(), sleep(2 * PAUSE)));
        client.write_all(GET).await.unwrap();
        read_to(&mut client, "{}").await;
        assert!(serving.await.unwrap().is_ok());
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }
}
