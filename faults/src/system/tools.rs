//! Small tools with which drills break a system from outside. A server that is away already is left alone.

use std::time::Duration;

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

    /// Entries in the stream, over all shards.
    ///
    /// # Panics
    /// When Redis does not answer.
    pub async fn entries(&self) -> u64 {
        let mut redis = self.redis.connect().await;
        let mut entries = 0;
        for shard in 0..self.shards {
            let length = redis::cmd("XLEN").arg(Self::stream_key(shard)).query_async::<u64>(&mut redis).await;
            entries += length.expect("Redis answers a drill");
        }
        entries
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
