//! Faults that drills cause from outside, and what they read from the servers.

use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use testkit::eventually;
use testkit::http::{Answer, HttpClient};
use testkit::oracle::Post;

use super::System;
use crate::node::SOON;

/// How long a command may take: the server may be paused.
const TOOL_DEADLINE: Duration = Duration::from_secs(2);

impl System {
    /// Sends Redis a command and ignores the answer. Does nothing while Redis does not run.
    pub async fn command_redis(&mut self, words: &[&str]) {
        if !self.redis_mut().is_running() {
            return;
        }
        let talk = async {
            let mut redis = self.redis().connect().await;
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]);
            command.query_async::<redis::Value>(&mut redis).await
        };
        // The command may close its own connection.
        drop(tokio::time::timeout(TOOL_DEADLINE, talk).await);
    }

    /// Deletes epoch, counters and consumer group of every shard. The entries stay.
    pub async fn forget_counters(&mut self) {
        for shard in 0..self.shards {
            let mut counters = vec![format!("{{s{shard}}}:epoch"), format!("{{s{shard}}}:shard")];
            let of_projects =
                self.projects.iter().map(|(project, _)| format!("{{s{shard}}}:project:{}", project.id));
            counters.extend(of_projects);
            // One command, so that no process can set an epoch while only some counters are deleted.
            let words: Vec<_> = ["DEL"].into_iter().chain(counters.iter().map(String::as_str)).collect();
            self.command_redis(&words).await;
            self.command_redis(&["XGROUP", "DESTROY", &Self::stream_key(shard), "workers"]).await;
        }
    }

    /// Appends an entry to the stream without an admission.
    ///
    /// # Panics
    /// When Redis refuses it.
    pub async fn force(&self, shard: u16, fields: &[(&'static str, Bytes)]) {
        let mut command = redis::cmd("XADD");
        command.arg(Self::stream_key(shard)).arg("*");
        for (name, value) in fields {
            command.arg(name).arg(&value[..]);
        }
        let appended = command.query_async::<String>(&mut self.servers.connect(shard).await).await;
        appended.expect("Redis appends an entry");
    }

    /// The largest number of deliveries of a pending entry of this shard; 0 when no entry is pending.
    ///
    /// # Panics
    /// When Redis does not answer.
    pub async fn deliveries_max(&self, shard: u16) -> u64 {
        let mut command = redis::cmd("XPENDING");
        command.arg(Self::stream_key(shard)).arg("workers").arg("-").arg("+").arg(1_000);
        let pending = command.query_async(&mut self.servers.connect(shard).await).await;
        let pending: Vec<(String, String, u64, u64)> = pending.expect("Redis lists pending entries");
        pending.into_iter().map(|(_, _, _, deliveries)| deliveries).max().unwrap_or(0)
    }

    /// Number of entries in the stream, over all shards.
    ///
    /// # Panics
    /// When Redis does not answer.
    pub async fn entries(&self) -> u64 {
        let mut entries = 0;
        for shard in 0..self.shards {
            let mut redis = self.servers.connect(shard).await;
            let length = redis::cmd("XLEN").arg(Self::stream_key(shard)).query_async::<u64>(&mut redis).await;
            entries += length.expect("Redis answers a drill");
        }
        entries
    }

    /// Kills one PostgreSQL backend of a worker. The whole server then restarts itself.
    pub async fn kill_a_session(&mut self) {
        let Some(database) = self.try_database().await else { return };
        let busiest = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'millrace-worker%'
                        ORDER BY xact_start NULLS LAST LIMIT 1";
        let asked = tokio::time::timeout(TOOL_DEADLINE, database.query_opt(busiest, &[])).await;
        if let Ok(Ok(Some(row))) = asked {
            self.postgres.kill_backend(row.get(0));
        }
    }

    /// Kills a PostgreSQL backend of a worker that has a transaction open, and waits until the server has
    /// recovered.
    pub async fn kill_an_open_transaction(&mut self) {
        let open = "SELECT pid FROM pg_stat_activity
                     WHERE starts_with(application_name, 'millrace-worker:') AND xact_start IS NOT NULL
                     ORDER BY xact_start LIMIT 1";
        let database = self.postgres.connect().await;
        let row = eventually(SOON, "a worker to have a transaction open", async || {
            database.query_opt(open, &[]).await.expect("sessions can be seen")
        })
        .await;
        self.postgres.kill_backend(row.get(0));
        let what = "the other sessions to be ended";
        eventually(SOON, what, async || database.is_closed()).await;
        let config = self.postgres.config();
        let what = "PostgreSQL to recover";
        eventually(SOON, what, async || config.connect(tokio_postgres::NoTls).await.map(drop)).await;
    }

    /// Posts events until one is refused because the backlog is full, and returns that answer.
    ///
    /// # Panics
    /// When no event is refused.
    pub async fn refusal_by_full_backlog(&mut self) -> Answer {
        let api = self.addresses().await[0];
        let project = &self.projects[0].0;
        let mut client = HttpClient::new(api);
        eventually(SOON, "the backlog to be full", async || {
            let mut post = Post::once(project, 1);
            let answer = post.ask(&mut client, project).await;
            post.note(project, &answer);
            let answer = answer.map_err(|error| error.to_string())?;
            let body = answer.json();
            if body["code"] == "backlog_full" { Ok(answer) } else { Err(format!("{} {body}", answer.status)) }
        })
        .await
    }

    /// Locks a table in ACCESS EXCLUSIVE mode for this long, in the background.
    pub async fn lock(&mut self, table: &'static str, duration: Duration) {
        let Some(database) = self.try_database().await else { return };
        tokio::spawn(async move {
            let lock =
                format!("BEGIN; SET LOCAL lock_timeout = '2s'; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
            if database.batch_execute(&lock).await.is_ok() {
                tokio::time::sleep(duration).await;
            }
            // The end of the session releases the lock.
            drop(database);
        });
    }

    /// Waits until every entry that is in the stream now has left it. Later entries do not matter.
    pub async fn current_entries_are_drained(&self) {
        for shard in 0..self.shards {
            let mut redis = self.servers.connect(shard).await;
            let key = Self::stream_key(shard);
            let Some(last) = edge(&mut redis, "XREVRANGE", &key, ["+", "-"]).await else { continue };
            let what = format!("shard {shard} to be drained up to {last:?}");
            eventually(SOON, &what, async || match edge(&mut redis, "XRANGE", &key, ["-", "+"]).await {
                Some(first) if first <= last => Err(format!("{first:?} is still there")),
                _ => Ok(()),
            })
            .await;
        }
    }

    /// Waits until the sum of a metric over all workers is at least this.
    pub async fn workers_reach(&mut self, metric: &str, at_least: f64) {
        let what = format!("{metric} of all workers to reach {at_least}");
        let workers = &mut self.workers;
        eventually(SOON, &what, async || {
            let mut sum = 0.0;
            for worker in &mut *workers {
                sum += worker.metric(metric).await;
            }
            if sum >= at_least { Ok(()) } else { Err(sum.to_string()) }
        })
        .await;
    }

    /// The number of consumers of each shard.
    pub async fn consumers(&self) -> Vec<(u16, usize)> {
        let mut found = Vec::new();
        for shard in 0..self.shards {
            let mut redis = self.servers.connect(shard).await;
            let mut command = redis::cmd("XINFO");
            command.arg("CONSUMERS").arg(Self::stream_key(shard)).arg("workers");
            let consumers = command.query_async::<Vec<redis::Value>>(&mut redis).await;
            let consumers = consumers.expect("Redis lists the consumers");
            found.push((shard, consumers.len()));
        }
        found
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

/// The id of the first or last entry of a stream.
async fn edge(
    redis: &mut MultiplexedConnection,
    command: &str,
    key: &str,
    ends: [&str; 2],
) -> Option<(u64, u64)> {
    let mut command = redis::cmd(command);
    command.arg(key).arg(&ends).arg("COUNT").arg(1);
    let entries: Vec<(String, redis::Value)> =
        command.query_async(redis).await.expect("Redis answers the oracle");
    let (ms, seq) = entries.first()?.0.split_once('-')?;
    Some((ms.parse().ok()?, seq.parse().ok()?))
}
