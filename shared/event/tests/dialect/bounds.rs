//! The bounds of event time that a project's policy sets, in every dialect.

use millrace_event::dialect::{BodyError, native, read, segment};
use millrace_event::event::{Batch, Origin};
use millrace_event::policy::{OutOfBounds, ProjectPolicy};
use millrace_event::row::{self, EventTime};

use crate::bodies::*;

/// 2026-11-20T10:00:00Z
const RECEIVED_US: i64 = 1_795_168_800_000_000;

fn bounded(out_of_bounds: OutOfBounds) -> Origin {
    let policy = ProjectPolicy {
        oldest_s: Some(86_400),
        newest_s: Some(60),
        out_of_bounds,
        ..ProjectPolicy::default()
    };
    Origin { policy, received_us: RECEIVED_US, ..origin() }
}

fn read_native(event: &str, out_of_bounds: OutOfBounds) -> Result<Batch, BodyError> {
    read(&native::JSON, event.as_bytes(), bounded(out_of_bounds), EVENTS_MAX)
}

fn read_segment(call: &str, out_of_bounds: OutOfBounds) -> Batch {
    let body = format!(r#"{{"batch":[{call}]}}"#);
    read(&segment::BATCH, body.as_bytes(), bounded(out_of_bounds), EVENTS_MAX).unwrap()
}

const OUTSIDE: [&str; 3] =
    ["2026-11-19T09:59:59.999999Z", "2024-01-01T00:00:00Z", "2026-11-20T10:01:00.000001Z"];
const INSIDE: [&str; 3] = ["2026-11-19T10:00:00Z", "2026-11-20T10:00:00Z", "2026-11-20T10:01:00Z"];

#[test]
fn a_time_inside_the_bounds_is_kept() {
    for time in INSIDE {
        for policy in [OutOfBounds::ReceiveTime, OutOfBounds::Refuse] {
            let row =
                only_row(&read_native(&format!(r#"{{"name":"n","timestamp":"{time}"}}"#), policy).unwrap());
            assert!(matches!(row::time(&row), EventTime::At(_)), "{time}");
            assert_eq!(texts(&row)[4], None, "{time}");
            let call = format!(r#"{{"type":"page","timestamp":"{time}"}}"#);
            assert!(matches!(row::time(&only_row(&read_segment(&call, policy))), EventTime::At(_)));
        }
    }
}

#[test]
fn a_time_outside_becomes_the_receive_time_and_is_kept_in_the_context() {
    for time in OUTSIDE {
        for (context, kept) in [
            ("null", format!(r#"{{"$sent":{{"timestamp":"{time}"}}}}"#)),
            ("{ }", format!(r#"{{"$sent":{{"timestamp":"{time}"}}}}"#)),
            (r#"{"a":1}"#, format!(r#"{{"$sent":{{"timestamp":"{time}"}},"a":1}}"#)),
            (r#"{"$sent":1}"#, format!(r#"{{"$$sent":{{"timestamp":"{time}"}},"$sent":1}}"#)),
        ] {
            let event = format!(r#"{{"name":"n","timestamp":"{time}","context":{context}}}"#);
            let row = only_row(&read_native(&event, OutOfBounds::ReceiveTime).unwrap());
            assert_eq!(
                (row::time(&row), texts(&row)[4].as_deref()),
                (EventTime::Anonymous, Some(kept.as_str()))
            );
        }
        let with_id = format!(r#"{{"id":"a","name":"n","timestamp":"{time}"}}"#);
        let row = only_row(&read_native(&with_id, OutOfBounds::ReceiveTime).unwrap());
        assert_eq!(row::time(&row), EventTime::Undated, "its id identifies it");
        let call = format!(r#"{{"type":"page","timestamp":"{time}","messageId":"m"}}"#);
        let row = only_row(&read_segment(&call, OutOfBounds::ReceiveTime));
        assert_eq!(row::time(&row), EventTime::Undated);
        let kept = format!(r#"{{"segment":{{"type":"page","timestamp":"{time}"}}}}"#);
        assert_eq!(texts(&row)[4].as_deref(), Some(kept.as_str()));
    }
    let old_v7 = r#"{"id":"019ac5a2-7ab3-7000-8000-000000000001","name":"n"}"#;
    let row = only_row(&read_native(old_v7, OutOfBounds::ReceiveTime).unwrap());
    assert_eq!((row::time(&row), texts(&row)[4].as_deref()), (EventTime::Undated, None));
}

#[test]
fn a_time_outside_is_refused_when_the_owner_wants_it() {
    let messages = [
        "the event's time must be at most 86400 seconds before its receipt, which is the project's bound",
        "the event's time must be at most 60 seconds after its receipt, which is the project's bound",
    ];
    for (time, message) in OUTSIDE.into_iter().zip([messages[0], messages[0], messages[1]]) {
        let body = format!(r#"[{{"name":"good"}},{{"name":"n","timestamp":"{time}"}}]"#);
        let batch = read_native(&body, OutOfBounds::Refuse).unwrap();
        assert_eq!((batch.count, codes(&batch)), (1, vec![(1, "invalid_timestamp")]));
        let rejected = &batch.rejected[0];
        assert_eq!((rejected.field.as_deref(), rejected.message.as_str()), (Some("timestamp"), message));
        let batch = read_segment(&format!(r#"{{"type":"page","timestamp":"{time}"}}"#), OutOfBounds::Refuse);
        assert_eq!((batch.count, dead_codes(&batch)), (1, vec![(0, "invalid_timestamp")]));
        assert_eq!(batch.dead[0].message, message);
    }
    let old_v7 = r#"{"id":"019ac5a2-7ab3-7000-8000-000000000001","name":"n"}"#;
    let refused = read_native(old_v7, OutOfBounds::Refuse);
    let Err(BodyError::NoValidEvent { rejected }) = refused else { panic!("{refused:?}") };
    assert_eq!(rejected[0].field.as_deref(), Some("id"));
}
