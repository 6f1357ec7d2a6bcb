//! Measures what a batch of ten events costs Redis: processor time and memory. Not a test. Run it with `cargo
//! test -p millrace-stream --test stream -- --ignored --nocapture redis::cost`. The processor time is that of
//! the server, so the profile of the build hardly matters.

use std::time::Duration;

use millrace_event::entry::NewBatch;
use millrace_event::row::{EventTime, Row};
use millrace_stream::SharedStream;
use testkit::Redis;
use uuid::Uuid;

use crate::suite::*;

const EVENTS: u32 = 10;
const BATCHES: usize = 20_000;
const NAMES: [&str; 5] = ["page_view", "product_viewed", "add_to_cart", "checkout", "purchase"];

/// Rows as visitors of a shop make them: about 350 bytes each, with ids and times of their own.
fn rows(number: usize) -> Vec<u8> {
    let mut rows = Vec::new();
    for event in 0..EVENTS as usize {
        let at = number * EVENTS as usize + event;
        let user = format!("user-{}", at.wrapping_mul(0x9E37_79B9) % 50_000);
        let properties = format!(
            r#"{{"path":"/products/{}","referrer":"https://www.example.com/search?q={}","price":{}.{:02},"currency":"EUR","quantity":{},"session":"{}"}}"#,
            at.wrapping_mul(31) % 2_000,
            at.wrapping_mul(17) % 500,
            at % 200,
            at % 100,
            at % 5,
            at / 7
        );
        let context = r#"{"library":{"name":"shop-web","version":"3.2.1"},"locale":"de-DE","screen":{"width":1920,"height":1080}}"#;
        let row = Row {
            project: PROJECT,
            time: EventTime::At(1_795_000_000_000_000 + at as i64 * 1_013),
            event_id: Uuid::new_v4(),
            by_id: false,
            name: NAMES[at % NAMES.len()],
            subject: Some(&user),
            client_id: None,
            properties: Some(properties.as_bytes()),
            context: Some(context.as_bytes()),
        };
        row.write(&mut rows);
    }
    rows
}

fn batch_of(number: usize) -> NewBatch {
    NewBatch::new(Uuid::now_v7(), PROJECT, EVENTS, rows(number))
}

/// A field of INFO.
async fn info(redis: &Redis, field: &str) -> f64 {
    let info: String = redis::cmd("INFO").query_async(&mut redis.connect().await).await.unwrap();
    let value = info.lines().find_map(|line| line.strip_prefix(&format!("{field}:"))).unwrap();
    value.trim().parse().unwrap()
}

/// Seconds of processor time.
async fn cpu(redis: &Redis) -> f64 {
    info(redis, "used_cpu_user").await + info(redis, "used_cpu_sys").await
}

async fn admit_all(stream: &SharedStream, callers: usize) {
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..callers {
        let stream = SharedStream::clone(stream);
        tasks.spawn(async move {
            let plan = millrace_event::plan::Plan {
                requests_per_minute: u32::MAX,
                burst: u32::MAX,
                events_per_month: None,
                ..plan()
            };
            for number in (caller..BATCHES).step_by(callers) {
                assert_admitted(admit_under(&stream, &batch_of(number), &plan).await);
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn a_batch_of_ten_events() {
    for callers in [1, 16, 64] {
        let redis = Redis::start().await;
        let stream = trusted_stream_with_backlog(&redis, u64::MAX >> 1).await;
        let (memory, began) = (info(&redis, "used_memory").await, cpu(&redis).await);
        admit_all(&stream, callers).await;
        let (waiting, admitted) = (info(&redis, "used_memory").await, cpu(&redis).await);
        let mut usage = redis::cmd("MEMORY");
        usage.arg("USAGE").arg("{s0}:events").arg("SAMPLES").arg(0);
        let stream_bytes: f64 = usage.query_async(&mut redis.connect().await).await.unwrap();
        let entries = stream.backlog().await.unwrap().entries;
        let mut reader = stream.reader(0, "lane").await.unwrap();
        loop {
            let deliveries = reader.next(64, Duration::ZERO).await.unwrap();
            if deliveries.is_empty() {
                break;
            }
            let settlements: Vec<_> = deliveries.iter().map(|delivery| settlement(delivery, 0, 0)).collect();
            stream.settle(0, &settlements).await.unwrap();
        }
        let drained = cpu(&redis).await;
        let per_batch = |seconds: f64| seconds * 1e6 / BATCHES as f64;
        let per_event = |bytes: f64| bytes / (BATCHES as f64 * f64::from(EVENTS));
        println!(
            "{callers} callers, {entries} entries: admission {:.1} µs, delivery and settling {:.1} µs a batch; {:.1} B a \
             waiting event, {:.1} of them in the stream",
            per_batch(admitted - began),
            per_batch(drained - admitted),
            per_event(waiting - memory),
            per_event(stream_bytes),
        );
    }
}
