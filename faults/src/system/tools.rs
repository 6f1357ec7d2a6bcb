//! Small tools with which drills break a system from outside. A server that is away already is left alone.

use std::time::Duration;

use testkit::eventually;
use testkit::http::{Answer, HttpClient};

use super::System;
use crate::node::SOON;

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

    /// Posts events of a project of the drill until one is refused because the backlog is full, and returns the refusal.
    ///
    /// # Panics
    /// When that never happens.
    pub async fn refusal_by_full_backlog(&mut self) -> Answer {
        let api = self.addresses().await[0];
        let project = &self.projects[0].0;
        let authorization = format!("Bearer {}", project.key);
        let mut client = HttpClient::new(api);
        eventually(SOON, "the backlog to be full", async || {
            let numbers = project.history.take_numbers(1);
            let event = project.history.source.event(numbers[0]).json();
            let body = serde_json::json!({ "events": [event] }).to_string();
            let answer = client.post("/v1/events", &[("authorization", &authorization)], body).await;
            let Ok(answer) = answer else { return Err("no answer".to_owned()) };
            let told = answer.json();
            match (answer.status, told["batch_id"].as_str().and_then(|id| id.parse().ok())) {
                (202, Some(id)) => project.history.acknowledged(&numbers, id, 1, false),
                _ => project.history.unknown(&numbers),
            }
            if told["code"] == "backlog_full" { Ok(answer) } else { Err(format!("{} {told}", answer.status)) }
        })
        .await
    }

    /// Holds a table in ACCESS EXCLUSIVE mode for so long, on the side.
    pub async fn lock(&mut self, table: &'static str, held: Duration) {
        let Some(database) = self.try_database().await else { return };
        tokio::spawn(async move {
            let lock = format!("BEGIN; SET LOCAL lock_timeout = '2s'; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
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
