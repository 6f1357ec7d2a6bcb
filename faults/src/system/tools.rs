//! Small tools with which drills break a system from outside. A server that is away already is left alone.

use std::time::Duration;

use bytes::Bytes;

use super::System;

/// How long a tool may take: what it talks to may be stopped.
const TOOL_DEADLINE: Duration = Duration::from_secs(2);

impl System {
    /// Gives Redis a command; whether it answers does not matter.
    pub async fn tell_redis(&mut self, words: &[&str]) {
        if !self.redis.is_running() {
            return;
        }
        let talk = async {
            let mut redis = self.redis.connect().await;
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]);
            command.query_async::<redis::Value>(&mut redis).await
        };
        // An answer is not what it is for: it may kill its own connection.
        drop(tokio::time::timeout(TOOL_DEADLINE, talk).await);
    }

    /// Appends an entry to the stream behind admission's back.
    ///
    /// # Panics
    /// When Redis does not take it.
    pub async fn force(&self, shard: u16, fields: &[(&'static str, Bytes)]) {
        let mut command = redis::cmd("XADD");
        command.arg(Self::stream_key(shard)).arg("*");
        for (name, value) in fields {
            command.arg(name).arg(&value[..]);
        }
        let appended = command.query_async::<String>(&mut self.redis.connect().await).await;
        appended.expect("Redis takes what is put into it by hand");
    }

    /// The most deliveries that any entry pending on this shard has behind it; 0 when nothing is pending.
    ///
    /// # Panics
    /// When Redis does not answer.
    pub async fn deliveries_max(&self, shard: u16) -> u64 {
        let mut command = redis::cmd("XPENDING");
        command.arg(Self::stream_key(shard)).arg("workers").arg("-").arg("+").arg(1_000);
        let pending = command.query_async(&mut self.redis.connect().await).await;
        let pending: Vec<(String, String, u64, u64)> = pending.expect("Redis tells what is pending");
        pending.into_iter().map(|(_, _, _, deliveries)| deliveries).max().unwrap_or(0)
    }

    /// Kills one PostgreSQL backend of a worker, at which the whole server restarts itself.
    pub async fn kill_a_session(&mut self) {
        let Some(database) = self.try_database().await else { return };
        let busiest = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'millrace-worker%'
                        ORDER BY xact_start NULLS LAST LIMIT 1";
        let asked = tokio::time::timeout(TOOL_DEADLINE, database.query_opt(busiest, &[])).await;
        if let Ok(Ok(Some(row))) = asked {
            self.postgres.kill_backend(row.get(0));
        }
    }

    /// Holds a table in ACCESS EXCLUSIVE mode for so long, on the side.
    pub async fn lock(&mut self, table: &'static str, held: Duration) {
        let Some(database) = self.try_database().await else { return };
        tokio::spawn(async move {
            let lock =
                format!("BEGIN; SET LOCAL lock_timeout = '2s'; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
            if database.batch_execute(&lock).await.is_ok() {
                tokio::time::sleep(held).await;
            }
            // Its end gives the lock back, with or without a server.
            drop(database);
        });
    }

    async fn try_database(&mut self) -> Option<tokio_postgres::Client> {
        if !self.postgres.is_running() {
            return None;
        }
        let config = self.postgres.config();
        let connecting = tokio::time::timeout(TOOL_DEADLINE, config.connect(tokio_postgres::NoTls)).await;
        let (client, connection) = connecting.ok()?.ok()?;
        tokio::spawn(connection);
        Some(client)
    }
}
