//! Mixpanel's protocol. Its SDKs take `{"status":1}` for success if they asked for a verbose answer, and the
//! text `1` otherwise. The SDK for Python asks in its form, the others in the query.

use bytes::Bytes;
use hyper::StatusCode;
use hyper::http::request::Parts;
use millrace_event::dialect::{Dialect, mixpanel};
use serde_json::json;

use super::{Protocol, ok};
use crate::answer::{self, Answer};
use crate::error::Problem;
use crate::ingest::Receipt;
use crate::packing::Packing;

/// `/track` and `/import`
pub static EVENTS: Protocol = protocol(&mixpanel::EVENTS);
/// `/engage`
pub static PEOPLE: Protocol = protocol(&mixpanel::PEOPLE);
/// `/groups`
pub static GROUPS: Protocol = protocol(&mixpanel::GROUPS);

const fn protocol(dialect: &'static Dialect) -> Protocol {
    Protocol {
        dialect,
        packing: Packing::Detected,
        id_member: None,
        complete: None,
        choose: None,
        empty: None,
        success,
        refusal,
    }
}

fn success(head: &Parts, _receipt: &Receipt) -> Answer {
    let query = head.uri.query().unwrap_or_default();
    let is_short = !query.is_empty() && !query.split('&').any(|pair| pair == "verbose=1");
    if is_short {
        return answer::with_type(StatusCode::OK, "text/plain", Bytes::from_static(b"1"));
    }
    ok(r#"{"status":1,"error":null}"#)
}

fn refusal(problem: &Problem) -> Answer {
    let body =
        json!({ "status": 0, "error": problem.message, "code": problem.code, "message": problem.message });
    problem.with_headers(answer::json(problem.code.status(), &body))
}
