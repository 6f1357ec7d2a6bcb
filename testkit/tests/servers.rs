//! The servers behave as the tests that use them assume.

use std::time::Duration;

use redis::AsyncCommands;
use testkit::{Postgres, Redis, eventually};

const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn an_acknowledged_write_survives_the_kill_of_redis() {
    let mut redis = Redis::start().await;
    let () = redis.connect().await.set("key", "value").await.unwrap();
    redis.kill().await;
    redis.restart().await;
    let value: String = redis.connect().await.get("key").await.unwrap();
    assert_eq!(value, "value");
}

#[tokio::test]
async fn a_wiped_redis_is_empty_and_still_durable() {
    let mut redis = Redis::start_with(&[("maxmemory", "64mb")]).await;
    let () = redis.connect().await.set("key", "value").await.unwrap();
    let url = redis.url();
    redis.wipe_and_restart().await;
    assert_eq!(redis.url(), url, "the address stays the same");
    let mut connection = redis.connect().await;
    let value: Option<String> = connection.get("key").await.unwrap();
    assert_eq!(value, None);
    for (name, value) in [
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("no-appendfsync-on-rewrite", "no"),
        ("maxmemory-policy", "noeviction"),
        ("maxmemory", "67108864"),
        ("save", ""),
    ] {
        let setting: Vec<String> =
            redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut connection).await.unwrap();
        assert_eq!(setting, [name, value]);
    }
}

#[tokio::test]
async fn a_paused_redis_answers_after_it_is_resumed() {
    let mut redis = Redis::start().await;
    let mut connection = redis.connect().await;
    redis.pause();
    let mut request = tokio::spawn(async move { connection.set::<_, _, ()>("a", 1).await });
    let unanswered = tokio::time::timeout(Duration::from_millis(100), &mut request).await;
    assert!(unanswered.is_err());
    redis.resume();
    request.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_committed_row_survives_the_kill_of_all_postgres_processes() {
    let mut postgres = Postgres::start().await;
    let client = postgres.connect().await;
    client.batch_execute("CREATE TABLE numbers (number int); INSERT INTO numbers VALUES (1)").await.unwrap();
    client.batch_execute("BEGIN; INSERT INTO numbers VALUES (2)").await.unwrap();
    postgres.kill().await;
    eventually(DEADLINE, "the client to notice", async || client.is_closed()).await;
    postgres.restart().await;
    let rows = postgres.connect().await.query("SELECT number FROM numbers", &[]).await.unwrap();
    let numbers: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(numbers, [1]);
}

#[tokio::test]
async fn postgres_can_be_stopped_paused_and_shared() {
    let mut postgres = Postgres::start().await;
    let (one, two) = (postgres.create_database().await, postgres.create_database().await);
    one.connect().await.batch_execute("CREATE TABLE same_name ()").await.unwrap();
    two.connect().await.batch_execute("CREATE TABLE same_name ()").await.unwrap();

    let client = one.connect().await;
    postgres.pause();
    let mut request = tokio::spawn(async move { client.batch_execute("SELECT 1").await });
    let unanswered = tokio::time::timeout(Duration::from_millis(100), &mut request).await;
    assert!(unanswered.is_err());
    postgres.resume();
    request.await.unwrap().unwrap();

    postgres.stop_fast().await;
    postgres.restart().await;
    let settings = "SELECT current_setting('fsync') || current_setting('synchronous_commit')";
    let row = one.connect().await.query_one(settings, &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "onon");
}
