//! Standbys of a PostgreSQL, which can fall behind and be promoted.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::cluster;
use crate::eventually::eventually;
use crate::postgres::Postgres;
use crate::process::spawn;

/// Replication and promotion take milliseconds; a busy machine takes longer.
const DEADLINE: Duration = Duration::from_secs(120);

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

    /// Ends the replication to this standby. It keeps what it has, and answers reads.
    ///
    /// # Panics
    /// When the connection to the primary does not end.
    pub async fn cut_replication(&self) {
        let client = self.connect().await;
        for statement in ["ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"] {
            client.batch_execute(statement).await.expect("a superuser may change settings");
        }
        eventually(DEADLINE, "the replication to end", async || {
            client.query("SELECT FROM pg_stat_wal_receiver", &[]).await.is_ok_and(|rows| rows.is_empty())
        })
        .await;
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
