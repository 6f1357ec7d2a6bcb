//! The life of keys: a new or revoked key takes effect soon, and rotated keys overlap.

mod stack;

use std::time::Duration;

use stack::{PATIENCE, Stack, batch};
use testkit::{eventually, http};

async fn status(stack: &Stack, key: &str) -> u16 {
    let bearer = format!("Bearer {key}");
    http::post(stack.server.address, "/v1/events", &[("authorization", &bearer)], batch(1)).await.status
}

async fn wait_until_refused(stack: &Stack, key: &str) {
    eventually(PATIENCE, "the key to be refused", async || {
        let status = status(stack, key).await;
        (status == 401).then_some(()).ok_or(status.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_new_key_is_accepted_and_a_revoked_key_is_refused() {
    let stack = Stack::start().await;
    let (_, key) = stack.another_project("short-lived", "pro", false).await;
    assert!(stack.store.revoke_key(key.key_id).await.unwrap());
    wait_until_refused(&stack, &key.key).await;
    assert_eq!(stack.post(batch(1)).await.status, 202, "other keys stay valid");
}

#[tokio::test]
async fn both_keys_are_valid_during_the_overlap_of_a_rotation() {
    let stack = Stack::start().await;
    let (_, old) = stack.another_project("rotated", "pro", false).await;
    let rotated = stack.store.rotate_key(old.key_id, Duration::from_secs(3_600), None).await.unwrap();
    stack.wait_for_key(&rotated.new.key).await;
    assert_eq!((status(&stack, &old.key).await, status(&stack, &rotated.new.key).await), (202, 202));
}

#[tokio::test]
async fn an_old_key_ends_with_its_overlap_even_if_the_database_is_down() {
    let mut stack = Stack::start().await;
    let (_, old) = stack.another_project("rotated", "pro", false).await;
    let rotated = stack.store.rotate_key(old.key_id, Duration::from_secs(2), None).await.unwrap();
    stack.wait_for_key(&rotated.new.key).await;
    stack.postgres.stop_immediate().await;
    wait_until_refused(&stack, &old.key).await;
    assert_eq!(status(&stack, &rotated.new.key).await, 202, "the new key stays valid");
}
