//! CloudEvents over HTTP, structured, batched and binary, and OpenMeter's and Lago's events.
//!
//! OpenMeter's SDK for Python takes only 204 for success, and retries every refusal with a `Retry-After`.
//! Lago has one path with OpenMeter: the body decides. A `Content-Type` of CloudEvents, `ce-` headers, an
//! array, or an object without a member `event` is CloudEvents. Anything else is Lago's.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, StatusCode};
use millrace_event::dialect::cloudevents;
use millrace_event::json;
use percent_encoding::percent_decode;
use serde_json::{Map, Value};

use super::{Protocol, lago};
use crate::answer;
use crate::error::Problem;
use crate::packing::Packing;

/// `/v1/cloudevents`
pub static EVENTS: Protocol = Protocol {
    dialect: &cloudevents::EVENTS,
    packing: Packing::Plain,
    id_member: None,
    complete: Some(from_binary_mode),
    choose: None,
    empty: None,
    success: |_, _| answer::empty(StatusCode::NO_CONTENT),
    refusal: Problem::answer,
};

/// `/api/v1/events`, which OpenMeter and Lago share.
pub static SHARED: Protocol = Protocol { choose: Some(choose), ..EVENTS };

/// Attributes of an event in binary mode have this prefix.
const PREFIX: &str = "ce-";

fn choose(headers: &HeaderMap, body: &[u8]) -> Option<&'static Protocol> {
    let is_declared = headers.contains_key("ce-specversion")
        || content_type(headers).is_some_and(|kind| kind.starts_with("application/cloudevents"));
    if is_declared || json::root_member(body, "event", None).is_none() {
        return None;
    }
    Some(&lago::EVENT)
}

fn content_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// Binary mode: the attributes are headers, and the body is the data. JSON is taken as it is, text as a
/// string, and anything else as base64 (source: CloudEvents, HTTP protocol binding, sections 3.1 and 2).
fn from_binary_mode(headers: &HeaderMap, body: Bytes) -> Bytes {
    if !headers.contains_key("ce-specversion") {
        return body;
    }
    let mut event = Map::new();
    for (name, value) in headers {
        let Some(attribute) = name.as_str().strip_prefix(PREFIX) else { continue };
        let value = percent_decode(value.as_bytes()).decode_utf8_lossy();
        event.insert(attribute.to_owned(), Value::from(value.trim_matches('"')));
    }
    let kind = content_type(headers);
    if let Some(kind) = &kind {
        event.insert("datacontenttype".to_owned(), Value::from(kind.as_str()));
    }
    let is_json = kind.as_deref().is_none_or(|kind| kind.ends_with("/json") || kind.ends_with("+json"));
    let mut text = Value::from(event).to_string().into_bytes();
    if body.is_empty() {
        return text.into();
    }
    text.pop();
    match (is_json, std::str::from_utf8(&body)) {
        (true, _) => {
            text.extend_from_slice(b",\"data\":");
            text.extend_from_slice(&body);
        }
        (false, Ok(data)) => {
            text.extend_from_slice(b",\"data\":");
            text.extend_from_slice(Value::from(data).to_string().as_bytes());
        }
        (false, Err(_)) => {
            text.extend_from_slice(b",\"data_base64\":");
            text.extend_from_slice(Value::from(STANDARD.encode(&body)).to_string().as_bytes());
        }
    }
    text.push(b'}');
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn the_attributes_of_binary_mode_are_members_next_to_the_data() {
        let ce = [("ce-specversion", "1.0"), ("ce-id", "a%20%22b"), ("ce-type", "t"), ("ce-source", "/s")];
        for (kind, body, data) in [
            ("application/json; charset=utf-8", &br#"{"n":1}"#[..], r#""data":{"n":1}"#),
            ("text/plain", b"a \"text\"", r#""data":"a \"text\"""#),
            ("image/png", b"\xff\x00", r#""data_base64":"/wA=""#),
        ] {
            let headers = headers(&[&ce[..], &[("content-type", kind)]].concat());
            let event = from_binary_mode(&headers, Bytes::from_static(body));
            let text = String::from_utf8(event.to_vec()).unwrap();
            assert!(text.ends_with(&format!("{data}}}")), "{text}");
            let event: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(
                (&event["id"], &event["type"], &event["source"]),
                (&"a \"b".into(), &"t".into(), &"/s".into())
            );
        }
        let plain = from_binary_mode(&HeaderMap::new(), Bytes::from_static(b"[]"));
        assert_eq!(&plain[..], b"[]");
    }

    #[test]
    fn the_body_decides_whose_event_it_is() {
        let none = HeaderMap::new();
        let declared = headers(&[("content-type", "application/cloudevents+json")]);
        let is_lago = |headers: &HeaderMap, body: &str| choose(headers, body.as_bytes()).is_some();
        assert!(is_lago(&none, r#"{"event":{"code":"c"}}"#));
        assert!(!is_lago(&declared, r#"{"event":{"code":"c"}}"#));
        for other in [r#"{"type":"t","data":{"event":1}}"#, r#"[{"event":{}}]"#, "", "{}"] {
            assert!(!is_lago(&none, other), "{other}");
        }
    }
}
