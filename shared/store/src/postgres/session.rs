//! One connection of our own to PostgreSQL, outside the pool: for writers, upkeep, migrations and listening.

use std::ops::Deref;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::{CancelToken, Client, Config, NoTls};

use super::error::{CONNECTION, Failure};
use crate::metrics;

/// How long connecting may take, and so may asking for a cancellation.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a peer may leave what we sent unacknowledged before the connection counts as dead.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);

/// What every session of ours starts with. Names are looked up where we put them and nowhere else. Of
/// `synchronous_commit` only those values are replaced that commit before the disk has it. The server must notice a
/// client that is gone, even while it computes (`client_connection_check_interval` exists from PostgreSQL 14 on).
const SETTINGS: &str = "
    SET search_path = public, pg_temp;
    SET client_min_messages = warning;
    SET timezone = 'UTC';
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
    SELECT set_config('synchronous_commit', 'on', false)
     WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
    SELECT set_config(name, '5s', false) FROM pg_settings WHERE name = 'client_connection_check_interval';
";

/// The user's configuration with our own deadlines and name.
pub(super) fn configure(config: &Config, application: &str) -> Config {
    let mut ours = config.clone();
    ours.application_name(application)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(TCP_USER_TIMEOUT)
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3);
    ours
}

/// TLS to the database is not built in. To go on without it where it was required would be worse than to stop.
pub(super) fn refuse_tls(config: &Config) -> Result<(), Failure> {
    if config.get_ssl_mode() == SslMode::Require {
        let message =
            "sslmode=require: this build speaks no TLS to PostgreSQL; use a private network or a tunnel";
        return Err(Failure::new(CONNECTION, message));
    }
    Ok(())
}

/// Applies [`SETTINGS`] and `more`, statements of the caller.
pub(super) async fn settle_in(client: &Client, more: &str) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(&format!("{SETTINGS}{more}")).await
}

/// An open connection. When it is dropped, so is the socket, and whatever transaction was open is rolled back.
pub(super) struct Session {
    client: Client,
    connection: JoinHandle<()>,
    cancel: CancelToken,
    /// A statement may be running. If the session is dropped so, the server is told to stop.
    pub(super) busy: bool,
}

impl Session {
    /// Connects and settles in with `settings` on top of ours.
    pub(super) async fn open(config: &Config, application: &str, settings: &str) -> Result<Self, Failure> {
        refuse_tls(config)?;
        let connecting = async {
            let (client, connection) = configure(config, application).connect(NoTls).await?;
            let cancel = client.cancel_token();
            let connection = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    // Whoever waits for an answer is told, too; this is for sessions that nobody is using.
                    tracing::debug!(error = %Failure::from(&error).message, "a database session has ended");
                }
            });
            let session = Self { client, connection, cancel, busy: false };
            settle_in(&session.client, settings).await?;
            Ok::<_, tokio_postgres::Error>(session)
        };
        let opened = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(opened) => opened.map_err(Failure::from),
            Err(_) => Err(Failure::new(CONNECTION, "no connection within 5 s")),
        };
        if opened.is_err() {
            metrics::store_connect_failed();
        }
        opened
    }

    /// The client, where exclusive use is asked for.
    pub(super) fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
        if !self.busy {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let cancel = self.cancel.clone();
        runtime.spawn(async move {
            let asked = tokio::time::timeout(CONNECT_TIMEOUT, cancel.cancel_query(NoTls)).await;
            if !matches!(asked, Ok(Ok(()))) {
                tracing::debug!(
                    "the database could not be asked to cancel; it will notice the closed socket"
                );
            }
        });
    }
}
