//! The properties of `sdks.rs` for dialects that take one event.

use millrace_event::dialect::{Dialect, lago, segment};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::sdks::*;

/// A dialect, the member of the context that holds its rest, the member around its event, and the names of
/// members that it knows.
#[derive(Debug)]
struct Single {
    dialect: &'static Dialect,
    rest: &'static str,
    wrapper: Option<&'static str>,
    known: &'static [&'static str],
}

const CALL: &[&str] = &[
    "type",
    "event",
    "messageId",
    "timestamp",
    "userId",
    "anonymousId",
    "properties",
    "traits",
    "context",
    "name",
    "category",
    "groupId",
    "previousId",
    "integrations",
];

static SINGLES: [Single; 7] = [
    Single {
        dialect: &lago::EVENT,
        rest: "lago",
        wrapper: Some("event"),
        known: &[
            "transaction_id",
            "code",
            "timestamp",
            "external_subscription_id",
            "external_customer_id",
            "properties",
        ],
    },
    Single { dialect: &segment::TRACK, rest: "segment", wrapper: None, known: CALL },
    Single { dialect: &segment::IDENTIFY, rest: "segment", wrapper: None, known: CALL },
    Single { dialect: &segment::PAGE, rest: "segment", wrapper: None, known: CALL },
    Single { dialect: &segment::SCREEN, rest: "segment", wrapper: None, known: CALL },
    Single { dialect: &segment::GROUP, rest: "segment", wrapper: None, known: CALL },
    Single { dialect: &segment::ALIAS, rest: "segment", wrapper: None, known: CALL },
];

fn any_single() -> impl Strategy<Value = (&'static Single, Value)> {
    (0..SINGLES.len()).prop_flat_map(|index| (Just(&SINGLES[index]), any_event(SINGLES[index].known)))
}

fn body_of(single: &Single, event: &Value) -> String {
    single.wrapper.map_or_else(|| event.to_string(), |wrapper| json!({ wrapper: event }).to_string())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn one_event_is_a_row_or_a_dead_letter_and_no_unknown_member_is_lost(
        (single, event) in any_single(), store_ip in any::<bool>()
    ) {
        let body = body_of(single, &event);
        check_events((single.dialect, single.rest), &body, std::slice::from_ref(&event), store_ip)?;
    }

    #[test]
    fn one_event_with_wrong_bytes_makes_no_dialect_panic_and_loses_no_row(
        (single, event) in any_single(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)
    ) {
        check_wrong_bytes(single.dialect, body_of(single, &event), &changes)?;
    }

    #[test]
    fn what_is_around_the_only_event_may_be_any_value(around in any_value()) {
        let body = json!({ "event": around, "more": around }).to_string();
        check_wrong_bytes(&lago::EVENT, body, &[])?;
    }
}

#[test]
fn one_event_of_many_equal_names_is_read_in_one_pass() {
    let event = event_of_equal_names();
    for single in &SINGLES {
        let body =
            single.wrapper.map_or_else(|| event.clone(), |wrapper| format!(r#"{{"{wrapper}":{event}}}"#));
        check_equal_names(single.dialect, &body);
    }
}
