//! Snowplow's collector protocol: batches by POST, and one event in the query by GET, which is answered with
//! an image.
//!
//! The trackers send again after every status but 2xx, 400, 401, 403, 410 and 422, at growing intervals or
//! with their next event, and they send nothing else until then. So a final refusal is never another status
//! than these, and a request that may succeed later has its own: 408, 429 or 503.

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, StatusCode};
use millrace_event::dialect::snowplow;

use super::Protocol;
use crate::answer::{self, Answer};
use crate::error::Problem;
use crate::ingest::Receipt;
use crate::packing::Packing;

/// `/com.snowplowanalytics.snowplow/tp2` and `/i`
pub static EVENTS: Protocol = Protocol {
    dialect: &snowplow::EVENTS,
    packing: Packing::Pairs,
    id_member: None,
    complete: None,
    choose: None,
    empty: None,
    success,
    refusal,
};

/// A transparent image of one pixel (GIF89a).
const PIXEL: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

/// What Snowplow's collector answers.
fn success(head: &Parts, _receipt: &Receipt) -> Answer {
    if head.method == Method::GET {
        return answer::with_type(StatusCode::OK, "image/gif", Bytes::from_static(PIXEL));
    }
    answer::with_type(StatusCode::OK, "text/plain", Bytes::from_static(b"ok"))
}

fn refusal(problem: &Problem) -> Answer {
    match problem.code.status() {
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            problem.answer_with(StatusCode::BAD_REQUEST)
        }
        _ => problem.answer(),
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::RETRY_AFTER;

    use super::*;
    use crate::problem_code::ProblemCode;

    /// After these, the trackers drop what they have sent.
    const FINAL: [u16; 4] = [400, 401, 403, 422];

    #[test]
    fn a_final_refusal_is_one_after_which_the_trackers_give_up_and_any_other_one_after_which_they_wait() {
        for code in ProblemCode::ALL {
            let never_here = matches!(code.status().as_u16(), 404 | 405 | 409);
            let answer = refusal(&Problem::new(*code, "x"));
            let is_final = FINAL.contains(&answer.status().as_u16());
            assert!(
                is_final != matches!(answer.status().as_u16(), 408 | 429 | 503) || never_here,
                "{code:?}"
            );
            assert!(!is_final || !answer.headers().contains_key(RETRY_AFTER), "{code:?}");
        }
    }
}
