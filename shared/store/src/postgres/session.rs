//! Connections to PostgreSQL outside the pool: for writers, upkeep, migrations and listening.

use std::ops::Deref;

use tokio::task::JoinHandle;
use tokio_postgres::{CancelToken, Client, SimpleQueryMessage};

use super::connector::{CONNECT_TIMEOUT, Connector, Opened, Tls, cancel};
use super::error::{CONNECTION, Failure};
use super::lineage::Lineage;
use crate::metrics;

/// The first statements of every session. Names are looked up only in the schema of the migrations. A value
/// of `synchronous_commit` is replaced only if a commit could return before the disk has it. The server
/// checks during long statements that its client is still connected.
const SETTINGS: &str = "
    SET search_path = public, pg_temp;
    SET client_min_messages = warning;
    SET timezone = 'UTC';
    SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3;
    SELECT set_config('synchronous_commit', 'on', false)
     WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');
    SELECT set_config(name, '5s', false) FROM pg_settings WHERE name = 'client_connection_check_interval';
";

/// Runs the statements that every session starts with, then the caller's.
pub(super) async fn prepare_session(client: &Client, more: &str) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(&format!("{SETTINGS}{more}")).await
}

/// Whether the server takes no writes: a standby, or a primary that an operator has switched.
pub(super) async fn is_read_only(client: &Client) -> Result<bool, tokio_postgres::Error> {
    // The simple protocol needs one round trip and no prepared statement.
    let rows = client.simple_query("SHOW transaction_read_only").await?;
    Ok(rows.iter().any(|row| match row {
        SimpleQueryMessage::Row(row) => row.get(0) == Some("on"),
        _ => false,
    }))
}

/// The two checks of a connection before it is used again, in one round trip.
pub(super) async fn is_usable(client: &Client, lineage: &Lineage) -> Result<bool, tokio_postgres::Error> {
    let (read_only, known) = tokio::join!(
        biased;
        is_read_only(client),
        lineage.check(client)
    );
    Ok(!read_only? && known.is_ok())
}

/// An open connection. Dropping it closes the socket, and the server rolls back an open transaction.
pub(super) struct Session {
    client: Client,
    connection: JoinHandle<()>,
    cancel: CancelToken,
    tls: Tls,
    /// Of the server, if it says so.
    pub(super) timeline: Option<u32>,
    /// A statement may be running. When the session is dropped then, the server is asked to cancel it.
    pub(super) busy: bool,
}

impl Session {
    /// Connects and runs `settings` after the statements that every session starts with.
    pub(super) async fn open(connector: &Connector, settings: &str) -> Result<Self, Failure> {
        let connecting = async {
            let Opened { client, connection, tls, timeline } = connector.connect().await?;
            let cancel = client.cancel_token();
            let connection = tokio::spawn(async move {
                if let Err(error) = connection.await {
                    // A statement that is running fails, too. This log line is for idle sessions.
                    tracing::debug!(error = %Failure::from(&error).message, "a database session ended");
                }
            });
            let session = Self { client, connection, cancel, tls, timeline, busy: false };
            prepare_session(&session.client, settings).await?;
            Ok::<_, tokio_postgres::Error>(session)
        };
        let opened = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(opened) => opened.map_err(Failure::from),
            Err(_) => Err(Failure::new(
                CONNECTION,
                "no connection within 5 s; check that PostgreSQL is running and reachable",
            )),
        };
        if opened.is_err() {
            metrics::store_connect_failed();
        }
        opened
    }

    /// For transactions, which need exclusive use.
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
        let asked = cancel(self.cancel.clone(), self.tls.clone());
        runtime.spawn(async move {
            if !asked.await {
                tracing::debug!(
                    "cannot ask the database to cancel a statement; it stops when it notices the closed socket"
                );
            }
        });
    }
}
