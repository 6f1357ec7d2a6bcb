//! The reasons of Redis: all that it answers must reach the operator, with its code.

use std::time::Duration;

use millrace_stream::{SharedStream, StreamError};
use testkit::chaos::{ChaosProxy, Wire};
use testkit::{Redis, eventually};

use super::faults::try_admit;
use super::{faults, open, run};
use crate::suite::*;

/// The error of the checks that every program makes, as text. Waits until it is the expected one.
pub async fn assert_reason(url: &str, expected: &[&str]) {
    becomes_the_reason(&open(url, ENOUGH), url, expected).await;
}

/// The same for a stream that was opened with more than a URL.
pub async fn becomes_the_reason(stream: &SharedStream, url: &str, expected: &[&str]) {
    eventually(DEADLINE, &format!("{expected:?} from {url}"), async || {
        let reason = reason(stream).await;
        if expected.iter().all(|part| reason.contains(part)) { Ok(()) } else { Err(reason) }
    })
    .await;
}

/// Everything that the two checks of the stream say.
async fn reason(stream: &SharedStream) -> String {
    let faults = match stream.durability_report(0).await {
        Ok(report) => report.faults.join("; "),
        Err(error) => return error.to_string(),
    };
    match stream.check_writable(0).await {
        Ok(()) => faults,
        Err(error) => format!("{faults} {error}"),
    }
}

fn url(redis: &Redis, credentials: &str) -> String {
    format!("redis://{credentials}@127.0.0.1:{}/0", redis.port())
}

#[tokio::test]
async fn a_password_that_redis_does_not_accept_is_named_with_the_answer_of_redis() {
    let redis = Redis::start().await;
    assert_reason(
        &url(&redis, ":secret"),
        &["REDIS_URL has a password, and this Redis has none", "(ERR AUTH"],
    )
    .await;
    run(&redis, &["ACL", "SETUSER", "default", "resetpass", ">right"]).await;
    assert_reason(&url(&redis, ":wrong"), &["refused the user or the password", "(WRONGPASS invalid"]).await;
    assert_reason(&url(&redis, "nemo:wrong"), &["refused the user or the password", "(WRONGPASS"]).await;
    assert_reason(&redis.url(), &["demands a password, and REDIS_URL has none", "(NOAUTH"]).await;
    let stream = open(&url(&redis, ":right"), ENOUGH);
    eventually(DEADLINE, "the right password", async || stream.check_writable(0).await).await;
}

#[tokio::test]
async fn every_right_that_an_admission_needs_is_named_when_the_user_lacks_it() {
    let redis = Redis::start().await;
    for (rights, expected) in [
        (
            "~* +@all -info",
            &["role and aof_last_write_status cannot be checked", "NOPERM", "'info' command"][..],
        ),
        (
            "~* +@all -config",
            &["appendonly, appendfsync, ", "cannot be checked", "NOPERM", "'config|get' command"],
        ),
        ("~* +@all -evalsha", &["lacks a right", "NOPERM", "'evalsha' command"]),
        ("~* +@all -xadd", &["lacks a right", "(NOPERM XADD {s0}:events)"]),
        ("~* +@all -mset -time", &["(NOPERM TIME, MSET {s0}:batch:"]),
        ("~* +@all -setrange", &["(NOPERM SETRANGE {s0}:batch:"]),
        ("~other:* +@all", &["lacks a right", "NOPERM"]),
    ] {
        let mut command = vec!["ACL", "SETUSER", "app", "reset", "on", ">word"];
        command.extend(rights.split(' '));
        run(&redis, &command).await;
        assert_reason(&url(&redis, "app:word"), expected).await;
    }
    run(&redis, &["ACL", "SETUSER", "app", "reset", "on", ">word", "~{s0}:*", "+@all"]).await;
    let stream = open(&url(&redis, "app:word"), ENOUGH);
    eventually(DEADLINE, "a user with all rights", async || stream.check_writable(0).await).await;
    assert_eq!(faults(&stream).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_node_of_a_cluster_an_unreachable_server_and_an_unknown_host_are_named() {
    let node = Redis::start_with(&[("cluster-enabled", "yes")]).await;
    assert_reason(&node.url(), &["this Redis is a node of a cluster", "begin REDIS_URL with redis+cluster:"])
        .await;
    assert_reason("redis://127.0.0.1:1/", &["no connection to Redis", "refused"]).await;
    assert_reason("redis://no.such.host.invalid/", &["no connection to Redis", "lookup"]).await;
    let redis = Redis::start().await;
    assert_reason(&format!("redis://127.0.0.1:{}/99", redis.port()), &["DB index is out of range"]).await;
}

#[tokio::test]
async fn a_full_server_and_one_without_replicas_are_not_writable_and_say_why() {
    let redis = Redis::start().await;
    let stream = trusted_stream(&redis).await;
    stream.check_writable(0).await.unwrap();
    run(&redis, &["CONFIG", "SET", "maxmemory", "1000000"]).await;
    let full = stream.check_writable(0).await.unwrap_err();
    assert!(matches!(full, StreamError::Full(_)) && full.to_string().contains("(OOM "), "{full}");
    run(&redis, &["CONFIG", "SET", "maxmemory", "0"]).await;
    run(&redis, &["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    let alone = stream.check_writable(0).await.unwrap_err();
    assert!(
        matches!(alone, StreamError::Unavailable(_)) && alone.to_string().contains("NOREPLICAS"),
        "{alone}"
    );
    run(&redis, &["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    stream.check_writable(0).await.unwrap();
    assert_eq!(stream.backlog().await.unwrap().entries, 0, "a check admits nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demoted_server_is_left_for_the_one_that_the_address_leads_to_now() {
    let (old, new) = tokio::join!(Redis::start(), Redis::start());
    let proxy = ChaosProxy::start(([127, 0, 0, 1], old.port()).into(), Wire::Redis).await;
    let stream = open(&format!("redis://{}/0", proxy.address()), ENOUGH);
    connected(&stream).await;
    rebuilt(&stream, EPOCH, &[]).await;
    assert_admitted(admit(&stream, &batch(1)).await);

    let replica_of = |port: u16| vec!["127.0.0.1".to_owned(), port.to_string()];
    let demote = replica_of(old.port());
    run(&new, &["REPLICAOF", &demote[0], &demote[1]]).await;
    eventually(DEADLINE, "the replica to have the epoch", async || {
        (run(&new, &["EXISTS", "{s0}:epoch"]).await == redis::Value::Int(1)).then_some(()).ok_or("not yet")
    })
    .await;
    run(&new, &["REPLICAOF", "NO", "ONE"]).await;
    let demote = replica_of(new.port());
    run(&old, &["REPLICAOF", &demote[0], &demote[1]]).await;

    // The address still leads to the old server, which answers well.
    let refused = try_admit(&stream).await.unwrap_err();
    assert!(
        matches!(refused, StreamError::ReadOnly(_)) && refused.to_string().contains("READONLY"),
        "{refused}"
    );
    eventually(DEADLINE, "the role to be the reason", async || {
        let reason = reason(&stream).await;
        if reason.contains("this Redis is a replica") { Ok(()) } else { Err(reason) }
    })
    .await;
    proxy.lead_to(([127, 0, 0, 1], new.port()).into());
    let decision = eventually(DEADLINE, "an admission", async || try_admit(&stream).await).await;
    assert_admitted(decision);
    let found = faults(&stream).await;
    assert!(
        found.len() == 1 && found[0].contains("min-replicas-to-write"),
        "asked of the new server, whose replica is the old one: {found:?}"
    );
    assert_eq!(stream.backlog().await.unwrap().entries, 2);
    let mut reader = stream.reader(0, "lane").await.unwrap();
    assert_eq!(reader.next(10, Duration::ZERO).await.unwrap().len(), 2);
}
