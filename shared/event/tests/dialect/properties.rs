//! Properties of the dialects, for any JSON and any bytes.

use millrace_event::dialect::{BodyError, native, read};
use millrace_event::event::RejectionCode;
use millrace_event::row;
use proptest::prelude::*;

use crate::bodies::*;

/// Any JSON, as a tree.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<f64>()
            .prop_filter("JSON has no NaN", |number| number.is_finite())
            .prop_map(serde_json::Value::from),
        "\\PC{0,12}".prop_map(serde_json::Value::from),
        proptest::collection::vec(any::<char>(), 0..6).prop_map(|c| c.into_iter().collect::<String>().into()),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(serde_json::Value::from),
            proptest::collection::vec(("\\PC{0,8}", inner), 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_properties_are_kept_unchanged(tree in any_json(), pretty in any::<bool>()) {
        let event = serde_json::json!({"name": "n", "properties": {"tree": tree}, "context": {"after": [tree]}});
        let body = if pretty { serde_json::to_string_pretty(&event) } else { serde_json::to_string(&event) }.unwrap();
        match read_json(&body) {
            Ok(batch) => {
                let fields = texts(&only_row(&batch));
                let clean = |text: &str| text.replace("\\u0000", "\\ufffd");
                for (field, name) in [(3, "properties"), (4, "context")] {
                    let stored: serde_json::Value = serde_json::from_str(fields[field].as_deref().unwrap()).unwrap();
                    let sent: serde_json::Value = serde_json::from_str(&clean(&event[name].to_string())).unwrap();
                    prop_assert_eq!(stored, sent);
                }
            }
            Err(BodyError::NoValidEvent { rejected }) => prop_assert_eq!(rejected[0].code, RejectionCode::InvalidNumber),
            Err(other) => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        for dialect in DIALECTS {
            if let Ok(batch) = read(dialect, &body, origin(), EVENTS_MAX) {
                prop_assert_eq!(row::split(&batch.rows).count(), batch.count as usize);
            }
        }
    }

    #[test]
    fn no_text_that_resembles_json_makes_the_reader_panic(body in r#"([\[\]{}:,"\\ue0-9. -]|"name"|"events":\[|\\ud800|\\u0000){0,60}"#) {
        for dialect in DIALECTS {
            let accepted_by_serde = serde_json::from_str::<serde_json::Value>(&body).is_ok();
            if let Ok(batch) = read(dialect, body.as_bytes(), origin(), EVENTS_MAX) {
                prop_assert_eq!(row::split(&batch.rows).count(), batch.count as usize);
                let excused = *dialect == native::NDJSON || body.contains("\\u");
                prop_assert!(accepted_by_serde || excused, "{}", body);
            }
        }
    }
}
