//! The servers that tests run on are what they claim to be.

use std::time::Duration;

use redis::AsyncCommands;
use testkit::{Postgres, Redis, eventually};

const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn what_redis_has_answered_survives_its_death() {
    let mut redis = Redis::start().await;
    let () = redis.connect().await.set("promise", "kept").await.unwrap();
    redis.kill().await;
    redis.restart().await;
    let kept: String = redis.connect().await.get("promise").await.unwrap();
    assert_eq!(kept, "kept");
}

#[tokio::test]
async fn a_wiped_redis_remembers_nothing_and_is_still_durable() {
    let mut redis = Redis::start_with(&[("maxmemory", "64mb")]).await;
    let () = redis.connect().await.set("promise", "kept").await.unwrap();
    let url = redis.url();
    redis.wipe_and_restart().await;
    assert_eq!(redis.url(), url, "clients find it where it was");
    let mut connection = redis.connect().await;
    let kept: Option<String> = connection.get("promise").await.unwrap();
    assert_eq!(kept, None);
    for (name, value) in [
        ("appendonly", "yes"),
        ("appendfsync", "always"),
        ("no-appendfsync-on-rewrite", "no"),
        ("maxmemory-policy", "noeviction"),
        ("maxmemory", "67108864"),
        ("save", ""),
    ] {
        let seen: Vec<String> =
            redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut connection).await.unwrap();
        assert_eq!(seen, [name, value]);
    }
}

#[tokio::test]
async fn a_paused_redis_answers_only_once_it_is_resumed() {
    let mut redis = Redis::start().await;
    let mut connection = redis.connect().await;
    redis.pause();
    let mut question = tokio::spawn(async move { connection.set::<_, _, ()>("a", 1).await });
    let unanswered = tokio::time::timeout(Duration::from_millis(100), &mut question).await;
    assert!(unanswered.is_err());
    redis.resume();
    question.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_postgres_has_committed_survives_the_death_of_all_its_processes() {
    let mut postgres = Postgres::start().await;
    let client = postgres.connect().await;
    client
        .batch_execute("CREATE TABLE promise (kept bool); INSERT INTO promise VALUES (true)")
        .await
        .unwrap();
    client.batch_execute("BEGIN; INSERT INTO promise VALUES (false)").await.unwrap();
    postgres.kill().await;
    eventually(DEADLINE, "the client to notice", async || client.is_closed()).await;
    postgres.restart().await;
    let rows = postgres.connect().await.query("SELECT kept FROM promise", &[]).await.unwrap();
    let kept: Vec<bool> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(kept, [true]);
}

#[tokio::test]
async fn postgres_can_be_stopped_paused_and_shared() {
    let mut postgres = Postgres::start().await;
    let (one, two) = (postgres.create_database().await, postgres.create_database().await);
    one.connect().await.batch_execute("CREATE TABLE mine ()").await.unwrap();
    two.connect().await.batch_execute("CREATE TABLE mine ()").await.unwrap();

    let client = one.connect().await;
    postgres.pause();
    let mut question = tokio::spawn(async move { client.batch_execute("SELECT 1").await });
    let unanswered = tokio::time::timeout(Duration::from_millis(100), &mut question).await;
    assert!(unanswered.is_err());
    postgres.resume();
    question.await.unwrap().unwrap();

    postgres.stop_fast().await;
    postgres.restart().await;
    let settings = "SELECT current_setting('fsync') || current_setting('synchronous_commit')";
    let row = one.connect().await.query_one(settings, &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "onon");
}
