//! Opens every connection to PostgreSQL: for the pool, sessions, the listener, and requests to cancel.
//!
//! The source is read again for each of them, so a password in a file can be changed while the program runs.
//! Of several hosts, all are asked each time: after a failover, the old primary may return and take writes,
//! and only the new one shows that it is old. This module must never send a password before the mode of TLS
//! allows it, and never return a server whose timeline is older than that of another one.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::Connect;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{CancelToken, Client, Config, Connection, Error, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::{Address, Mode, PostgresSource};
use super::error::{CONNECTION, Failure};
use super::lineage::Lineage;
use super::refusal::{Refusal, refusal};

/// For a connection to any of the hosts, and for a request to cancel a statement.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection whose peer acknowledges nothing for this long counts as dead.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the other hosts may take to answer after one can be used.
const OTHERS_TIMEOUT: Duration = Duration::from_millis(500);
/// The oldest major version that has everything that the statements use.
const MAJOR_MIN: u32 = 15;

/// Connects to the servers of one source.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    source: Arc<PostgresSource>,
    application: Arc<str>,
    /// Whether only a server that takes writes is used. Of several, no other is.
    must_write: bool,
    /// Of all connections of the store.
    lineage: Arc<Lineage>,
}

/// A new connection, whose driver must be polled.
pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) connection: Connection<Socket, TlsStream>,
    /// For requests to cancel.
    pub(super) tls: Tls,
    /// Of the server, if it says so.
    pub(super) timeline: Option<u32>,
}

impl Connector {
    pub(super) fn new(source: PostgresSource, application: &str, must_write: bool) -> Self {
        let (source, lineage) = (Arc::new(source), Arc::default());
        Self { source, application: application.into(), must_write, lineage }
    }

    /// The same servers, for sessions of this application name.
    pub(super) fn named(&self, application: &str) -> Self {
        Self { application: application.into(), ..self.clone() }
    }

    pub(super) fn lineage(&self) -> &Arc<Lineage> {
        &self.lineage
    }

    /// Whether only a server that takes writes is used.
    pub(super) fn must_write(&self) -> bool {
        self.must_write
    }

    /// Connects to a server that can be used. Of several hosts, it is the one on the newest timeline.
    ///
    /// # Errors
    /// The most telling one of all hosts. A [`Refusal`] when a setting is wrong, the server is too old, or it
    /// is an old primary.
    pub(super) async fn connect(&self) -> Result<Opened, Error> {
        let address = match self.source.read() {
            Ok(address) => address,
            Err(error) => return Err(refusal(Refusal::new(error.to_string())).await),
        };
        let mut opening: FuturesUnordered<_> =
            address.hosts.iter().map(|host| self.connect_to(host, &address)).collect();
        let mut deadline = Instant::now() + CONNECT_TIMEOUT;
        let (mut newest, mut failure): (Option<Opened>, Option<Error>) = (None, None);
        while let Ok(Some(opened)) = tokio::time::timeout_at(deadline, opening.next()).await {
            match opened {
                Ok(opened) => {
                    deadline = deadline.min(Instant::now() + OTHERS_TIMEOUT);
                    let is_newer = newest.as_ref().is_none_or(|newest| newest.timeline < opened.timeline);
                    newest = if is_newer { Some(opened) } else { newest };
                }
                Err(error) if failure.as_ref().is_none_or(|known| Refusal::of(known).is_none()) => {
                    failure = Some(error);
                }
                Err(_) => {}
            }
        }
        match (newest, failure) {
            // Another connection may have met a newer one meanwhile.
            (Some(newest), _) => match self.lineage.refuse_outdated(newest.timeline) {
                Ok(()) => Ok(newest),
                Err(old) => Err(refusal(Refusal::new(old.message)).await),
            },
            (None, Some(error)) => Err(error),
            (None, None) => Err(refusal(Refusal::new("PostgreSQL did not answer in time")).await),
        }
    }

    /// Looks at all hosts if there are several: when another one was promoted while this process stayed
    /// connected to the old primary, its connections to that one are not used any more.
    pub(super) async fn survey(&self) {
        let is_one = self.source.read().is_ok_and(|address| address.hosts.len() < 2);
        if !is_one && let Err(error) = self.connect().await {
            tracing::debug!(error = %Failure::from(&error).message, "cannot look at the hosts of PostgreSQL");
        }
    }

    /// Connects to one host, and checks that it is not too old and not an old primary.
    async fn connect_to(&self, host: &Config, address: &Address) -> Result<Opened, Error> {
        let mut config = self.configure(host);
        if self.must_write || address.hosts.len() > 1 {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let mut opened = connect_host(&config, address).await?;
        let version = opened.connection.parameter("server_version").unwrap_or_default();
        if let Err(text) = check_version(version) {
            return Err(refusal(Refusal::forever(text)).await);
        }
        let asked = tokio::select! {
            biased;
            ended = &mut opened.connection => Err(ended.map_or_else(Failure::from, |()| closed())),
            asked = self.lineage.check(&opened.client) => asked,
        };
        match asked {
            Ok(timeline) => Ok(Opened { timeline, ..opened }),
            Err(failure) => Err(refusal(Refusal::new(failure.message)).await),
        }
    }

    /// The user's configuration of a host with the deadlines of this crate.
    fn configure(&self, host: &Config) -> Config {
        let mut configured = host.clone();
        let timeout = host.get_connect_timeout().copied().filter(|timeout| !timeout.is_zero());
        configured
            .application_name(&*self.application)
            .connect_timeout(timeout.unwrap_or(CONNECT_TIMEOUT).min(CONNECT_TIMEOUT))
            .tcp_user_timeout(TCP_USER_TIMEOUT)
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3);
        configured
    }
}

fn closed() -> Failure {
    Failure::new(CONNECTION, "PostgreSQL closed a new connection")
}

/// `version` is what the server says of itself, such as `15.14 (Debian 15.14-0+deb12u1)`.
///
/// # Errors
/// The text for the operator when it is too old. A version that cannot be read is not refused.
fn check_version(version: &str) -> Result<(), String> {
    let major = version.split(|c: char| !c.is_ascii_digit()).next().and_then(|text| text.parse::<u32>().ok());
    match major {
        Some(major) if major < MAJOR_MIN => {
            Err(format!("this is PostgreSQL {version}; Millrace needs {MAJOR_MIN} or newer"))
        }
        _ => Ok(()),
    }
}

impl Connect for Connector {
    fn connect(
        &self,
        _config: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>> {
        Box::pin(async move {
            let Opened { client, connection, .. } = Self::connect(self).await?;
            let driver = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    // A statement that is running fails, too. This log line is for idle sessions.
                    tracing::debug!(%error, "a database session of the pool ended");
                }
            });
            Ok((client, driver))
        })
    }
}

/// Connects with and without TLS, in the order that the mode asks for.
async fn connect_host(config: &Config, address: &Address) -> Result<Opened, Error> {
    let is_socket = matches!(config.get_hosts(), [Host::Unix(_)]);
    let first = match address.mode {
        // PostgreSQL has no TLS on sockets of files, and libpq ignores the mode there.
        _ if is_socket => SslMode::Disable,
        Mode::Disable | Mode::Allow => SslMode::Disable,
        Mode::Prefer => SslMode::Prefer,
        Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
    };
    let second = match address.mode {
        _ if is_socket => None,
        Mode::Allow => Some(SslMode::Require),
        Mode::Prefer => Some(SslMode::Disable),
        _ => None,
    };
    match (connect_once(config, address, first).await, second) {
        (Err(error), Some(second)) if is_about_tls(&error) => {
            // The first error says more than that of a mode that was only tried.
            connect_once(config, address, second).await.map_err(|_| error)
        }
        (connected, _) => connected,
    }
}

async fn connect_once(config: &Config, address: &Address, mode: SslMode) -> Result<Opened, Error> {
    let mut config = config.clone();
    config.ssl_mode(mode);
    let tls = Tls { maker: MakeRustlsConnect::new(address.tls.clone()), is_used: Arc::default() };
    let (client, connection) = config.connect(tls.clone()).await?;
    if address.mode != Mode::Disable && !tls.is_used.load(Ordering::Relaxed) && !is_local(&config) {
        report_clear();
    }
    Ok(Opened { client, connection, tls, timeline: None })
}

/// Whether the other way, with or without TLS, may work: the handshake failed, or the server has no rule for
/// this way (28000).
fn is_about_tls(error: &Error) -> bool {
    match error.as_db_error() {
        Some(refused) => refused.code().code() == "28000",
        None => error.to_string().contains("TLS"),
    }
}

fn is_local(config: &Config) -> bool {
    let is_loopback = |host: &str| {
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    let addresses = config.get_hostaddrs();
    if !addresses.is_empty() {
        return addresses.iter().all(std::net::IpAddr::is_loopback);
    }
    config.get_hosts().iter().all(|host| match host {
        Host::Tcp(name) => is_loopback(name),
        Host::Unix(_) => true,
    })
}

/// Says once that the data is not encrypted, to a user who did not ask for that.
fn report_clear() {
    static REPORTED: AtomicBool = AtomicBool::new(false);
    if !REPORTED.swap(true, Ordering::Relaxed) {
        tracing::info!(
            "connected to PostgreSQL without TLS, which it does not offer; set sslmode=verify-full to demand TLS, or \
             sslmode=disable if this network is private"
        );
    }
}

/// Asks the server to cancel the statement of this session, over TLS when the session uses it.
pub(super) async fn cancel(token: CancelToken, tls: Tls) -> bool {
    let asked = tokio::time::timeout(CONNECT_TIMEOUT, token.cancel_query(tls)).await;
    matches!(asked, Ok(Ok(())))
}

pub(super) type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
type Handshake = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;

/// TLS that notes whether it was used.
#[derive(Clone)]
pub(super) struct Tls {
    maker: MakeRustlsConnect,
    is_used: Arc<AtomicBool>,
}

impl MakeTlsConnect<Socket> for Tls {
    type Stream = TlsStream;
    type TlsConnect = NotedHandshake;
    type Error = Infallible;

    fn make_tls_connect(&mut self, host: &str) -> Result<NotedHandshake, Infallible> {
        let handshake =
            <MakeRustlsConnect as MakeTlsConnect<Socket>>::make_tls_connect(&mut self.maker, host)?;
        Ok(NotedHandshake { handshake, is_used: Arc::clone(&self.is_used) })
    }
}

pub(super) struct NotedHandshake {
    handshake: Handshake,
    is_used: Arc<AtomicBool>,
}

impl TlsConnect<Socket> for NotedHandshake {
    type Stream = TlsStream;
    type Error = io::Error;
    type Future = <Handshake as TlsConnect<Socket>>::Future;

    fn connect(self, stream: Socket) -> Self::Future {
        self.is_used.store(true, Ordering::Relaxed);
        self.handshake.connect(stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_postgresql_older_than_15_is_refused_by_name() {
        for version in ["14.19 (Debian 14.19-1.pgdg120+1)", "14.0", "9.6.24", "13beta2", "14devel"] {
            let refused = check_version(version).unwrap_err();
            assert!(refused.contains(version) && refused.contains("needs 15 or newer"), "{refused}");
        }
    }

    #[test]
    fn every_later_postgresql_is_used() {
        let versions =
            ["15.0", "15.14 (Debian 15.14-0+deb12u1)", "16.10", "17.6 (Ubuntu 17.6-1)", "18beta1", "18.0"];
        for version in versions {
            assert_eq!(check_version(version), Ok(()), "{version}");
        }
        // Services of clouds have names of their own for their versions.
        assert_eq!(check_version("edge"), Ok(()));
    }
}
