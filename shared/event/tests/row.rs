//! The format of a row: what PostgreSQL would not understand is malformed.

use millrace_event::plan::ProjectId;
use millrace_event::row::{self, EventTime, Row};
use uuid::Uuid;

/// PostgreSQL would report these as internal errors, and the worker would retry them indefinitely.
#[test]
fn rows_with_an_unknown_json_version_or_an_invalid_time_are_malformed() {
    let row = Row {
        project: ProjectId(1),
        time: EventTime::At(1_795_000_000_000_000),
        event_id: Uuid::new_v4(),
        by_id: false,
        name: "a",
        subject: None,
        client_id: None,
        properties: None,
        context: Some(b"{}"),
    };
    let mut good = Vec::new();
    row.write(&mut good);
    let is_row = |bytes: &[u8]| row::split(bytes).all(|row| row.is_ok());
    assert!(is_row(&good));
    let version_at = good.len() - 3;
    let mut newer = good.clone();
    newer[version_at] = 2;
    assert!(!is_row(&newer), "another version of jsonb");
    let mut empty = good[..version_at].to_vec();
    empty[version_at - 4..].copy_from_slice(&0_i32.to_be_bytes());
    assert!(!is_row(&empty), "jsonb without a version");
    for no_time in [i64::MIN + 1, -211_813_488_000_000_001, i64::MAX - 2] {
        let mut timeless = good.clone();
        timeless[18..26].copy_from_slice(&no_time.to_be_bytes());
        assert!(!is_row(&timeless), "{no_time} is not a time");
    }
}
