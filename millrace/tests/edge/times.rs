//! Times as SDKs and programs write them, each with the microsecond that its row must have.

use serde_json::{Value, json};

use crate::repaired::{Repair, track};

/// 2026-11-20T10:00:00Z, in microseconds since 1970.
const AT: i64 = 1_795_168_800_000_000;

/// The spellings that the documentation names, by its phrase, with microseconds after [`AT`].
const SPELLINGS: &[(&str, &str, i64)] = &[
    ("RFC 3339", r#""2026-11-20T10:00:00.123456Z""#, 123_456),
    ("RFC 3339", r#""2026-11-20t15:30:00+05:30""#, 0),
    ("without a zone (UTC)", r#""2026-11-20T10:00:00.123456""#, 123_456),
    ("without a zone (UTC)", r#""2026-11-20T10:00:00""#, 0),
    ("with `+0530`, `+05`, `UTC` or `GMT+0530`", r#""2026-11-20T10:00:00.5+0000""#, 500_000),
    ("with `+0530`, `+05`, `UTC` or `GMT+0530`", r#""2026-11-20T15:30:00+0530""#, 0),
    ("with `+0530`, `+05`, `UTC` or `GMT+0530`", r#""2026-11-20T05:00:00-05""#, 0),
    ("with `+0530`, `+05`, `UTC` or `GMT+0530`", r#""2026-11-20T10:00:00 UTC""#, 0),
    ("with `+0530`, `+05`, `UTC` or `GMT+0530`", r#""2026-11-20T15:30:00 GMT+0530""#, 0),
    (
        "with a comma before the fraction, and a fraction of any length",
        r#""2026-11-20T10:00:00,123Z""#,
        123_000,
    ),
    (
        "with a comma before the fraction, and a fraction of any length",
        r#""2026-11-20T10:00:00.1234567891Z""#,
        123_456,
    ),
    ("without seconds or as a date alone", r#""2026-11-20T10:00Z""#, 0),
    ("without seconds or as a date alone", r#""2026-11-20""#, -36_000_000_000),
    ("with a blank instead of `T`", r#""2026-11-20 10:00:00Z""#, 0),
    ("with a blank instead of `T`", r#""2026-11-20 10:00:00.123""#, 123_000),
    ("with a stray colon before `Z` (`10:00:00.123:Z`)", r#""2026-11-20T10:00:00.123:Z""#, 123_000),
    ("RFC 2822", r#""Fri, 20 Nov 2026 15:30:00 +0530""#, 0),
    ("RFC 2822", r#""Fri, 20 Nov 2026 10:00:00 GMT""#, 0),
    (
        "JavaScript's `Date` as text",
        r#""Fri Nov 20 2026 11:00:00 GMT+0100 (Central European Standard Time)""#,
        0,
    ),
    ("C's `ctime` and Java's `Date` as text, without a zone or in UTC", r#""Fri Nov 20 10:00:00 2026""#, 0),
    (
        "C's `ctime` and Java's `Date` as text, without a zone or in UTC",
        r#""Fri Nov 20 10:00:00 UTC 2026""#,
        0,
    ),
    ("seconds", "1795168800", 0),
    ("seconds", "1795168800.25", 250_000),
    ("seconds", r#""1795168800""#, 0),
    ("milliseconds", "1795168800123", 123_000),
    ("milliseconds", r#""1795168800123""#, 123_000),
    ("milliseconds", "1.795168800123e12", 123_000),
    ("microseconds", "1795168800123456", 123_456),
    ("microseconds", r#""1795168800123456""#, 123_456),
    ("nanoseconds", "1795168800123456789", 123_456),
    ("nanoseconds", r#""1795168800123456789""#, 123_456),
];

const ANOTHER_SPELLING: &str = "`timestamp` in another spelling, see below";
const NO_MEANING: &str = "`timestamp` without a clear meaning, or outside the years 1 to 9999";

/// Texts and numbers that are no time, or one that no column may hold.
const UNREADABLE: &[&str] = &[
    r#""bogus""#,
    r#""""#,
    r#""2026-13-45T00:00:00Z""#,
    r#""NaN""#,
    "true",
    "12",
    "{}",
    r#""0000-01-01T00:00:00Z""#,
    r#""0001-01-01T00:00:00+00:01""#,
    r#""9999-12-31T23:59:59-23:59""#,
    r#""+012026-11-20T10:00:00Z""#,
    "-62135596800001",
    "1e20",
    "1e300",
];

pub fn repairs() -> Vec<Repair> {
    let mut repairs = Vec::new();
    for (number, (documented, text, after)) in SPELLINGS.iter().enumerate() {
        let row = json!({"timestamp": AT + after, "rest": {"timestamp": null}});
        repairs.push(track(documented, &format!(r#""timestamp":{text}"#), row.clone()));
        let with_id = format!(r#""messageId":"{number} ~","timestamp":{text}"#);
        repairs.push(track(ANOTHER_SPELLING, &with_id, row));
        repairs.push(track(
            ANOTHER_SPELLING,
            &format!(r#""originalTimestamp":{text}"#),
            json!({"timestamp": AT + after}),
        ));
    }
    for text in UNREADABLE {
        let kept: Value = serde_json::from_str(text).unwrap();
        let row = |timestamp: Value| json!({"timestamp": timestamp, "rest": {"timestamp": kept}});
        let timestamp = format!(r#""timestamp":{text}"#);
        repairs.push(track(NO_MEANING, &timestamp, row(json!("received_at"))));
        let original = format!(r#"{timestamp},"originalTimestamp":"2026-11-20T10:00:00Z""#);
        repairs.push(track(NO_MEANING, &original, row(json!(AT))));
    }
    let nan = json!({"timestamp": "received_at", "rest": {"timestamp": null}});
    repairs.push(track(NO_MEANING, r#""timestamp":NaN"#, nan));
    repairs
}
