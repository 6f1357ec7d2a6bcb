//! Snowplow's events: what is in base64 reads the same as plain text, and stays inside of its event.

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use millrace_event::dialect::{read, snowplow};
use millrace_event::row;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::bodies::*;

const ID: &str = "0199a0c8-91ab-4000-8000-000000000001";

/// JSON that a tracker may send, as text.
fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("NaN".to_owned()),
        Just("1e999".to_owned()),
        Just(r#""\u0000 \ud83d""#.to_owned()),
        Just("19.90".to_owned()),
        "[a-zü>?~{}\\[\\],:]{0,9}".prop_map(|text| Value::from(text).to_string()),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4)
                .prop_map(|values| format!("[{}]", values.join(", "))),
            proptest::collection::vec(("[a-c]{1,2}", inner), 0..4).prop_map(|members| {
                let members: Vec<_> =
                    members.into_iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// Rows of a batch of one event, and the codes of its dead letters.
fn read_one(members: Value) -> (Vec<u8>, Vec<String>) {
    let mut event = json!({ "e": "ue", "eid": ID, "dtm": "1795168800123" });
    event.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    let body = json!({ "schema": "s", "data": [event] }).to_string();
    let batch = read(&snowplow::EVENTS, body.as_bytes(), origin(), EVENTS_MAX).unwrap();
    let dead = batch.dead.iter().map(|dead| format!("{:?}", dead.code)).collect::<Vec<_>>();
    (if dead.is_empty() { batch.rows } else { Vec::new() }, dead)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn what_is_in_base64_reads_the_same_as_plain_text(data in any_json(), context in any_json(), padded: bool) {
        let event = format!(r#"{{"schema":"iglu:a/e/j/1","data":{{"schema":"iglu:b/order/j/1", "data":{data}}}}}"#);
        let contexts = format!(r#"{{"schema":"iglu:a/c/j/1","data":[{{"schema":"iglu:b/c/j/1","data":{context}}}]}}"#);
        let engine = if padded { URL_SAFE } else { URL_SAFE_NO_PAD };
        let packed = |text: &str| engine.encode(text);
        let plain = read_one(json!({ "ue_pr": event, "co": contexts }));
        prop_assert_eq!(&plain, &read_one(json!({ "ue_px": packed(&event), "co": contexts })));
        // Contexts that cannot be stored are kept as they were sent, under the name of their field.
        if !contexts.contains("1e999") {
            prop_assert_eq!(&plain, &read_one(json!({ "ue_px": packed(&event), "cx": packed(&contexts) })));
        }
    }

    #[test]
    fn no_text_in_base64_changes_the_events_around_it(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("{"), Just("}"), Just("["), Just("]"), Just(","), Just(":"), Just("\""), Just("\\"), Just("1"),
                Just(r#""data":"#), Just(r#""ue_px":"e30""#), Just(r#"{"e":"pv"}"#), Just(r#"},{"e":"pv"#),
                Just(r#"{"schema":"iglu:a/b/c/1","data":{}}"#),
                Just(r#"{}},{"e":"pv","z":{}"#), Just(r#"{},"e":"pv","z":{}"#), Just(r#"{}}],"data":[{"z":{}"#),
            ],
            0..12,
        ),
        field in prop_oneof![Just("ue_px"), Just("cx")],
    ) {
        let text = URL_SAFE_NO_PAD.encode(parts.concat());
        let events = [json!({"e": "se", "se_ac": "first"}), json!({"e": "se", "se_ac": "odd", field: text}), json!({"e": "se", "se_ac": "last"})];
        let body = json!({ "schema": "s", "data": events }).to_string();
        let batch = read(&snowplow::EVENTS, body.as_bytes(), origin(), EVENTS_MAX).unwrap();
        prop_assert_eq!((batch.count, batch.dead.len()), (3, 0));
        let names: Vec<_> = row::split(&batch.rows).map(|row| texts(row.unwrap())[0].clone()).collect();
        let expected = ["first", "odd", "last"].map(|name| Some(name.to_owned()));
        prop_assert_eq!(names, expected);
    }
}

#[test]
fn hostile_base64_is_read_in_one_pass_and_takes_no_more_than_its_bytes() {
    let deep = URL_SAFE_NO_PAD.encode(format!("{{\"a\":{}", "[".repeat(500_000)));
    let many = URL_SAFE_NO_PAD.encode(format!("{{{}\"b\":1}}", "\"a\":1,".repeat(100_000)));
    for text in [deep, many, "A".repeat(1_000_001)] {
        let events = json!([{"e": "ue", "ue_px": text, "cx": text}, {"e": "se", "se_ac": "good"}]);
        let body = json!({ "data": events }).to_string();
        let batch = read(&snowplow::EVENTS, body.as_bytes(), origin(), EVENTS_MAX).unwrap();
        assert_eq!((batch.count, batch.dead.len()), (2, 1));
        assert!(batch.rows.len() < 2 * body.len());
    }
}
