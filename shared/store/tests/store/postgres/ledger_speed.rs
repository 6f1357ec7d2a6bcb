//! A measurement of the ledger: what a batch costs with a row of its own, and in the row for its group.
//! `cargo test --release -p millrace-store --test store -- --ignored --nocapture ledger_speed`.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::harness;
use crate::suite::speed::PROPERTIES;
use crate::suite::*;

const TRANSACTIONS: u64 = 40;
const ENTRIES: u64 = 31;
const BATCHES: u64 = 64;
const EVENTS: u64 = 10;

/// Clock ticks in a second, as Linux counts the time of processes.
const TICKS_PER_S: f64 = 100.0;

/// Seconds of processor time of this process.
fn cpu_s(process: i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    let fields = stat.rsplit_once(") ").expect("a name").1;
    let ticks = |at: usize| fields.split(' ').nth(at).and_then(|ticks| ticks.parse::<f64>().ok());
    (ticks(11).expect("its time") + ticks(12).expect("its time in the kernel")) / TICKS_PER_S
}

async fn measure(name: &str, batch_id: fn() -> Uuid) {
    let harness = harness().await;
    let (store, admin) = (harness.store(), harness.connect().await);
    let mut projects = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        projects.push(project(&store, name).await);
    }
    let (mut writer, now) = (writer(&store).await, now_ms());
    let backend = "SELECT pid FROM pg_stat_activity WHERE application_name = 'millrace-worker:test'";
    let backend: i32 = admin.query_one(backend, &[]).await.expect("the session of the writer").get(0);
    let log = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8";
    let log_bytes = async || admin.query_one(log, &[]).await.expect("a place in the log").get::<_, f64>(0);
    let (mut next_id, mut busy) = (0_u64, Duration::ZERO);
    let (cpu_before, log_before) = (cpu_s(backend), log_bytes().await);
    for transaction in 0..TRANSACTIONS {
        let mut requests = Vec::new();
        for at in 0..ENTRIES * BATCHES {
            let batch: Vec<_> = (0..EVENTS)
                .map(|_| {
                    next_id += 1;
                    let spread = u128::from(next_id).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
                    Event {
                        properties: Some(PROPERTIES.to_owned()),
                        ..event(at_ms(now + next_id / 100), spread)
                    }
                })
                .collect();
            let entry = entry(now + transaction, at / BATCHES);
            requests.push(request(projects[at as usize % projects.len()], batch_id(), entry, &batch));
        }
        let started = Instant::now();
        writer.write(&requests).await.expect("written");
        busy += started.elapsed();
    }
    let batches = (TRANSACTIONS * ENTRIES * BATCHES) as f64;
    println!(
        "{name}: {:.1} µs, of which PostgreSQL computes {:.1} µs, and {:.0} bytes of the log for each batch",
        busy.as_secs_f64() * 1e6 / batches,
        (cpu_s(backend) - cpu_before) * 1e6 / batches,
        (log_bytes().await - log_before) / batches,
    );
    balanced(&store, projects[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn ledger_speed() {
    for _ in 0..3 {
        measure("a row for each batch", Uuid::now_v7).await;
        measure("a row for each group of an entry", new_batch_id).await;
    }
}
