//! Traps on Redis connections: exactly the n-th command or reply is hit, also in a pipeline.

use futures_util::future::join_all;
use redis::streams::StreamReadReply;
use redis::{ProtocolVersion, RedisResult};
use testkit::chaos::{Act, Call, Moment, Trap, Weather};
use testkit::eventually;

use crate::*;

const INCR: Call = Call::named("incr");

/// Sends ten increments on one connection before the first reply arrives. Returns the number of replies.
async fn pipeline_ten(connection: &MultiplexedConnection) -> u64 {
    let answers = join_all((0..10).map(|_| increment(connection))).await;
    let answered: Vec<u64> = answers.into_iter().filter_map(Result::ok).collect();
    assert!(answered.is_sorted(), "{answered:?}");
    answered.len() as u64
}

#[tokio::test]
async fn a_trap_on_the_kth_reply_of_ten_executes_that_command_and_delivers_no_reply() {
    let (redis, proxy) = redis_behind_proxy().await;
    for protocol in [ProtocolVersion::RESP2, ProtocolVersion::RESP3] {
        for act in [Act::Cut, Act::CutReply] {
            for kth in [1, 4, 10] {
                let before = counter(&redis).await;
                let connection = connect(proxy.address(), protocol).await.unwrap();
                let trap = proxy.arm(Trap::nth(kth, Moment::Reply(INCR), act));
                assert_eq!(pipeline_ten(&connection).await, kth - 1, "answers, {act:?}");
                assert_eq!(counter(&redis).await - before, kth, "executed, {act:?}");
                assert_eq!(trap.times(), 1);
            }
        }
    }
}

#[tokio::test]
async fn a_trap_on_the_kth_command_of_ten_does_not_forward_it() {
    let (redis, proxy) = redis_behind_proxy().await;
    for act in [Act::Cut, Act::CutReply] {
        for kth in [1, 4, 10] {
            let before = counter(&redis).await;
            let connection = connect_to(&proxy).await;
            let trap = proxy.arm(Trap::nth(kth, Moment::Command(INCR), act));
            assert_eq!(pipeline_ten(&connection).await, kth - 1, "answers, {act:?}");
            assert_eq!(counter(&redis).await - before, kth - 1, "executed, {act:?}");
            assert!(trap.sprung());
        }
    }
}

#[tokio::test]
async fn a_trap_is_exact_when_bytes_arrive_one_by_one() {
    let (redis, proxy) = redis_behind_proxy().await;
    let connection = connect_to(&proxy).await;
    proxy.set(Weather::Slice);
    proxy.arm(Trap::nth(4, Moment::Reply(INCR), Act::Cut));
    assert_eq!(pipeline_ten(&connection).await, 3);
    assert_eq!(counter(&redis).await, 4);
}

#[tokio::test]
async fn a_trap_counts_across_all_connections() {
    let (redis, proxy) = redis_behind_proxy().await;
    let (one, two) = (connect_to(&proxy).await, connect_to(&proxy).await);
    let trap = proxy.arm(Trap::nth(3, Moment::Reply(INCR), Act::Cut));
    assert_eq!(increment(&one).await.unwrap(), 1);
    assert_eq!(increment(&two).await.unwrap(), 2);
    assert!(!trap.sprung());
    assert!(increment(&one).await.is_err());
    assert_eq!(increment(&two).await.unwrap(), 4, "only that connection is hit");
    assert_eq!(counter(&redis).await, 4);
}

#[tokio::test]
async fn a_repeating_trap_springs_at_every_nth_reply_until_the_proxy_is_healed() {
    let (redis, proxy) = redis_behind_proxy().await;
    let trap = proxy.arm(Trap::every(2, Moment::Reply(INCR), Act::Cut));
    for _ in 0..3 {
        let connection = connect_to(&proxy).await;
        increment(&connection).await.unwrap();
        assert!(increment(&connection).await.is_err());
    }
    assert_eq!((trap.times(), counter(&redis).await), (3, 6));
    proxy.heal();
    assert_eq!(pipeline_ten(&connect_to(&proxy).await).await, 10);
    assert_eq!(trap.times(), 3);
}

#[tokio::test]
async fn a_trap_can_select_commands_by_a_key_and_does_not_count_error_replies() {
    let (redis, proxy) = redis_behind_proxy().await;
    let connection = connect_to(&proxy).await;
    let script = redis::Script::new("return redis.call('INCR', KEYS[1])");
    let run =
        async |key: &str| -> RedisResult<u64> { script.key(key).invoke_async(&mut connection.clone()).await };
    let selected = Moment::Reply(Call::named("EVALSHA").containing("counter"));
    let trap = proxy.arm(Trap::nth(2, selected, Act::Cut));
    // The first EVALSHA gets NOSCRIPT, and the client loads the script and retries. That reply does not
    // count.
    run("counter").await.unwrap();
    run("another").await.unwrap();
    run("another").await.unwrap();
    assert!(!trap.sprung());
    assert!(run("counter").await.is_err());
    assert!(trap.sprung());
    assert_eq!(counter(&redis).await, 2);
}

#[tokio::test]
async fn a_trap_can_select_commands_by_their_reply() {
    let (redis, proxy) = redis_behind_proxy().await;
    let connection = connect_to(&proxy).await;
    let trap = proxy.arm(Trap::first(Moment::Reply(INCR.answered_with(":3\r")), Act::Cut));
    assert_eq!((increment(&connection).await.unwrap(), increment(&connection).await.unwrap()), (1, 2));
    assert!(!trap.sprung());
    assert!(increment(&connection).await.is_err());
    assert!(trap.sprung());
    assert_eq!(counter(&redis).await, 3);
}

#[tokio::test]
async fn a_trap_hits_the_reply_of_a_command_that_was_sent_before_the_trap_was_armed() {
    let (redis, proxy) = redis_behind_proxy().await;
    let mut direct = redis.connect().await;
    let () = redis::cmd("XGROUP")
        .arg(&["CREATE", "stream", "workers", "0", "MKSTREAM"])
        .query_async(&mut direct)
        .await
        .unwrap();
    let mut reader = connect_to(&proxy).await;
    let reading = tokio::spawn(async move {
        let mut read = redis::cmd("XREADGROUP");
        read.arg(&["GROUP", "workers", "me", "BLOCK", "0", "STREAMS", "stream", ">"]);
        read.query_async::<StreamReadReply>(&mut reader).await
    });
    eventually(DEADLINE, "the reader to be blocked", async || {
        let clients: String =
            redis::cmd("INFO").arg("clients").query_async(&mut direct.clone()).await.unwrap();
        clients.contains("blocked_clients:1")
    })
    .await;
    let trap = proxy.arm(Trap::first(Moment::Reply(Call::named("XREADGROUP")), Act::Cut));
    let () = redis::cmd("XADD").arg(&["stream", "*", "a", "1"]).query_async(&mut direct).await.unwrap();
    assert!(reading.await.unwrap().is_err());
    assert!(trap.sprung());
    let pending: (u64, String, String, Vec<(String, u64)>) =
        redis::cmd("XPENDING").arg(&["stream", "workers"]).query_async(&mut direct).await.unwrap();
    assert_eq!(pending.3, [("me".to_owned(), 1)], "delivered to the consumer without its knowledge");
}

#[tokio::test]
async fn a_black_hole_trap_affects_only_its_connection() {
    let (redis, proxy) = redis_behind_proxy().await;
    let (one, two) = (connect_to(&proxy).await, connect_to(&proxy).await);
    let trap = proxy.arm(Trap::nth(2, Moment::Reply(INCR), Act::BlackHole));
    increment(&one).await.unwrap();
    let mut lost = tokio::spawn({
        let one = one.clone();
        async move { increment(&one).await }
    });
    eventually(DEADLINE, "the trap to spring", async || trap.sprung()).await;
    assert!(stays_silent(&mut lost).await);
    assert!(stays_silent(increment(&one)).await, "nothing passes after a lost reply");
    assert_eq!(increment(&two).await.unwrap(), 3);
    proxy.heal();
    assert!(lost.await.unwrap().is_err());
    assert_eq!(increment(&two).await.unwrap(), 4);
    assert_eq!(counter(&redis).await, 4);
    let counts = proxy.counts();
    assert_eq!((counts.accepted, counts.reset, counts.sprung), (2, 1, 1));
    assert!(counts.bytes_lost > ":2\r\n".len() as u64);
}

#[tokio::test]
async fn a_pause_loses_nothing() {
    let (redis, proxy) = redis_behind_proxy().await;
    for moment in [Moment::Command(INCR), Moment::Reply(INCR)] {
        let before = counter(&redis).await;
        let connection = connect_to(&proxy).await;
        let trap = proxy.arm(Trap::nth(4, moment, Act::Pause { ms: 600_000 }));
        let mut ten = tokio::spawn(async move { pipeline_ten(&connection).await });
        eventually(DEADLINE, "the trap to spring", async || trap.sprung()).await;
        assert!(stays_silent(&mut ten).await);
        let executed = if moment == Moment::Reply(INCR) { 4 } else { 3 };
        assert_eq!(counter(&redis).await - before, executed);
        proxy.heal();
        assert_eq!(ten.await.unwrap(), 10);
        let short = proxy.arm(Trap::first(moment, Act::Pause { ms: 20 }));
        increment(&connect_to(&proxy).await).await.unwrap();
        assert!(short.sprung());
    }
}
