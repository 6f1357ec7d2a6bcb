//! Processes die at the worst moments. (Every fault there is has its own harness; these are the ones that come first.)

use std::time::Duration;

use testkit::eventually;
use testkit::http::HttpClient;

use crate::stack::{KEY, SOON, Stack, event, metric, post, post_until_accepted};

/// Posts batches of events that can be told apart, each until it is accepted. Returns events posted and how many
/// requests had to be repeated.
async fn load(address: std::net::SocketAddr, client: u32, batches: u32) -> (u32, u32) {
    let mut http = HttpClient::new(address);
    let mut repeated = 0;
    for batch in 0..batches {
        let events: Vec<_> = (0..10).map(|index| event(&format!("{client}-{batch}-{index}"))).collect();
        repeated += post_until_accepted(&mut http, &events).await - 1;
    }
    (batches * 10, repeated)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_between_commit_and_settle_has_counted_nothing_twice() {
    let mut stack = Stack::start().await;
    let (_api, address) = stack.api().await;
    let mut client = HttpClient::new(address);
    let mut worker = stack.worker().await;

    // The worker reads the batch and then waits for this lock; Redis dies meanwhile, so that after the commit there is
    // nothing to settle with.
    stack.database.batch_execute("BEGIN; LOCK TABLE usage_hourly IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let events: Vec<_> = (0..50).map(|index| event(&format!("e{index}"))).collect();
    assert_eq!(post(&mut client, KEY, &events).await.unwrap().status, 202);
    let watcher = stack.postgres.connect().await;
    eventually(SOON, "the worker to wait for the lock", async || {
        let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        watcher.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await;
    stack.redis.kill().await;
    stack.database.batch_execute("COMMIT").await.unwrap();
    eventually(SOON, "the commit", async || stack.events().await == 50).await;
    worker.kill().await;
    stack.redis.restart().await;

    let mut next = stack.worker().await;
    stack.settle_and_audit().await;
    assert_eq!(stack.events().await, 50);
    assert_eq!(stack.count("SELECT sum(events)::bigint FROM usage_hourly").await, 50);
    assert!(metric(&mut next, "millrace_redelivered_entries_total").await >= 1.0, "the entry came again");
    assert!(metric(&mut next, "millrace_taken_over_entries_total").await >= 1.0, "from a silent consumer");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_under_load_loses_nothing_it_has_acknowledged() {
    let mut stack = Stack::start().await;
    let (mut api, address) = stack.api().await;
    let worker = stack.worker().await;
    let clients: Vec<_> = (0..8).map(|client| tokio::spawn(load(address, client, 60))).collect();
    let mut unanswered = 0.0;
    for _ in 0..3 {
        let admitted = metric(&mut api, "millrace_admitted_events_total").await;
        eventually(SOON, "some load", async || {
            metric(&mut api, "millrace_admitted_events_total").await > admitted + 200.0
                || clients.iter().all(tokio::task::JoinHandle::is_finished)
        })
        .await;
        stack.redis.kill().await;
        eventually(SOON, "a post to be refused", async || {
            let answer = testkit::http::get(address, "/readyz", &[]).await;
            answer.status == 503
        })
        .await;
        unanswered += metric(&mut api, "millrace_stream_errors_total").await;
        stack.redis.restart().await;
    }
    let mut posted = 0;
    for client in clients {
        posted += i64::from(client.await.unwrap().0);
    }
    stack.settle_and_audit().await;
    assert_eq!(stack.events().await, posted);
    assert!(unanswered > 0.0, "Redis was missed while it was away");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_killed_in_mid_transaction_stores_each_event_once() {
    let mut stack = Stack::start().await;
    let (_api, address) = stack.api().await;
    let mut worker = stack.worker().await;
    let clients: Vec<_> = (0..4).map(|client| tokio::spawn(load(address, client, 100))).collect();
    for _ in 0..3 {
        let victim = stack.postgres.connect().await;
        eventually(SOON, "a transaction of the worker", async || {
            let busy = "SELECT count(*) FROM pg_stat_activity \
                        WHERE application_name LIKE 'millrace-worker%' AND xact_start IS NOT NULL";
            let under_way = victim.query_one(busy, &[]).await.unwrap().get::<_, i64>(0) > 0;
            under_way || clients.iter().all(tokio::task::JoinHandle::is_finished)
        })
        .await;
        stack.postgres.kill().await;
        stack.postgres.restart().await;
    }
    let mut posted = 0;
    for client in clients {
        posted += i64::from(client.await.unwrap().0);
    }
    stack.database = stack.postgres.connect().await;
    stack.settle_and_audit().await;
    assert_eq!(stack.events().await, posted);
    assert!(metric(&mut worker, "millrace_write_failures_total").await >= 1.0, "the worker was hit");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_postgresql_away_requests_are_answered_and_the_backlog_drains_when_it_is_back() {
    let mut stack = Stack::start().await;
    let (_api, address) = stack.api().await;
    let worker = stack.worker().await;
    let mut client = HttpClient::new(address);
    assert_eq!(post(&mut client, KEY, &[event("first")]).await.unwrap().status, 202);
    eventually(SOON, "the first event", async || stack.events().await == 1).await;

    stack.postgres.stop_fast().await;
    let away = tokio::time::Instant::now();
    let mut posted = 1;
    // All of this is answered while nobody could have asked PostgreSQL anything.
    while away.elapsed() < Duration::from_secs(10) {
        let events: Vec<_> = (0..10).map(|index| event(&format!("{posted}-{index}"))).collect();
        assert_eq!(post(&mut client, KEY, &events).await.unwrap().status, 202);
        posted += 10;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let waiting: i64 =
        redis::cmd("XLEN").arg("{s0}:events").query_async(&mut stack.redis.connect().await).await.unwrap();
    assert_eq!(waiting, (posted - 1) / 10, "all of it waits");
    stack.postgres.restart().await;
    stack.database = stack.postgres.connect().await;
    stack.settle_and_audit().await;
    assert_eq!(stack.events().await, posted);
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_api_leaves_no_half_batch_and_a_retry_elsewhere_is_no_second_event() {
    let stack = Stack::start().await;
    let worker = stack.worker().await;
    let (survivor, second) = stack.api().await;
    let mut posted = 0;
    for round in 0..5 {
        let (mut api, first) = stack.api().await;
        let clients: Vec<_> = (0..4)
            .map(|client| {
                tokio::spawn(async move {
                    let (mut dying, mut living) = (HttpClient::new(first), HttpClient::new(second));
                    let mut accepted = 0_i64;
                    for batch in 0.. {
                        let name = format!("{round}-{client}-{batch}");
                        let events: Vec<_> = (0..5).map(|index| event(&format!("{name}-{index}"))).collect();
                        let answered =
                            post(&mut dying, KEY, &events).await.is_ok_and(|answer| answer.status == 202);
                        accepted += 5;
                        if !answered {
                            post_until_accepted(&mut living, &events).await;
                            break;
                        }
                    }
                    accepted
                })
            })
            .collect();
        eventually(SOON, "some load", async || {
            metric(&mut api, "millrace_admitted_events_total").await > 100.0
        })
        .await;
        api.kill().await;
        for client in clients {
            posted += client.await.unwrap();
        }
    }
    stack.settle_and_audit().await;
    assert_eq!(stack.events().await, posted);
    drop((worker, survivor));
}
