//! Sends one message to one endpoint.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use millrace_address::install_crypto;
use millrace_event::webhook::{Endpoint, EndpointError};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use url::Host;

use super::allowed_hosts::AllowedHosts;
use super::message::Message;
use super::public_address::is_public;

/// For one attempt, from the lookup of the name to the head of the answer.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Addresses of a name that are tried, at most.
const ADDRESSES_MAX: usize = 3;
/// The head of the answer, at most. Its body is never read.
const HEAD_BYTES_MAX: usize = 16 * 1_024;
const HEADERS_MAX: usize = 100;
const SENDER: &str = concat!("millrace/", env!("CARGO_PKG_VERSION"));

/// The answer of an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    pub status: u16,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
}

/// Why there is no answer. The texts are shown to operators and name no secret.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("the URL cannot be used: {0}")]
    Endpoint(#[from] EndpointError),
    #[error("the host {0} cannot be found")]
    Unknown(Host),
    #[error(
        "the host {host} has the address {address}, which is not public; an operator can allow the host by name in \
         NOTIFY_ALLOW_HOSTS"
    )]
    NotPublic { host: Host, address: IpAddr },
    #[error("no connection: {0}")]
    Connection(io::Error),
    #[error("no TLS connection: {0}")]
    Tls(String),
    #[error("the connection ended without a valid answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
}

/// Sends messages.
#[derive(Clone)]
pub struct Sender {
    allowed: AllowedHosts,
    tls: Arc<ClientConfig>,
}

impl Sender {
    /// Trusts the certificates of the system, or those in the file that `SSL_CERT_FILE` names.
    pub fn new(allowed: AllowedHosts) -> Self {
        install_crypto();
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        if usable == 0 {
            tracing::warn!(
                "no certificates of the system were found: https endpoints of webhooks cannot be reached"
            );
        }
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { allowed, tls: Arc::new(tls) }
    }

    /// Posts the message, and returns the status of the answer, also of a failure.
    ///
    /// # Errors
    /// [`SendError`] when there was no answer.
    pub async fn send(&self, url: &str, message: &Message) -> Result<Answer, SendError> {
        let endpoint = Endpoint::parse(url)?;
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.post(&endpoint, message)).await;
        answer.map_err(|_| SendError::Timeout)?
    }

    async fn post(&self, endpoint: &Endpoint, message: &Message) -> Result<Answer, SendError> {
        let addresses = self.addresses(endpoint).await?;
        let socket = connect(&addresses).await.map_err(SendError::Connection)?;
        if !endpoint.is_secure {
            return exchange(socket, endpoint, message).await;
        }
        let name = match &endpoint.host {
            Host::Domain(name) => {
                ServerName::try_from(name.clone()).map_err(|error| SendError::Tls(error.to_string()))?
            }
            Host::Ipv4(address) => ServerName::from(IpAddr::V4(*address)),
            Host::Ipv6(address) => ServerName::from(IpAddr::V6(*address)),
        };
        let socket = TlsConnector::from(Arc::clone(&self.tls)).connect(name, socket).await;
        exchange(socket.map_err(|error| SendError::Tls(error.to_string()))?, endpoint, message).await
    }

    /// The addresses that may be connected to. The connection goes to one of them, so a name that has another
    /// address a moment later changes nothing.
    async fn addresses(&self, endpoint: &Endpoint) -> Result<Vec<SocketAddr>, SendError> {
        let (host, port) = (&endpoint.host, endpoint.port);
        let mut found: Vec<SocketAddr> = match host {
            Host::Ipv4(address) => vec![(*address, port).into()],
            Host::Ipv6(address) => vec![(*address, port).into()],
            Host::Domain(name) => match lookup_host((name.as_str(), port)).await {
                Ok(addresses) => addresses.collect(),
                Err(_) => return Err(SendError::Unknown(host.clone())),
            },
        };
        let Some(first) = found.first().copied() else {
            return Err(SendError::Unknown(host.clone()));
        };
        if !self.allowed.has(host) {
            found.retain(|address| is_public(address.ip()));
        }
        found.truncate(ADDRESSES_MAX);
        if found.is_empty() {
            return Err(SendError::NotPublic { host: host.clone(), address: first.ip() });
        }
        Ok(found)
    }
}

/// Connects to the first address that answers.
async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn exchange<S>(socket: S, endpoint: &Endpoint, message: &Message) -> Result<Answer, SendError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut client = http1::Builder::new();
    client.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
    let (mut requests, connection) = client.handshake(TokioIo::new(socket)).await?;
    let request = Request::post(&endpoint.target)
        .header(HOST, endpoint.authority())
        .header(CONTENT_TYPE, "application/json")
        .header(USER_AGENT, SENDER)
        .header("webhook-id", &message.id)
        .header("webhook-timestamp", &message.timestamp)
        .header("webhook-signature", &message.signature)
        .body(Full::new(Bytes::from(message.body.clone())))
        .map_err(|error| SendError::Tls(error.to_string()))?;
    let answered = async move {
        let answer = requests.send_request(request).await?;
        let retry_after = retry_after(answer.headers(), OffsetDateTime::now_utc());
        Ok(Answer { status: answer.status().as_u16(), retry_after })
    };
    // The connection ends with the answer: nothing of its body is read.
    tokio::pin!(answered);
    tokio::select! {
        biased;
        answer = &mut answered => answer,
        _ = connection => answered.await,
    }
}

/// `Retry-After` in seconds, or until a date.
fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    // Dates of HTTP end with the zone GMT, which dates of mail have as a number.
    let date = OffsetDateTime::parse(&text.replace("GMT", "+0000"), &Rfc2822).ok()?;
    Duration::try_from(date - now).ok()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn retry_after_is_a_number_of_seconds_or_a_date() {
        let now = datetime!(1994-11-06 08:49:00 UTC);
        for (text, expected) in [
            ("120", Some(120)),
            ("0", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sun, 06 Nov 1994 08:48:37 GMT", None),
            ("soon", None),
            ("-1", None),
            ("99999999999999999999999", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            assert_eq!(retry_after(&headers, now).map(|after| after.as_secs()), expected, "{text}");
        }
    }
}
