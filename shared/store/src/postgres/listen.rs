//! Hears of changes to keys, projects and plans: a task with its own connection that runs LISTEN.
//!
//! The notification lets revocations take effect immediately. Callers also have a timeout, so nothing breaks
//! while the connection is down.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client};

use super::announcements::Announcements;
use super::connector::{Connector, Opened};
use super::session::is_usable;
use crate::{AccountChanges, ChangeMark, metrics};

/// Time between attempts to connect.
const RETRY_EVERY: Duration = Duration::from_secs(2);

const LISTEN: &str = "LISTEN millrace_accounts";
const LISTENS: &str = "SELECT FROM pg_listening_channels() channel WHERE channel = 'millrace_accounts'";

/// Time between two looks whether the server still takes writes.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Time between two looks at all hosts of several.
const SURVEY_EVERY: Duration = Duration::from_secs(10);

/// The listening task. It ends when this is dropped.
pub(super) struct Listener {
    announcements: Arc<Announcements>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Starts the task; must be called inside a runtime.
    pub(super) fn start(connector: &Connector) -> Self {
        let announcements = Arc::new(Announcements::new());
        let task = tokio::spawn(keep_listening(connector.clone(), Arc::clone(&announcements)));
        Self { announcements, task }
    }

    /// Returns at the first change after `after`, or after `at_most`.
    pub(super) async fn changes(&self, after: ChangeMark, at_most: Duration) -> AccountChanges {
        self.announcements.changes(after, at_most).await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_listening(connector: Connector, announcements: Arc<Announcements>) {
    let mut has_listened = false;
    loop {
        let ended = listen(&connector, &announcements, &mut has_listened).await;
        announcements.interrupt();
        if let Err(error) = ended {
            let message = super::error::Failure::from(&error).message;
            tracing::debug!(%message, "not listening for changes of accounts");
        }
        tokio::time::sleep(RETRY_EVERY).await;
    }
}

/// Listens until the connection ends.
async fn listen(
    connector: &Connector,
    announcements: &Announcements,
    has_listened: &mut bool,
) -> Result<(), tokio_postgres::Error> {
    let connecting = connector.connect().await;
    if connecting.is_err() {
        metrics::store_connect_failed();
    }
    let Opened { client, mut connection, .. } = connecting?;
    if std::mem::replace(has_listened, true) {
        metrics::store_reconnected("listener");
    }
    let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
    let listening = client.batch_execute(LISTEN);
    let server_check = check_server(&client, connector, announcements);
    tokio::pin!(listening, server_check);
    let mut is_listening = false;
    loop {
        tokio::select! {
            failed = &mut server_check, if is_listening => return failed,
            listens = &mut listening, if !is_listening => {
                listens?;
                is_listening = true;
                // Earlier changes were missed.
                announcements.record_all();
                announcements.confirm();
            }
            message = messages.next() => match message {
                Some(Ok(AsyncMessage::Notification(notification))) => announcements.record(notification.payload()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
        }
    }
}

/// Returns when the server takes no writes any more, or is an old primary, and so has no changes to announce,
/// and when this session does not listen: a pooler may have given the connection another one.
async fn check_server(
    client: &Client,
    connector: &Connector,
    announcements: &Announcements,
) -> Result<(), tokio_postgres::Error> {
    let mut last_survey = Instant::now();
    loop {
        tokio::time::sleep(CHECK_EVERY).await;
        if last_survey.elapsed() > SURVEY_EVERY {
            connector.survey().await;
            last_survey = Instant::now();
        }
        if !is_usable(client, connector.lineage()).await?
            || client.query_typed(LISTENS, &[]).await?.is_empty()
        {
            return Ok(());
        }
        announcements.confirm();
    }
}
