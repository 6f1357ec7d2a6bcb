//! Standbys of a PostgreSQL, which can fall behind and be promoted.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio_postgres::Client;

use crate::cluster;
use crate::eventually::eventually;
use crate::postgres::Postgres;
use crate::process::spawn;

/// Replication and promotion take milliseconds; a busy machine takes longer.
const DEADLINE: Duration = Duration::from_secs(120);

/// Replication has ended, and what was received is replayed: recovery waits for more.
const HAS_REPLAYED_ALL: &str = "
    SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)
       AND EXISTS (SELECT FROM pg_stat_activity
                    WHERE backend_type = 'startup' AND wait_event = 'RecoveryRetrieveRetryInterval')";
/// Recovery has no lock that readers wait for.
const IS_READABLE: &str = "
    SELECT NOT EXISTS (SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
                        WHERE backend_type = 'startup' AND mode = 'AccessExclusiveLock')";

impl Postgres {
    /// Starts a server that follows this one, as it is now and from now on, without a replication slot.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start_standby(&self) -> Self {
        let port = self.port();
        let standby = Self::start_on(|endpoint, data| {
            cluster::give_to_server(endpoint.folder.path());
            copy_server(port, data);
            fs::write(data.join("standby.signal"), "").expect("a data directory is writable");
            let primary = format!("host=127.0.0.1 port={port} user=postgres application_name=standby");
            let settings = [("primary_conninfo", primary.as_str())];
            cluster::create(endpoint.folder.path(), data, endpoint.port, &settings);
        });
        let standby = standby.await;
        standby.catch_up(self).await;
        standby
    }

    /// Waits until this standby has everything that `primary` has committed until now.
    ///
    /// # Panics
    /// When it does not get there.
    pub async fn catch_up(&self, primary: &Self) {
        let place = "SELECT pg_current_wal_flush_lsn()::text";
        let place: String =
            primary.connect().await.query_one(place, &[]).await.expect("a primary answers").get(0);
        let client = self.connect().await;
        let question = format!("SELECT coalesce(pg_last_wal_replay_lsn() >= '{place}'::pg_lsn, false)");
        eventually(DEADLINE, "a standby to catch up", async || {
            client.query_one(&question, &[]).await.is_ok_and(|row| row.get(0))
        })
        .await;
    }

    /// Ends the replication to this standby. It keeps what it has, and answers reads: if it has only the
    /// beginning of a transaction that locks a table, it gets the end first.
    ///
    /// # Panics
    /// When the connection to the primary does not end.
    pub async fn cut_replication(&self) {
        let client = self.connect().await;
        let followed = client.query_one("SHOW primary_conninfo", &[]).await;
        let followed: String = followed.expect("a server knows its settings").get(0);
        loop {
            follow(&client, "").await;
            eventually(DEADLINE, "the replication to end", async || holds(&client, HAS_REPLAYED_ALL).await)
                .await;
            if holds(&client, IS_READABLE).await {
                return;
            }
            follow(&client, &followed).await;
            eventually(DEADLINE, "the end of a transaction", async || holds(&client, IS_READABLE).await)
                .await;
        }
    }

    /// Makes this standby a primary. It begins a new timeline.
    ///
    /// # Panics
    /// When it does not become one.
    pub async fn promote(&self) {
        let client = self.connect().await;
        client.batch_execute("SELECT pg_promote(true, 120)").await.expect("a standby can be promoted");
        eventually(DEADLINE, "a standby to be promoted", async || {
            client.query_one("SELECT NOT pg_is_in_recovery()", &[]).await.is_ok_and(|row| row.get(0))
        })
        .await;
    }

    /// The URL of the first database with two hosts: this server and `other`.
    pub fn url_with(&self, other: &Self) -> String {
        format!("postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres", self.port(), other.port())
    }
}

/// Whether a statement about the server itself says so.
async fn holds(client: &Client, question: &str) -> bool {
    client.query_one(question, &[]).await.is_ok_and(|row| row.get(0))
}

/// Makes a standby follow another primary, or none.
async fn follow(client: &Client, primary: &str) {
    let setting = format!("ALTER SYSTEM SET primary_conninfo = '{}'", primary.replace('\'', "''"));
    for statement in [setting.as_str(), "SELECT pg_reload_conf()"] {
        client.batch_execute(statement).await.expect("a superuser may change settings");
    }
}

fn copy_server(port: u16, data: &Path) {
    let mut backup = cluster::command("pg_basebackup");
    backup.args([
        "--host=127.0.0.1",
        "--username=postgres",
        "--wal-method=stream",
        "--checkpoint=fast",
        "--no-sync",
    ]);
    backup.arg(format!("--port={port}")).arg("-D").arg(data);
    backup.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output =
        spawn(backup).and_then(std::process::Child::wait_with_output).expect("pg_basebackup can be run");
    assert!(output.status.success(), "pg_basebackup failed: {}", String::from_utf8_lossy(&output.stderr));
}
