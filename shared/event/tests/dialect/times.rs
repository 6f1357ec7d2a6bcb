//! Only the years 1 to 9999 in UTC are times of events.

use millrace_event::dialect::{
    BodyError, Dialect, DocumentForms, EventBuilder, Framing, InvalidEvents, KeyPlaces, RawEvent, Validator,
    read,
};
use millrace_event::event::{EVENT_TIMES_US, ID_BYTES_MAX, Rejection, RejectionCode};
use millrace_event::row::{self, EventTime};
use proptest::prelude::*;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime, UtcOffset};

use crate::bodies::*;

fn time_of(timestamp: &str) -> Result<EventTime, String> {
    match read_json(&format!(r#"{{"name":"n","timestamp":"{timestamp}"}}"#)) {
        Ok(batch) => Ok(row::time(&only_row(&batch))),
        Err(BodyError::NoValidEvent { rejected }) => {
            assert_eq!(rejected[0].code, RejectionCode::InvalidTimestamp, "{timestamp}");
            assert_eq!(rejected[0].field.as_deref(), Some("timestamp"));
            Err(rejected[0].message.clone())
        }
        Err(other) => panic!("{timestamp}: {other:?}"),
    }
}

#[test]
fn a_year_outside_1_to_9999_in_utc_is_refused_with_the_reason() {
    for timestamp in [
        "0000-01-01T00:00:00Z",
        "0000-12-31T23:59:59.999999999Z",
        "0000-12-31T22:59:59-01:00",
        "0001-01-01T00:00:00+00:01",
        "0001-01-01T14:00:00.999+23:59",
        "9999-12-31T23:59:59-00:01",
        "9999-12-31T23:59:59-23:59",
        "9999-12-31T10:00:00-14:00",
    ] {
        assert_eq!(time_of(timestamp), Err("timestamp must be in the years 1 to 9999 in UTC".to_owned()));
    }
    for timestamp in ["9999-12-31T23:59:60-23:59", "10000-01-01T00:00:00Z", "+010000-01-01T00:00:00Z"] {
        assert!(time_of(timestamp).unwrap_err().contains("RFC 3339"), "{timestamp}");
    }
}

#[test]
fn the_first_and_the_last_microsecond_are_times_of_events() {
    let (first, last) = (EventTime::At(*EVENT_TIMES_US.start()), EventTime::At(*EVENT_TIMES_US.end()));
    for timestamp in
        ["0001-01-01T00:00:00Z", "0000-12-31T23:30:00-00:30", "0001-01-01T23:59:00.0000009+23:59"]
    {
        assert_eq!(time_of(timestamp), Ok(first), "{timestamp}");
    }
    // A leap second is the last microsecond before it, as in every other year.
    for timestamp in
        ["9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:60Z", "9999-12-31T22:29:59.999999-01:30"]
    {
        assert_eq!(time_of(timestamp), Ok(last), "{timestamp}");
    }
}

#[test]
fn a_uuid_with_a_time_after_9999_is_an_id_like_any_other() {
    for (id, expected) in [
        ("ffffffff-ffff-7fff-bfff-ffffffffffff", EventTime::Undated),
        ("e677d21f-dc00-7000-8000-000000000000", EventTime::Undated),
        ("e677d21f-dbff-7000-8000-000000000000", EventTime::At(*EVENT_TIMES_US.end() - 999)),
        ("00000000-0000-7000-8000-000000000000", EventTime::At(0)),
    ] {
        let batch = read_json(&format!(r#"{{"name":"n","id":"{id}"}}"#)).unwrap();
        assert_eq!(row::time(&only_row(&batch)), expected, "{id}");
        let dated = format!(r#"{{"name":"n","id":"{id}","timestamp":"1970-01-01T00:00:01Z"}}"#);
        assert_eq!(row::time(&only_row(&read_json(&dated).unwrap())), EventTime::At(1_000_000), "{id}");
    }
}

/// A careless format, whose times do not pass the validator.
static CARELESS: Dialect = Dialect {
    name: "test-careless",
    framing: Framing::Document(DocumentForms { envelope: None, array: true, single: true }),
    expected: "an event or an array of events",
    read_event: read_carelessly,
    invalid: InvalidEvents::Rejected,
    keys: KeyPlaces::NONE,
};

fn read_carelessly<'a>(event: &RawEvent<'a>) -> Result<EventBuilder<'a>, Rejection> {
    let validator = Validator { index: event.index };
    let mut builder = EventBuilder::new(validator.name("name", event.object.member("name"))?);
    let id = validator.text("id", event.object.member("id"), ID_BYTES_MAX)?;
    let us = validator.text("us", event.object.member("us"), 20)?.and_then(|text| text.parse().ok());
    builder.identify(event.origin, event.index, id, us);
    Ok(builder)
}

#[test]
fn no_format_can_store_another_year() {
    let time_of = |us: i64, id: &str| {
        let event = format!(r#"{{"name":"n","us":"{us}","id":{id}}}"#);
        row::time(&only_row(&read(&CARELESS, event.as_bytes(), origin(), 9).unwrap()))
    };
    let (first, last) = (*EVENT_TIMES_US.start(), *EVENT_TIMES_US.end());
    for us in [first, last] {
        assert_eq!(time_of(us, "null"), EventTime::At(us));
        assert_eq!(time_of(us, "\"a\""), EventTime::At(us));
    }
    for us in [first - 1, last + 1, i64::MIN, i64::MAX] {
        assert_eq!(time_of(us, "null"), EventTime::Anonymous, "{us}");
        assert_eq!(time_of(us, "\"a\""), EventTime::Undated, "{us}");
        let at_0 = "\"00000000-0000-7000-8000-000000000000\"";
        assert_eq!(time_of(us, at_0), EventTime::At(0), "the time in a UUIDv7 is left");
    }
}

proptest! {
    #[test]
    fn a_time_is_accepted_exactly_if_its_year_in_utc_is_1_to_9999(
        near in prop_oneof![Just("0001-01-01T00:00:00Z"), Just("9999-12-31T23:59:59Z"), Just("2026-01-01T00:00:00Z")],
        seconds in -200_000..200_000_i64,
        offset_minutes in -1_439..=1_439_i32,
    ) {
        let near = OffsetDateTime::parse(near, &Rfc3339).unwrap();
        let offset = UtcOffset::from_whole_seconds(offset_minutes * 60).unwrap();
        let local = near.checked_add(Duration::seconds(seconds)).and_then(|time| time.checked_to_offset(offset));
        prop_assume!(local.is_some_and(|local| (0..=9_999).contains(&local.year())));
        let local = local.unwrap();
        let seconds = local.unix_timestamp();
        let (first, last) = (EVENT_TIMES_US.start() / 1_000_000, EVENT_TIMES_US.end() / 1_000_000);
        let expected = (first..=last).contains(&seconds).then_some(EventTime::At(seconds * 1_000_000));
        prop_assert_eq!(time_of(&local.format(&Rfc3339).unwrap()).ok(), expected);
    }
}
