//! `GET /openapi.json`: the interface. `openapi.json` is written by hand and compared with the routes by a
//! test. This module adds the error codes and their meanings.

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

use crate::answer::{self, Answer};
use crate::problem_code::ProblemCode;

const TEMPLATE: &str = include_str!("openapi.json");

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let text = serde_json::to_vec_pretty(&document()).expect("JSON can be written");
    text.into()
});

pub fn get() -> Answer {
    answer::json_text(StatusCode::OK, DOCUMENT.clone())
}

/// The document, with the error codes and their meanings.
fn document() -> Value {
    let mut document: Value = serde_json::from_str(TEMPLATE).expect("openapi.json is JSON");
    document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"] = json!(ProblemCode::ALL);
    for (pointer, status) in error_responses(&document) {
        let codes = ProblemCode::ALL.iter().filter(|code| code.status().as_str() == status);
        let meanings: Vec<_> =
            codes.map(|code| format!("{}: {}", <&str>::from(code), code.meaning())).collect();
        let response = document.pointer_mut(&pointer).expect("the response of a reference exists");
        response["description"] = meanings.join(". ").into();
    }
    document
}

/// The shared responses that operations refer to, as JSON pointers, each with its status.
fn error_responses(document: &Value) -> Vec<(String, String)> {
    let paths = document["paths"].as_object().into_iter().flat_map(|paths| paths.values());
    let operations = paths.filter_map(Value::as_object).flat_map(|path| path.values());
    let responses = operations.filter_map(|operation| operation["responses"].as_object()).flatten();
    let shared = responses.filter_map(|(status, response)| {
        let reference = response["$ref"].as_str()?.strip_prefix('#')?;
        Some((reference.to_owned(), status.clone()))
    });
    let mut shared: Vec<_> = shared.collect();
    shared.sort_unstable();
    shared.dedup();
    shared
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_error_response_lists_the_codes_of_its_status() {
        let document = document();
        let responses = document["components"]["responses"].as_object().unwrap();
        let described: Vec<_> =
            responses.values().map(|response| response["description"].as_str().unwrap()).collect();
        for code in ProblemCode::ALL {
            // No operation of the document can be answered "method not allowed".
            let is_described =
                described.iter().any(|text| text.contains(&format!("{}: ", <&str>::from(code))));
            assert_eq!(is_described, *code != ProblemCode::MethodNotAllowed, "{code:?}");
        }
        assert!(described.iter().all(|text| !text.is_empty()), "{described:?}");
    }

    #[test]
    fn every_reference_has_a_target() {
        let document = document();
        let mut open = vec![&document];
        let mut references = BTreeSet::new();
        while let Some(value) = open.pop() {
            match value {
                Value::Object(members) => {
                    if let Some(reference) = members.get("$ref") {
                        let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                        references.insert(pointer);
                    }
                    open.extend(members.values());
                }
                Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        assert!(!references.is_empty());
    }
}
