//! `GET /openapi.json`: the interface. `openapi.json` is written by hand. Tests compare it with the routes,
//! and a running server with it. This module adds the codes of errors and rejections, and their meanings.

use std::sync::LazyLock;

use bytes::Bytes;
use hyper::StatusCode;
use millrace_event::event::RejectionCode;
use serde_json::{Value, json};
use strum::VariantNames;

use crate::answer::{self, Answer};
use crate::problem_code::ProblemCode;

const TEMPLATE: &str = include_str!("openapi.json");

/// The codes of an error response. Some SDKs are answered in a form of their own.
const CODES: [&str; 3] = [
    "/content/application~1problem+json/schema/allOf/1/properties/code/enum",
    "/content/application~1json/schema/allOf/1/properties/code/enum",
    "/content/application~1json/schema/allOf/1/properties/problem/enum",
];

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let text = serde_json::to_vec_pretty(&document()).expect("JSON can be written");
    text.into()
});

pub fn get() -> Answer {
    answer::json_text(StatusCode::OK, DOCUMENT.clone())
}

/// The document, with the codes and their meanings.
fn document() -> Value {
    let mut document: Value = serde_json::from_str(TEMPLATE).expect("openapi.json is JSON");
    let schemas = &mut document["components"]["schemas"];
    schemas["Problem"]["properties"]["code"]["enum"] = json!(ProblemCode::ALL);
    schemas["Rejection"]["properties"]["code"]["enum"] = json!(RejectionCode::VARIANTS);
    let responses = document["components"]["responses"].as_object_mut().expect("the document has responses");
    for response in responses.values_mut() {
        let codes = codes_of(response);
        if !codes.is_empty() {
            let meanings: Vec<_> =
                codes.iter().map(|code| format!("{}: {}", <&str>::from(code), code.meaning())).collect();
            response["description"] = meanings.join(". ").into();
        }
    }
    document
}

/// The codes that an error response may have. Empty for a success.
fn codes_of(response: &Value) -> Vec<ProblemCode> {
    let names = CODES
        .iter()
        .find_map(|codes| response.pointer(codes))
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let named = |name: &Value| ProblemCode::ALL.iter().find(|code| name == <&str>::from(**code));
    names.iter().map(|name| *named(name).expect("the document names codes that exist")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_is_in_a_response_of_its_status_and_every_response_says_what_it_means() {
        let document = document();
        let paths = document["paths"].as_object().unwrap().values();
        let mut found = BTreeSet::new();
        for operation in paths.flat_map(|path| path.as_object().unwrap().values()) {
            for (status, response) in operation["responses"].as_object().unwrap() {
                let Some(reference) = response["$ref"].as_str() else { continue };
                let shared = document.pointer(&reference[1..]).unwrap();
                assert!(!shared["description"].as_str().unwrap().is_empty(), "{reference}");
                let codes = codes_of(shared);
                assert_eq!(codes.is_empty(), status.starts_with('2'), "{reference}");
                for code in codes {
                    // Some SDKs come back after 503 only.
                    let is_later = matches!(code.status().as_u16(), 408 | 429) && status == "503";
                    // Others send again indefinitely what is refused with any other status than 400.
                    let is_final = matches!(code.status().as_u16(), 413 | 415) && status == "400";
                    assert!(code.status().as_str() == status || is_later || is_final, "{reference}");
                    found.insert(<&str>::from(code));
                }
            }
        }
        // The document has no operation for a method that a path does not take.
        let expected = ProblemCode::NAMES.iter().copied().filter(|name| *name != "method_not_allowed");
        assert_eq!(found, expected.collect());
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
