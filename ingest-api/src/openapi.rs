//! `GET /openapi.json`: the interface, written by hand, held against the code by tests.

use bytes::Bytes;
use hyper::StatusCode;

use crate::answer::{self, Answer};

/// The document.
pub const DOCUMENT: &str = include_str!("openapi.json");

/// The document as an answer.
pub fn show() -> Answer {
    answer::json_text(StatusCode::OK, Bytes::from_static(DOCUMENT.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::error::CODES;
    use crate::routes::{ROUTES, Verb};

    fn document() -> serde_json::Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    #[test]
    fn the_document_has_every_route_and_no_other() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let documented: BTreeSet<_> = paths
            .iter()
            .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(move |method| (path, method)))
            .map(|(path, method)| format!("{method} {path}"))
            .collect();
        let served: BTreeSet<_> = ROUTES
            .iter()
            .filter(|route| !route.is_for_people())
            .map(|route| match route.method {
                Verb::Get => format!("get {}", route.path),
                Verb::Post => format!("post {}", route.path),
            })
            .collect();
        assert_eq!(documented, served);
    }

    #[test]
    fn the_document_has_every_error_code_and_no_other() {
        let document = document();
        let codes =
            document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].as_array().unwrap();
        let documented: BTreeSet<_> = codes.iter().map(|code| code.as_str().unwrap()).collect();
        let answered: BTreeSet<_> = CODES.iter().map(|(_, code)| *code).collect();
        assert_eq!(documented, answered);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut open = vec![&document];
        let mut references = 0;
        while let Some(value) = open.pop() {
            match value {
                serde_json::Value::Object(members) => {
                    if let Some(reference) = members.get("$ref") {
                        let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                        references += 1;
                    }
                    open.extend(members.values());
                }
                serde_json::Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        assert!(references > 0);
    }
}
