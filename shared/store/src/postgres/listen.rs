//! Notices changes to keys, projects and plans: a task with its own connection that runs LISTEN.
//!
//! The notification lets revocations take effect immediately. Callers also have a timeout, so nothing breaks
//! while the connection is down.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client};

use super::connector::{Connector, Opened};
use super::session::is_read_only;
use crate::metrics;

/// Time between attempts to connect.
const RETRY_EVERY: Duration = Duration::from_secs(2);

/// Time between two looks whether the server still takes writes.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The listening task. It ends when this is dropped.
pub(super) struct Listener {
    changed: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Starts the task; must be called inside a runtime.
    pub(super) fn start(connector: &Connector) -> Self {
        let changed = Arc::new(Notify::new());
        let task = tokio::spawn(keep_listening(connector.clone(), Arc::clone(&changed)));
        Self { changed, task }
    }

    /// Returns at the next change, or immediately after a change that no caller has waited for.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_listening(connector: Connector, changed: Arc<Notify>) {
    let mut has_listened = false;
    loop {
        if let Err(error) = listen(&connector, &changed, &mut has_listened).await {
            let message = super::error::Failure::from(&error).message;
            tracing::debug!(%message, "not listening for changes of accounts");
        }
        tokio::time::sleep(RETRY_EVERY).await;
    }
}

/// Listens until the connection ends.
async fn listen(
    connector: &Connector,
    changed: &Notify,
    has_listened: &mut bool,
) -> Result<(), tokio_postgres::Error> {
    let connecting = connector.connect().await;
    if connecting.is_err() {
        metrics::store_connect_failed();
    }
    let Opened { client, mut connection, tls: _ } = connecting?;
    if std::mem::replace(has_listened, true) {
        metrics::store_reconnected("listener");
    }
    let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
    let listening = client.batch_execute("LISTEN millrace_accounts");
    let server_check = check_server(&client);
    tokio::pin!(listening, server_check);
    let mut is_listening = false;
    loop {
        tokio::select! {
            failed = &mut server_check, if is_listening => return failed,
            listens = &mut listening, if !is_listening => {
                listens?;
                is_listening = true;
                // Earlier changes were missed.
                notify(changed);
            }
            message = messages.next() => match message {
                Some(Ok(AsyncMessage::Notification(_))) => notify(changed),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
        }
    }
}

/// Returns when the server takes no writes any more, and so has no changes to announce.
async fn check_server(client: &Client) -> Result<(), tokio_postgres::Error> {
    loop {
        tokio::time::sleep(CHECK_EVERY).await;
        if is_read_only(client).await? {
            return Ok(());
        }
    }
}

/// Wakes all waiting callers and the next one: between two waits a caller reads the accounts.
fn notify(changed: &Notify) {
    changed.notify_waiters();
    changed.notify_one();
}
