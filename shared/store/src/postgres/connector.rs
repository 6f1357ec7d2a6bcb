//! Opens every connection to PostgreSQL: for the pool, sessions, the listener, and requests to cancel.
//!
//! The source is read again for each of them, so a password in a file can be changed while the program runs.
//! This module must never send a password before the mode of TLS allows it.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_postgres::Connect;
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{CancelToken, Client, Config, Connection, Error, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::address::{Address, Mode, PostgresSource};
use super::refusal::{Refusal, refusal};

/// For a connection to any of the hosts, and for a request to cancel a statement.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection whose peer acknowledges nothing for this long counts as dead.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);
/// The oldest major version that has everything that the statements use.
const MAJOR_MIN: u32 = 15;

/// Connects to the servers of one source.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    source: Arc<PostgresSource>,
    application: Arc<str>,
    /// Whether only a server that takes writes is used. Of several, no other is.
    must_write: bool,
}

/// A new connection, whose driver must be polled.
pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) connection: Connection<Socket, TlsStream>,
    /// For requests to cancel.
    pub(super) tls: Tls,
}

impl Connector {
    pub(super) fn new(source: PostgresSource, application: &str, must_write: bool) -> Self {
        Self { source: Arc::new(source), application: application.into(), must_write }
    }

    /// The same servers, for sessions of this application name.
    pub(super) fn named(&self, application: &str) -> Self {
        Self { application: application.into(), ..self.clone() }
    }

    /// Connects to the first host that can be used, in random order.
    ///
    /// # Errors
    /// That of the last host. A [`Refusal`] when a setting is wrong or the server is too old.
    pub(super) async fn connect(&self) -> Result<Opened, Error> {
        let address = match self.source.read() {
            Ok(address) => address,
            Err(error) => return Err(refusal(Refusal::new(error.to_string())).await),
        };
        let mut hosts: Vec<&Config> = address.hosts.iter().collect();
        // The same host is not always the first: an old primary that takes writes must not hide the new one.
        let first = uuid::Uuid::new_v4().as_u128() % hosts.len().max(1) as u128;
        hosts.rotate_left(first as usize);
        // A host that does not answer must leave time for the others.
        let share = CONNECT_TIMEOUT / u32::try_from(hosts.len().max(1)).unwrap_or(1);
        let mut failure = None;
        for host in hosts {
            let mut config = self.configure(host, share);
            if self.must_write || address.hosts.len() > 1 {
                config.target_session_attrs(TargetSessionAttrs::ReadWrite);
            }
            match tokio::time::timeout(share, connect_host(&config, &address)).await {
                Ok(Ok(opened)) => return self.check_version(opened).await,
                Ok(Err(error)) => failure = Some(error),
                Err(_) => failure = None,
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Err(refusal(Refusal::new("PostgreSQL did not answer in time")).await),
        }
    }

    /// The user's configuration of a host with the deadlines of this crate.
    fn configure(&self, host: &Config, share: Duration) -> Config {
        let mut configured = host.clone();
        let timeout = host.get_connect_timeout().copied().filter(|timeout| !timeout.is_zero());
        configured
            .application_name(&*self.application)
            .connect_timeout(timeout.unwrap_or(share).min(share))
            .tcp_user_timeout(TCP_USER_TIMEOUT)
            .keepalives_idle(Duration::from_secs(10))
            .keepalives_interval(Duration::from_secs(5))
            .keepalives_retries(3);
        configured
    }

    async fn check_version(&self, opened: Opened) -> Result<Opened, Error> {
        let version = opened.connection.parameter("server_version").unwrap_or_default();
        let major =
            version.split(|c: char| !c.is_ascii_digit()).next().and_then(|text| text.parse::<u32>().ok());
        if major.is_some_and(|major| major < MAJOR_MIN) {
            let text = format!("this is PostgreSQL {version}; Millrace needs {MAJOR_MIN} or newer");
            return Err(refusal(Refusal::forever(text)).await);
        }
        Ok(opened)
    }
}

impl Connect for Connector {
    fn connect(
        &self,
        _config: &Config,
    ) -> Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + '_>> {
        Box::pin(async move {
            let Opened { client, connection, tls: _ } = Self::connect(self).await?;
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
    Ok(Opened { client, connection, tls })
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
