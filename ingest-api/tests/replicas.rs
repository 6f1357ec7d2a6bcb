//! Answers to clients while Redis lacks the replicas that DURABILITY or its own configuration demands.

mod stack;

use std::sync::Arc;

use ingest_api::{Deps, StatusPage};
use millrace_reconcile::health::{Durability, StreamHealth};
use millrace_stream::redis::{RedisOptions, RedisStream};
use stack::{PATIENCE, Server, Stack, batch, problem};
use testkit::eventually;
use testkit::http::Answer;

/// The stack with a server of this durability.
async fn with_durability(stack: Stack, durability: Durability) -> Stack {
    let stream =
        RedisStream::new(RedisOptions { durability, ..RedisOptions::new(stack.redis.url()) }).unwrap();
    let stream_health = Arc::new(StreamHealth::new(durability, 1));
    let deps = Deps { stream, stream_health, ..stack.deps(StatusPage::Auto) };
    let stack = Stack { server: Server::start(deps).await, ..stack };
    stack.ready().await;
    stack
}

async fn is_accepted_soon(stack: &Stack, key: &str) {
    eventually(PATIENCE, "the batch to be accepted", async || {
        let answer = stack.post_with(&[("idempotency-key", key)], batch(1)).await;
        if answer.status == 202 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
}

/// Waits until a post gets an answer other than 202, and /readyz names the reason.
async fn is_refused_soon(stack: &Stack, key: &str, reason: &str) -> Answer {
    eventually(PATIENCE, reason, async || {
        let answer = stack.post_with(&[("idempotency-key", key)], batch(1)).await;
        let ready = stack.get("/readyz").await;
        let told = String::from_utf8_lossy(&ready.body).into_owned();
        if answer.status != 202 && ready.status == 503 && told.contains(reason) {
            Ok(answer)
        } else {
            Err(told)
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_without_its_replica_is_503_and_stored_once_when_it_is_sent_again() {
    let stack = Stack::start().await;
    let mut replica = stack.redis.replica_with(&[]).await;
    let stack = with_durability(stack, Durability::Replicated { replicas: 1 }).await;
    is_accepted_soon(&stack, "first").await;
    replica.pause();
    let unknown = stack.post_with(&[("idempotency-key", "second")], batch(1)).await;
    assert_eq!((unknown.status, problem(&unknown).as_str()), (503, "stream_unavailable"));
    replica.resume();
    is_accepted_soon(&stack, "second").await;
    assert_eq!(stack.stream.backlog().await.unwrap().events, 2, "no batch is there twice");

    replica.kill().await;
    let refused = is_refused_soon(&stack, "third", "Redis has 0 replicas that keep up with it").await;
    assert_eq!((refused.status, problem(&refused).as_str()), (503, "stream_unavailable"));
    let _another = stack.redis.replica_with(&[]).await;
    is_accepted_soon(&stack, "third").await;
    assert_eq!(stack.stream.backlog().await.unwrap().events, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_lacks_its_minimum_of_replicas_is_not_taken_for_a_full_backlog() {
    let stack = Stack::start().await;
    let mut replica = stack.redis.replica_with(&[]).await;
    stack.redis.run(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    is_accepted_soon(&stack, "first").await;
    replica.kill().await;
    let refused = is_refused_soon(&stack, "second", "NOREPLICAS").await;
    assert_eq!((refused.status, problem(&refused).as_str()), (503, "stream_unavailable"));
    let _another = stack.redis.replica_with(&[]).await;
    is_accepted_soon(&stack, "second").await;
    assert_eq!(stack.stream.backlog().await.unwrap().events, 2);
}
