//! Properties of the dialects of SDKs that take several events: nothing that is sent is lost, and no address
//! is stored unless the project stores addresses.

use std::collections::BTreeMap;

use millrace_event::dialect::{
    Dialect, amplitude, cloudevents, lago, mixpanel, otlp, posthog, read, segment, snowplow,
};
use millrace_event::event::Origin;
use millrace_event::policy::ProjectPolicy;
use millrace_event::row;
use millrace_event::undeliverable::UndeliverableCall;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::bodies::*;

/// A dialect, the member of the context that holds its rest, the member around its events, and the names of
/// members that it knows.
#[derive(Debug)]
struct Family {
    dialect: &'static Dialect,
    rest: &'static str,
    envelope: Option<&'static str>,
    known: &'static [&'static str],
}

static FAMILIES: [Family; 12] = [
    Family {
        dialect: &segment::BATCH,
        rest: "segment",
        envelope: Some("batch"),
        known: &[
            "type",
            "event",
            "messageId",
            "timestamp",
            "userId",
            "properties",
            "traits",
            "context",
            "name",
        ],
    },
    Family {
        dialect: &posthog::CAPTURE,
        rest: "posthog",
        envelope: Some("batch"),
        known: &["event", "distinct_id", "uuid", "timestamp", "properties", "$set", "offset", "options"],
    },
    Family { dialect: &posthog::CAPTURE, rest: "posthog", envelope: None, known: &["event", "properties"] },
    Family {
        dialect: &cloudevents::EVENTS,
        rest: "cloudevents",
        envelope: None,
        known: &["id", "source", "specversion", "type", "subject", "time", "data", "data_base64"],
    },
    Family {
        dialect: &lago::EVENTS,
        rest: "lago",
        envelope: Some("events"),
        known: &["transaction_id", "code", "timestamp", "external_subscription_id", "properties"],
    },
    Family {
        dialect: &amplitude::EVENTS,
        rest: "amplitude",
        envelope: Some("events"),
        known: &["event_type", "insert_id", "time", "user_id", "device_id", "event_properties", "library"],
    },
    Family {
        dialect: &amplitude::IDENTIFY,
        rest: "amplitude",
        envelope: None,
        known: &["user_id", "device_id", "user_properties", "insert_id"],
    },
    Family { dialect: &mixpanel::EVENTS, rest: "mixpanel", envelope: None, known: &["event", "properties"] },
    Family {
        dialect: &mixpanel::PEOPLE,
        rest: "mixpanel",
        envelope: None,
        known: &["$token", "$distinct_id", "$set", "$time", "$ip", "$add"],
    },
    Family {
        dialect: &mixpanel::GROUPS,
        rest: "mixpanel",
        envelope: None,
        known: &["$token", "$group_key", "$group_id", "$set", "$time", "$ip", "$union"],
    },
    Family {
        dialect: &snowplow::EVENTS,
        rest: "snowplow",
        envelope: Some("data"),
        known: &[
            "e", "eid", "dtm", "ttm", "uid", "duid", "tv", "aid", "page", "se_ca", "se_ac", "se_va", "cx",
        ],
    },
    Family {
        dialect: &snowplow::EVENTS,
        rest: "snowplow",
        envelope: Some("data"),
        known: &["e", "eid", "ue_pr", "ue_px", "co", "cx", "url", "tr_tt"],
    },
];

/// The client's address, of which no event has the text itself.
const ADDRESS: &str = "198.51.100.77";

/// Values of which each has a place in a row.
pub fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        Just(json!("$identify")),
        Just(json!("ue")),
        Just(json!("se")),
        Just(json!("pp")),
        Just(json!(r#"{"schema":"iglu:a/n/j/1","data":{"schema":"iglu:b/m/j/1","data":{"x":[1]}}}"#)),
        Just(json!("eyJzY2hlbWEiOiJpZ2x1OmEvbi9qLzEiLCJkYXRhIjp7IngiOjF9fQ")),
        Just(json!("$pageview")),
        Just(json!("2026-11-20T10:00:00Z")),
        "\\PC{0,12}".prop_map(Value::from),
        "x{180,260}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[a-w$]{0,6}|\\$?ip", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// These members, with any values, and members that no family knows.
pub fn any_event(known: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let known = proptest::sample::select(known).prop_map(str::to_owned);
    let unknown = "zz[a-c]{1,2}";
    let members = proptest::collection::btree_map(prop_oneof![3 => known, 1 => unknown], any_value(), 0..8);
    members.prop_map(|members| Value::Object(members.into_iter().collect()))
}

fn any_batch() -> impl Strategy<Value = (&'static Family, Vec<Value>)> {
    (0..FAMILIES.len()).prop_flat_map(|index| {
        let family = &FAMILIES[index];
        (Just(family), proptest::collection::vec(any_event(family.known), 1..5))
    })
}

/// An origin whose project stores addresses, or does not.
pub fn origin_with(store_ip: bool) -> Origin {
    let client_address = Some(ADDRESS.parse().unwrap());
    Origin { policy: ProjectPolicy { store_ip, ..ProjectPolicy::default() }, client_address, ..origin() }
}

/// Checks that a body of these events becomes as many rows and dead letters, that each member which no family
/// knows is kept under `rest`, and that only a project that stores addresses has them.
pub fn check_events(
    (dialect, rest): (&Dialect, &str),
    body: &str,
    events: &[Value],
    store_ip: bool,
) -> Result<(), TestCaseError> {
    let batch = read(dialect, body.as_bytes(), origin_with(store_ip), EVENTS_MAX);
    let batch = batch.expect("SDKs are never refused for an event");
    prop_assert_eq!((batch.count as usize, batch.rejected.len()), (events.len(), 0));
    let rows: Vec<_> = row::split(&batch.rows).map(|row| row.unwrap()).collect();
    prop_assert_eq!(rows.len(), events.len());
    let dead: BTreeMap<usize, &str> =
        batch.dead.iter().map(|dead| (dead.index, dead.message.as_str())).collect();
    for (index, (event, row)) in events.iter().zip(&rows).enumerate() {
        prop_assert_eq!(UndeliverableCall::read(row).is_some(), dead.contains_key(&index), "{:?}", dead);
        if dead.contains_key(&index) {
            continue;
        }
        let context = texts(row)[4].clone();
        let context: Value = context.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap());
        // A value that is no text is no address, and stays.
        let has_place = if store_ip { !context["ip"].is_null() } else { !context["ip"].is_string() };
        prop_assert!(has_place, "{}: {}", event, context);
        for (name, value) in event.as_object().unwrap().iter().filter(|(name, _)| name.starts_with("zz")) {
            let says_something = !value.is_null() && value != "" && *value != json!({});
            let kept = [&context[rest][name], &context[format!("${rest}")][name]].contains(&value);
            prop_assert!(kept || !says_something, "{} {} of {}: {}", name, value, event, context);
        }
    }
    Ok(())
}

/// Checks that a body with wrong bytes makes the dialect not panic and not lose a row.
pub fn check_wrong_bytes(
    dialect: &Dialect,
    body: String,
    changes: &[(prop::sample::Index, u8)],
) -> Result<(), TestCaseError> {
    let mut body = body.into_bytes();
    for (at, byte) in changes {
        let at = at.index(body.len());
        body[at] = *byte;
    }
    dialect.find_key(&body);
    if let Ok(batch) = read(dialect, &body, origin_with(body.len() & 1 == 0), EVENTS_MAX) {
        prop_assert_eq!(row::split(&batch.rows).count(), batch.count as usize);
        prop_assert_eq!(batch.rejected.len(), 0);
    }
    Ok(())
}

/// An event with two hundred thousand members of one name.
pub fn event_of_equal_names() -> String {
    let names = r#""a":1,"#.repeat(100_000);
    format!(
        r#"{{"event":"e","e":"e","type":"track","code":"c","event_type":"e",{names}"b":{{{names}"c":1}}}}"#
    )
}

/// Checks that a body with [`event_of_equal_names`] stores each name once.
pub fn check_equal_names(dialect: &Dialect, body: &str) {
    let batch = read(dialect, body.as_bytes(), origin(), EVENTS_MAX).unwrap();
    assert_eq!((batch.count, batch.dead.len()), (1, 0), "{}", dialect.name);
    assert!(batch.rows.len() < 1_000, "{}: equal names are stored once", dialect.name);
}

fn body_of(family: &Family, events: &[Value]) -> String {
    match family.envelope {
        Some(envelope) => json!({ envelope: events }).to_string(),
        None => json!(events).to_string(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_event_is_a_row_or_a_dead_letter_and_no_unknown_member_is_lost(
        (family, events) in any_batch(), store_ip in any::<bool>()
    ) {
        check_events((family.dialect, family.rest), &body_of(family, &events), &events, store_ip)?;
    }

    #[test]
    fn a_body_with_wrong_bytes_makes_no_dialect_panic_and_loses_no_row(
        (family, events) in any_batch(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)
    ) {
        check_wrong_bytes(family.dialect, body_of(family, &events), &changes)?;
    }
}

#[test]
fn a_body_of_many_equal_names_is_read_in_one_pass() {
    let event = event_of_equal_names();
    for family in &FAMILIES {
        let body = match family.envelope {
            Some(envelope) => format!(r#"{{"{envelope}":[{event}]}}"#),
            None => format!("[{event}]"),
        };
        check_equal_names(family.dialect, &body);
    }
}

#[test]
fn each_dialect_of_an_sdk_has_its_own_stable_name() {
    let dialects = [
        &segment::CALL,
        &posthog::CAPTURE,
        &cloudevents::EVENTS,
        &lago::EVENT,
        &lago::EVENTS,
        &amplitude::EVENTS,
        &amplitude::IDENTIFY,
        &mixpanel::EVENTS,
        &mixpanel::PEOPLE,
        &mixpanel::GROUPS,
        &snowplow::EVENTS,
        &otlp::JSON,
        &otlp::PROTOBUF,
    ];
    assert_eq!(
        dialects.map(|dialect| dialect.name),
        [
            "call",
            "posthog",
            "cloudevents",
            "lago-event",
            "lago-events",
            "amplitude",
            "amplitude-identify",
            "mixpanel",
            "mixpanel-people",
            "mixpanel-groups",
            "snowplow",
            "otlp-json",
            "otlp-protobuf"
        ],
        "the digest of a repeated request contains the name"
    );
}
