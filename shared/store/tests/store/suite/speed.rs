//! What the measurements of every store share.

use std::time::Instant;

use super::*;

/// How long each figure is measured.
pub const TAKES: Duration = Duration::from_secs(4);
/// Properties of a typical event.
pub const PROPERTIES: &str = r#"{"url":"https://shop.example/products/4711?ref=mail","price":49.9,"currency":"EUR",
    "category":"shoes","quantity":2,"tags":["sale","spring"],"variant":{"size":42,"color":"dark green"},
    "session":"f1d2d2f924e986ac86fdf7b36c94bcdf32beec15","position":17,"list":"search results"}"#;

/// Rows per second of one writer in a retry storm: every event was stored before.
pub async fn duplicates_per_second(store: &SharedStore) -> f64 {
    let project = project(store, "p").await;
    let (mut writer, now) = (writer(store).await, now_ms());
    let batch = |number: u64| -> Vec<Event> {
        let ids = (0..200).map(|at| u128::from(number * 200 + at + 1));
        let spread = ids.map(|id| (id, id.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835)));
        spread
            .map(|(id, spread)| Event {
                properties: Some(PROPERTIES.to_owned()),
                ..event(at_ms(now + id as u64 / 100), spread)
            })
            .collect()
    };
    let batches: Vec<_> = (0..50).map(batch).collect();
    let (mut seq, mut rows, mut busy) = (0, 0_u64, Duration::ZERO);
    while busy < TAKES {
        let next = |batch: &Vec<Event>| {
            seq += 1;
            request(project, new_batch_id(), entry(now + seq, seq), batch)
        };
        let requests: Vec<_> = batches.iter().map(next).collect();
        let started = Instant::now();
        writer.write(&requests).await.expect("written");
        // The first write stores them.
        if seq > 50 {
            busy += started.elapsed();
            rows += 10_000;
        }
    }
    balanced(store, project).await;
    rows as f64 / busy.as_secs_f64()
}
