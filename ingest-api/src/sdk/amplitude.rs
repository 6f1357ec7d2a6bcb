//! Amplitude's protocol. Its SDKs read the member `code` of an answer instead of its status. They send a
//! batch again at once after 429, and after most 4xx: so a limit is answered with 503, after which they wait,
//! and a final refusal names a field that is missing, after which they give up.

use hyper::StatusCode;
use hyper::http::request::Parts;
use millrace_event::dialect::{Dialect, amplitude};
use serde_json::json;
use time::OffsetDateTime;

use super::{Protocol, later, ok};
use crate::answer::{self, Answer};
use crate::error::Problem;
use crate::ingest::Receipt;
use crate::packing::Packing;
use crate::problem_code::ProblemCode;

/// `/2/httpapi` and `/batch`
pub static EVENTS: Protocol = protocol(&amplitude::EVENTS);
/// `/identify`
pub static IDENTIFY: Protocol = protocol(&amplitude::IDENTIFY);

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

fn success(_head: &Parts, receipt: &Receipt) -> Answer {
    let now_ms = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    let now_ms = i64::try_from(now_ms).unwrap_or_default();
    let answer = json!({
        "code": 200,
        "events_ingested": receipt.count,
        "payload_size_bytes": receipt.body.len(),
        "server_upload_time": now_ms,
    });
    ok(answer.to_string())
}

fn refusal(problem: &Problem) -> Answer {
    let status = later(problem).unwrap_or_else(|| problem.code.status());
    // The SDKs stop for good only after this text.
    let error = match problem.code {
        ProblemCode::Unauthenticated | ProblemCode::Forbidden => {
            format!("Invalid API key: {}", problem.message)
        }
        _ => problem.message.to_string(),
    };
    let name: &str = problem.code.into();
    let mut body =
        json!({ "code": status.as_u16(), "error": error, "problem": name, "message": problem.message });
    let is_final = status.is_client_error()
        && !matches!(status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT);
    if is_final {
        body["missing_field"] = json!(problem.field().unwrap_or(name));
    }
    problem.with_headers(answer::json(status, &body))
}

#[cfg(test)]
mod tests {
    use hyper::header::RETRY_AFTER;

    use super::*;

    #[test]
    fn a_limit_is_answered_with_a_status_after_which_the_sdks_wait() {
        let answer = refusal(&Problem::rate_limited(2_000_000));
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()[RETRY_AFTER], "2");
    }
}
