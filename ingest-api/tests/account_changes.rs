//! With many accounts, a change of one is known soon, and costs reading one.

use std::net::SocketAddr;
use std::time::Duration;

use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_store::{KeyOptions, Operators};
use testkit::{Postgres, Program, Redis, eventually, http};

const PATIENCE: Duration = Duration::from_secs(120);
const PROJECTS: u32 = 100_000;
const CHANGES: usize = 5;

/// The value of a counter without labels.
async fn counter(metrics: SocketAddr, name: &str) -> u64 {
    let page = http::get(metrics, "/metrics", &[]).await;
    let page = String::from_utf8(page.body.to_vec()).unwrap();
    let line =
        page.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

async fn wait_for_status(api: SocketAddr, key: &str, expected: u16) {
    eventually(PATIENCE, "the key to be known or refused", async || {
        let bearer = format!("Bearer {key}");
        let answer = http::post(api, "/v1/events", &[("authorization", &bearer)], r#"{"name":"a"}"#).await;
        (answer.status == expected).then_some(()).ok_or(answer.status)
    })
    .await;
}

#[tokio::test]
async fn one_change_among_100_000_projects_reads_the_keys_of_one() {
    let (redis, postgres) = tokio::join!(Redis::start(), Postgres::start());
    let store = PostgresStore::new(PostgresOptions {
        source: postgres.config().into(),
        pool_size: 1,
        application: "test-ingest-api",
    });
    store.migrate().await.unwrap();
    let (redis_url, database_url) = (redis.url(), postgres.url());
    let mut program = Program::start(
        "ingest-api",
        &[
            ("LISTEN_ADDR", "127.0.0.1:0"),
            ("METRICS_ADDR", "127.0.0.1:0"),
            ("REDIS_URL", &redis_url),
            ("DATABASE_URL", &database_url),
        ],
    );
    let (api, metrics) = (program.address().await, program.metrics_address().await);
    let fill = format!(
        "WITH p AS (INSERT INTO projects (name, plan) SELECT 'bulk ' || n, 'enterprise' FROM generate_series(1, {PROJECTS}) n
                    RETURNING project_id, name)
         INSERT INTO api_keys (project_id, key_hash) SELECT project_id, sha256(('mk_' || name)::bytea) FROM p"
    );
    postgres.connect().await.batch_execute(&fill).await.unwrap();
    wait_for_status(api, "mk_bulk 1", 202).await;
    wait_for_status(api, &format!("mk_bulk {PROJECTS}"), 202).await;

    // All accounts are also read once a minute, which may meet some of the changes, but not all.
    let mut read = Vec::new();
    for change in 0..CHANGES {
        let before = counter(metrics, "millrace_accounts_read_total").await;
        let name = format!("bulk {}", 1_000 * (change + 1));
        let key = store.create_key(&name, &KeyOptions::default()).await.unwrap();
        wait_for_status(api, &key.key, 202).await;
        assert!(store.revoke_key(key.key_id).await.unwrap());
        wait_for_status(api, &key.key, 401).await;
        wait_for_status(api, &format!("mk_{name}"), 202).await;
        read.push(counter(metrics, "millrace_accounts_read_total").await - before);
    }
    assert!(read.contains(&3), "two keys, and one key after the revocation, of 100,000: {read:?}");
}
