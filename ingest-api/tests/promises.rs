//! The promises to clients: repeated requests, waiting, plans, and batches accepted without PostgreSQL.

mod stack;

use std::sync::Arc;
use std::time::Duration;

use ingest_api::{Deps, StatusPage, TrustedProxies};
use millrace_reconcile::health::{Durability, StreamHealth};
use millrace_reconcile::keeper::CheckPeriods;
use stack::{
    BACKLOG_EVENTS_MAX, PATIENCE, Server, Stack, batch, default_limits, gzip, open_stream_at, problem,
};
use testkit::chaos::{Act, Call, ChaosProxy, Moment, Trap, Wire};
use testkit::eventually;
use testkit::http::{self, Answer};

fn batch_id(answer: &Answer) -> String {
    answer.json()["batch_id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_repeated_idempotency_key_gets_its_first_answer_and_stores_nothing_twice() {
    let stack = Stack::start().await;
    let key = ("idempotency-key", "order-1");
    let body = r#"[{"name":"a"},{"name":""}]"#;
    let first = stack.post_with(&[key], body).await;
    let second = stack.post_with(&[key], body).await;
    let encoded = stack.post_with(&[key, ("content-encoding", "gzip")], gzip(body.as_bytes())).await;
    assert_eq!(first.status, 202);
    for again in [second, encoded] {
        assert_eq!((again.status, again.body), (first.status, first.body.clone()));
    }
    assert_eq!(stack.stream.backlog().await.unwrap().events, 1);

    let other_body = stack.post_with(&[key], batch(1)).await;
    assert_eq!((other_body.status, problem(&other_body).as_str()), (422, "idempotency_conflict"));
    let other_key = stack.post_with(&[("idempotency-key", "order-2")], body).await;
    assert_ne!(batch_id(&other_key), batch_id(&first));
    let (_, key_of_other) = stack.another_project("other", "pro", false).await;
    let bearer = format!("Bearer {}", key_of_other.key);
    let other_project =
        http::post(stack.server.address, "/v1/events", &[("authorization", &bearer), key], body).await;
    assert_eq!(other_project.status, 202, "idempotency keys of two projects do not conflict");
    assert_ne!(batch_id(&other_project), batch_id(&first));
}

#[tokio::test]
async fn a_client_that_waits_gets_the_outcome_when_its_batch_is_settled() {
    let stack = Stack::start().await;
    let waiting = [("prefer", "wait=30")];
    let post = stack.post_with(&waiting, batch(3));
    let settle = eventually(PATIENCE, "the batch to be settled", async || {
        if stack.settle_all().await == 1 { Some(()) } else { None }
    });
    let (answer, ()) = tokio::join!(post, settle);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("preference-applied"), Some("wait=30"));
    let document = answer.json();
    assert_eq!((&document["accepted"], &document["stored"]), (&3.into(), &3.into()));
    assert_eq!((&document["duplicate"], &document["dead"]), (&0.into(), &0.into()));
}

#[tokio::test]
async fn a_client_whose_wait_is_over_gets_202() {
    let stack = Stack::start().await;
    let answer = stack.post_with(&[("prefer", "wait=1")], batch(1)).await;
    assert_eq!(answer.status, 202);
    assert_eq!(answer.header("preference-applied"), Some("wait=1"));
}

#[tokio::test]
async fn only_its_own_project_can_see_the_state_of_a_batch() {
    let stack = Stack::start().await;
    let path = format!("/v1/batches/{}", batch_id(&stack.post(batch(2)).await));
    let pending = stack.get(&path).await;
    assert_eq!((pending.status, &pending.json()["status"]), (200, &"pending".into()));
    assert_eq!(pending.json()["accepted"], 2);

    let (_, key) = stack.another_project("other", "pro", false).await;
    let bearer = format!("Bearer {}", key.key);
    let foreign = http::get(stack.server.address, &path, &[("authorization", &bearer)]).await;
    assert_eq!((foreign.status, problem(&foreign).as_str()), (404, "not_found"));
    for unknown in ["/v1/batches/018f2b6e-0000-7000-8000-000000000000", "/v1/batches/never"] {
        assert_eq!(problem(&stack.get(unknown).await), "not_found", "{unknown}");
    }
}

#[tokio::test]
async fn over_the_rate_is_429_and_a_known_batch_still_gets_its_first_answer() {
    let stack = Stack::start().await;
    let (_, key) = stack.planned_project("slow", 1, 2, None, 10).await;
    let bearer = format!("Bearer {key}");
    let keyed = [("authorization", bearer.as_str()), ("idempotency-key", "first")];
    let mut client = stack.client();
    let first = client.post("/v1/events", &keyed, batch(1)).await.unwrap();
    assert_eq!(first.status, 202);
    assert_eq!(client.post("/v1/events", &keyed[..1], batch(1)).await.unwrap().status, 202);
    // The stream refuses the first of these. The others are refused without asking it.
    for _ in 0..3 {
        let refused = client.post("/v1/events", &keyed[..1], batch(1)).await.unwrap();
        assert_eq!((refused.status, problem(&refused).as_str()), (429, "rate_limited"));
        let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
        assert!(refused.header("ratelimit").unwrap().starts_with(r#""minute";r=0;t="#), "{refused:?}");
        assert_eq!(refused.json()["violated-policies"], serde_json::json!(["minute"]));
        assert_eq!(refused.json()["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    }
    let again = client.post("/v1/events", &keyed, batch(1)).await.unwrap();
    assert_eq!((again.status, again.body), (202, first.body));
    let too_many = client.post("/v1/events", &[keyed[0], ("idempotency-key", "b")], batch(11)).await.unwrap();
    assert_eq!((too_many.status, problem(&too_many).as_str()), (413, "too_many_events"));
    assert_eq!(stack.stream.backlog().await.unwrap().entries, 2);

    let database = stack.postgres.connect().await;
    database.execute("UPDATE plans SET burst = 100 WHERE name = 'slow'", &[]).await.unwrap();
    eventually(PATIENCE, "the new plan to be in force", async || {
        let answer = client.post("/v1/events", &keyed[..1], batch(1)).await.unwrap();
        (answer.status == 202).then_some(()).ok_or(answer.status.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_after_a_lost_answer_does_not_say_that_nothing_was_accepted() {
    let stack = Stack::start().await;
    let proxy = ChaosProxy::start(([127, 0, 0, 1], stack.redis.port()).into(), Wire::Redis).await;
    let deps = Deps {
        stream: open_stream_at(format!("redis://{}/0", proxy.address())),
        store: Arc::clone(&stack.store),
        stream_health: Arc::new(StreamHealth::new(Durability::Strict, 1)),
        check_periods: Some(CheckPeriods::API),
        status_page: StatusPage::Auto,
        trusted_proxies: TrustedProxies::default(),
        limits: default_limits(),
    };
    let stack = Stack { server: Server::start(deps).await, ..stack };
    stack.ready().await;
    let (_, key) = stack.planned_project("slow", 1, 1, None, 10).await;
    let authorization = [("authorization", format!("Bearer {key}"))];
    let authorization = authorization.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut client = stack.client();
    assert_eq!(client.post("/v1/events", &authorization, batch(1)).await.unwrap().status, 202);

    let admission = Call::named("EVALSHA").containing("}:batch:");
    let trap = proxy.arm(Trap::first(Moment::Command(admission), Act::Cut));
    let unknown = client.post("/v1/events", &authorization, batch(1)).await.unwrap();
    assert!(trap.sprung());
    assert_eq!((unknown.status, problem(&unknown).as_str()), (503, "stream_unavailable"));
    let refused = client.post("/v1/events", &authorization, batch(1)).await.unwrap();
    assert_eq!((refused.status, problem(&refused).as_str()), (429, "rate_limited"));
}

#[tokio::test]
async fn a_project_over_its_rate_is_refused_without_asking_the_stream() {
    let mut stack = Stack::start().await;
    let (_, key) = stack.planned_project("slow", 1, 1, None, 10).await;
    let bearer = format!("Bearer {key}");
    let keyed = [("authorization", bearer.as_str()), ("idempotency-key", "any")];
    let mut client = stack.client();
    assert_eq!(client.post("/v1/events", &keyed[..1], batch(1)).await.unwrap().status, 202);
    assert_eq!(client.post("/v1/events", &keyed[..1], batch(1)).await.unwrap().status, 429);
    stack.redis.kill().await;
    let local = client.post("/v1/events", &keyed[..1], batch(1)).await.unwrap();
    assert_eq!((local.status, problem(&local).as_str()), (429, "rate_limited"), "without the stream");
    let asked = client.post("/v1/events", &keyed, batch(1)).await.unwrap();
    assert_eq!(
        (asked.status, problem(&asked).as_str()),
        (503, "stream_unavailable"),
        "only the stream knows whether this batch was admitted"
    );
    assert_eq!(
        problem(&stack.post(batch(1)).await),
        "stream_unavailable",
        "another project is not over its rate"
    );
}

#[tokio::test]
async fn a_batch_that_does_not_fit_into_the_month_is_429() {
    let stack = Stack::start().await;
    let (_, key) = stack.planned_project("tiny", 600, 600, Some(5), 10).await;
    let headers = [("authorization", &*format!("Bearer {key}"))];
    let mut client = stack.client();
    assert_eq!(client.post("/v1/events", &headers, batch(3)).await.unwrap().status, 202);
    let refused = client.post("/v1/events", &headers, batch(3)).await.unwrap();
    assert_eq!((refused.status, problem(&refused).as_str()), (429, "quota_exceeded"));
    assert_eq!(refused.json()["violated-policies"], serde_json::json!(["month"]));
    // Only RateLimit has the time until the month ends. A client would hold its events for as long as
    // Retry-After says.
    assert!(refused.header("ratelimit-policy").unwrap().contains(r#""month";q=5;w="#), "{refused:?}");
    let state = refused.header("ratelimit").unwrap();
    let month_ends_s = state.split_once(r#""month";r=2;t="#).expect(state).1.parse::<u64>().unwrap();
    let retry_after_s = refused.header("retry-after").unwrap().parse::<u64>().unwrap();
    assert_eq!(retry_after_s, month_ends_s.clamp(1, 3_600));
    assert_eq!(
        client.post("/v1/events", &headers, batch(2)).await.unwrap().status,
        202,
        "a batch that fits is accepted"
    );
    let one_valid = r#"[{"name":"good"},1,2,3,4,5,6]"#;
    let refused = client.post("/v1/events", &headers, one_valid).await.unwrap();
    assert_eq!(
        problem(&refused),
        "quota_exceeded",
        "invalid events are not charged, so this could pass next month"
    );
    let never = client.post("/v1/events", &headers, batch(6)).await.unwrap();
    assert_eq!(problem(&never), "too_many_events", "a batch that can never fit must not be retried");
}

#[tokio::test]
async fn a_full_backlog_is_503_and_nothing_is_charged() {
    let stack = Stack::start().await;
    for _ in 0..BACKLOG_EVENTS_MAX / 1_000 {
        assert_eq!(stack.post(batch(1_000)).await.status, 202);
    }
    let refused = stack.post(batch(1_000)).await;
    assert_eq!((refused.status, problem(&refused).as_str()), (503, "backlog_full"));
    assert_eq!(
        refused.json()["type"],
        "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
    );
    assert_eq!(stack.get("/v1/limits").await.json()["events"]["used"], BACKLOG_EVENTS_MAX);
    stack.settle_all().await;
    assert_eq!(stack.post(batch(1_000)).await.status, 202);
}

#[tokio::test]
async fn without_postgresql_batches_are_accepted_and_reports_are_503() {
    let mut stack = Stack::start().await;
    stack.postgres.kill().await;
    for _ in 0..20 {
        assert_eq!(stack.post(batch(10)).await.status, 202);
    }
    let refused = stack.get("/v1/usage").await;
    assert_eq!((refused.status, problem(&refused).as_str()), (503, "store_unavailable"));
    assert_eq!(stack.get("/readyz").await.status, 200, "the server accepts batches, so it is ready");
    stack.postgres.restart().await;
    eventually(PATIENCE, "reports to come back", async || {
        let answer = stack.get("/v1/usage").await;
        (answer.status == 200).then_some(()).ok_or(answer.status.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_postgresql_that_does_not_answer_delays_no_batch() {
    let mut stack = Stack::start().await;
    stack.postgres.pause();
    let posts = async {
        for _ in 0..20 {
            assert_eq!(stack.post(batch(10)).await.status, 202);
        }
        let refused = stack.get("/v1/usage").await;
        assert_eq!((refused.status, problem(&refused).as_str()), (503, "store_unavailable"));
    };
    tokio::time::timeout(PATIENCE, posts).await.expect("no request waits for the store indefinitely");
    stack.postgres.resume();
}

#[tokio::test]
async fn a_batch_sent_again_after_a_lost_answer_is_in_the_stream_once() {
    let mut stack = Stack::start().await;
    let key = ("idempotency-key", "lost");
    stack.redis.pause();
    let lost = stack.post_with(&[key], batch(3)).await;
    assert_eq!((lost.status, problem(&lost).as_str()), (503, "stream_unavailable"));
    stack.redis.resume();
    eventually(PATIENCE, "the batch to be accepted", async || {
        let answer = stack.post_with(&[key], batch(3)).await;
        if answer.status == 202 { Ok(()) } else { Err(problem(&answer)) }
    })
    .await;
    assert_eq!(stack.stream.backlog().await.unwrap().entries, 1);
}

#[tokio::test]
async fn without_redis_the_answer_is_503_until_redis_is_back() {
    let mut stack = Stack::start().await;
    stack.redis.kill().await;
    // The first request may use a connection that is not known to be broken yet.
    for _ in 0..5 {
        let refused = stack.post(batch(1)).await;
        assert_eq!((refused.status, problem(&refused).as_str()), (503, "stream_unavailable"));
    }
    assert_eq!(stack.get("/readyz").await.status, 503);
    assert_eq!(stack.get("/healthz").await.status, 200);
    stack.redis.restart().await;
    stack.ready().await;
    eventually(PATIENCE, "batches to be accepted again", async || {
        let answer = stack.post(batch(1)).await;
        (answer.status == 202).then_some(()).ok_or(answer.status.to_string())
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_lost_its_data_admits_nothing_until_its_counters_are_rebuilt() {
    let mut stack = Stack::start().await;
    assert_eq!(stack.post(batch(1)).await.status, 202);
    let before = stack.store.epoch(0).await.unwrap();
    stack.redis.wipe_and_restart().await;
    eventually(PATIENCE, "batches to be accepted again", async || {
        let answer = stack.post(batch(1)).await;
        if answer.status == 202 { Ok(()) } else { Err(problem(&answer)) }
    })
    .await;
    assert_ne!(stack.store.epoch(0).await.unwrap(), before);
}

#[tokio::test]
async fn a_redis_that_is_not_durable_is_used_only_with_relaxed_durability() {
    let stack = Stack::start().await;
    let mut redis = stack.redis.connect().await;
    redis::cmd("CONFIG").arg("SET").arg("appendfsync").arg("everysec").exec_async(&mut redis).await.unwrap();
    for (durability, status) in [(Durability::Strict, 503), (Durability::Relaxed, 202)] {
        let (stream, store) = (stack::open_stream(&stack.redis), Arc::clone(&stack.store));
        let (status_page, limits) = (StatusPage::Auto, default_limits());
        let stream_health = Arc::new(StreamHealth::new(durability, 1));
        let check_periods = Some(CheckPeriods::API);
        let trusted_proxies = TrustedProxies::default();
        let deps = Deps { stream, store, stream_health, check_periods, status_page, trusted_proxies, limits };
        let server = Server::start(deps).await;
        let bearer = stack.bearer();
        let settled = eventually(PATIENCE, "the server to have checked Redis", async || {
            let ready = http::get(server.address, "/readyz", &[]).await.json();
            let reasons = ready["reasons"].as_array().unwrap();
            let only_durability = reasons.len() == 1 && reasons[0].as_str().unwrap().contains("on disk");
            (reasons.is_empty() || only_durability).then_some(reasons.len()).ok_or(ready.to_string())
        })
        .await;
        assert_eq!(settled == 0, status == 202, "readiness under {durability:?}");
        let answer = http::post(server.address, "/v1/events", &[("authorization", &bearer)], batch(1)).await;
        assert_eq!(answer.status, status, "{durability:?}");
    }
}

#[tokio::test]
async fn a_redis_that_restarts_without_fsync_gets_no_batches() {
    let mut stack = Stack::start().await;
    assert_eq!(stack.post(batch(1)).await.status, 202);
    stack.redis.kill().await;
    assert_eq!(stack.post(batch(1)).await.status, 503);
    stack.redis.restart_with(&[("appendfsync", "everysec")]).await;
    eventually(PATIENCE, "the server to reach its Redis again", async || {
        assert_eq!(stack.post(batch(1)).await.status, 503, "before its settings are known");
        let ready = stack.get("/readyz").await.json();
        let reasons = ready["reasons"].as_array().unwrap();
        let only_durability = reasons.len() == 1 && reasons[0].as_str().unwrap().contains("on disk");
        only_durability.then_some(()).ok_or(ready.to_string())
    })
    .await;
    assert_eq!(stack.post(batch(1)).await.status, 503);
}

#[tokio::test]
async fn the_last_use_of_a_key_is_written_when_the_server_stops() {
    let stack = Stack::start().await;
    assert_eq!(stack.post(batch(1)).await.status, 202);
    let Stack { mut server, postgres, .. } = stack;
    server.ask_to_stop();
    tokio::time::timeout(Duration::from_secs(20), server.stopped()).await.expect("the drain is bounded");
    let database = postgres.connect().await;
    let used = database
        .query_one("SELECT count(*) FROM api_keys WHERE last_used_at IS NOT NULL", &[])
        .await
        .unwrap();
    assert_eq!(used.get::<_, i64>(0), 1);
}
