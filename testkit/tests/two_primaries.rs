//! Two servers of PostgreSQL that both take writes: a standby was promoted, and the old primary runs, too.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use testkit::{Postgres, Program, Redis, eventually, http, wait_until_ready};

const SOON: Duration = Duration::from_secs(60);
const KEY: &str = "two-primaries-key-1";
/// Programs that start, for each order of the hosts. Each could meet either server first.
const ROUNDS: i64 = 3;

/// The servers of one installation with one project, and both addresses of PostgreSQL.
struct Servers {
    redis: Redis,
    old: Postgres,
    new: Postgres,
}

impl Servers {
    /// A primary that has a project, and its standby.
    async fn start() -> Self {
        let (redis, old) = (Redis::start().await, Postgres::start().await);
        for arguments in [&["migrate"][..], &["project", "create", "shop", "--plan", "pro", "--key", KEY]] {
            millrace(&redis, &old.url(), arguments).await;
        }
        let new = old.start_standby().await;
        Self { redis, old, new }
    }

    fn start_program(&self, name: &str, database: &str) -> Program {
        let redis = self.redis.url();
        let variables = [
            ("REDIS_URL", redis.as_str()),
            ("DATABASE_URL", database),
            ("LISTEN_ADDR", "127.0.0.1:0"),
            ("METRICS_ADDR", "127.0.0.1:0"),
            ("UPKEEP_INTERVAL_MS", "500"),
        ];
        Program::start(name, &variables)
    }

    async fn start_api(&self, database: &str) -> (Program, SocketAddr) {
        let mut api = self.start_program("ingest-api", database);
        let address = api.address().await;
        wait_until_ready(address, SOON).await;
        (api, address)
    }

    async fn start_worker(&self, database: &str) -> Program {
        let mut worker = self.start_program("stream-worker", database);
        worker.wait_for_line("lanes are draining").await;
        worker
    }
}

async fn millrace(redis: &Redis, database: &str, arguments: &[&str]) {
    let redis = redis.url();
    let variables = [("REDIS_URL", redis.as_str()), ("DATABASE_URL", database)];
    let output = Program::run("millrace", arguments, &variables).await;
    assert_eq!(output.code, Some(0), "millrace {arguments:?}: {output:?}");
}

async fn post(api: SocketAddr, key: &str, event: &serde_json::Value) -> u16 {
    let authorization = format!("Bearer {key}");
    let body = json!({ "events": [event] }).to_string();
    http::post(api, "/v1/events", &[("authorization", &authorization)], body).await.status
}

async fn count(server: &Postgres, question: &str) -> i64 {
    server.connect().await.query_one(question, &[]).await.unwrap().get(0)
}

async fn becomes(server: &Postgres, question: &str, expected: i64) {
    eventually(SOON, &format!("{question} to be {expected}"), async || match count(server, question).await {
        found if found == expected => Ok(()),
        found => Err(found),
    })
    .await;
}

/// Rows that anyone has written to any table since the server started.
const ROWS_WRITTEN: &str =
    "SELECT coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint FROM pg_stat_user_tables";
const EVENTS: &str = "SELECT count(*) FROM events";
const REFUSED: &str = "SELECT coalesce(sum(count), 0)::bigint FROM rejections_hourly WHERE kind = 'event'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_to_an_old_primary_that_returns_in_either_order_of_the_hosts() {
    let mut servers = Servers::start().await;
    servers.old.kill().await;
    servers.new.promote().await;
    servers.old.restart().await;
    let orders = [servers.old.url_with(&servers.new), servers.new.url_with(&servers.old)];
    let mut stored = 0;
    for (order, both) in orders.iter().enumerate() {
        for round in 0..ROUNDS {
            // New processes, which have seen neither server before.
            let (mut api, address) = servers.start_api(both).await;
            let mut worker = servers.start_worker(both).await;
            let key = format!("two-primaries-key-of-round-{order}-{round}");
            millrace(&servers.redis, both, &["key", "create", "shop", "--key", &key]).await;
            let what = "the new key to work";
            eventually(SOON, what, async || post(address, &key, &json!({"name": "a"})).await == 202).await;
            assert_eq!(post(address, &key, &json!({"name": 1})).await, 422, "which is reported");
            stored += 1;
            becomes(&servers.new, EVENTS, stored).await;
            becomes(&servers.new, REFUSED, stored).await;
            for program in [&mut api, &mut worker] {
                program.terminate();
                assert!(program.wait_exit().await.success());
            }
        }
    }
    assert_eq!(count(&servers.old, ROWS_WRITTEN).await, 0, "rows written to the old primary");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_that_stay_connected_to_the_old_primary_leave_it_when_another_is_promoted() {
    let servers = Servers::start().await;
    let both = servers.old.url_with(&servers.new);
    let (_api, address) = servers.start_api(&both).await;
    let mut worker = servers.start_worker(&both).await;
    assert_eq!(post(address, KEY, &json!({"name": "before"})).await, 202);
    becomes(&servers.new, EVENTS, 1).await;
    // The old primary works on, and keeps every connection.
    servers.new.cut_replication().await;
    servers.new.promote().await;
    worker.wait_for_line("PostgreSQL is on another timeline").await;
    millrace(&servers.redis, &servers.new.url(), &["key", "create", "shop", "--key", "a-key-of-the-new-one"])
        .await;
    eventually(SOON, "the key of the new primary to work", async || {
        post(address, "a-key-of-the-new-one", &json!({"name": "after"})).await == 202
    })
    .await;
    becomes(&servers.new, EVENTS, 2).await;
    assert_eq!(count(&servers.old, EVENTS).await, 1);
}
