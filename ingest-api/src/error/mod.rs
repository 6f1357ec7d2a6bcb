//! Problems: every reason for refusing a request, and the problem document (RFC 9457) that answers it.
//! `conversions` says which problem answers which error. Only this module makes error answers. A message must
//! never repeat a part of the request, except to a program that manages the installation.

mod conversions;

use std::borrow::Cow;
use std::ops::RangeInclusive;

use hyper::StatusCode;
use hyper::header::{
    ACCEPT_ENCODING, ALLOW, CONNECTION, HeaderMap, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use millrace_event::event::Rejection;
use serde::Serialize;

use crate::answer::{self, Answer};
use crate::problem_code::ProblemCode;
use crate::ratelimit;
use crate::rejections::Excerpt;

/// `Retry-After` of a 503, in seconds: random, so that clients do not all retry at the same moment.
const RETRY_S: RangeInclusive<u64> = 1..=5;

/// The longest `Retry-After`, in seconds. Clients hold their events and sleep for as long as it says, and a
/// timer of JavaScript overflows at 25 days and then fires at once. `RateLimit` says when the month ends.
const RETRY_AFTER_S_MAX: u64 = 3_600;

/// The reason for refusing a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    pub code: ProblemCode,
    /// What is wrong, where, and what to do. For people.
    pub message: Cow<'static, str>,
    detail: Detail,
}

/// Additional data of some problems.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Detail {
    Nothing,
    /// The parameter or header to correct.
    Field(&'static str),
    /// The same, when the header leaves a doubt where the request ends.
    Framing(&'static str),
    Rejected(Vec<Rejection>),
    /// The methods that the path takes.
    Allow(&'static str),
    RetryAfterS(u64),
    /// The events over limits of customers, by their index, and seconds until these limits start again.
    OverLimits {
        events: Vec<usize>,
        reset_s: u64,
    },
    /// The beginning of the body, for the owner's samples. It is never a part of the answer.
    Body(Excerpt),
}

/// The document. `code` and `message` are members that SDKs of several families look for.
#[derive(Serialize)]
struct ProblemDocument<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: ProblemCode,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<RejectedEvents<'a>>,
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated_policies: Option<[&'static str; 1]>,
}

/// The events that are the reason of a problem.
#[derive(Serialize)]
#[serde(untagged)]
enum RejectedEvents<'a> {
    Invalid(&'a [Rejection]),
    OverLimits(Vec<EventOverLimit>),
}

/// An event that takes more than its customer has left. It has the members of a [`Rejection`].
#[derive(Serialize)]
struct EventOverLimit {
    index: usize,
    code: ProblemCode,
    field: &'static str,
    message: &'static str,
}

impl Problem {
    pub const fn new(code: ProblemCode, message: &'static str) -> Self {
        Self { code, message: Cow::Borrowed(message), detail: Detail::Nothing }
    }

    fn with_text(code: ProblemCode, message: String) -> Self {
        Self { code, message: Cow::Owned(message), detail: Detail::Nothing }
    }

    /// What the store refuses a program that manages the installation, in its words. They may have names that
    /// the program sent.
    pub fn of_operator(code: ProblemCode, message: String) -> Self {
        Self::with_text(code, message)
    }

    /// `allow` lists the methods that the path takes.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let message = format!("this path does not take the method of the request; use {allow}");
        let detail = Detail::Allow(allow);
        Self { code: ProblemCode::MethodNotAllowed, message: Cow::Owned(message), detail }
    }

    /// Over the plan's rate: nothing of the project can pass for this many microseconds.
    pub const fn rate_limited(wait_us: u64) -> Self {
        let message =
            "the project has used up its plan's requests per minute; wait as long as Retry-After says";
        let wait_s = wait_us.div_ceil(1_000_000);
        Self {
            code: ProblemCode::RateLimited,
            message: Cow::Borrowed(message),
            detail: Detail::RetryAfterS(if wait_s == 0 { 1 } else { wait_s }),
        }
    }

    /// Over the plan's events for the month, which ends after this many seconds.
    pub const fn quota_exceeded(reset_s: u64) -> Self {
        let message = "the batch has more events than the project has left this month; send a smaller batch, or wait \
                       until the month ends, in as many seconds as RateLimit says";
        Self {
            code: ProblemCode::QuotaExceeded,
            message: Cow::Borrowed(message),
            detail: Detail::RetryAfterS(if reset_s == 0 { 1 } else { reset_s }),
        }
    }

    /// Customers have less left of their limits than the batch takes. `events` are the places of the rows
    /// that do not fit.
    pub fn limit_exceeded(events: Vec<u32>, reset_s: u64) -> Self {
        let message = "customers of the batch have reached their limits, and nothing of it was accepted; send the batch \
                       without the events that rejected names, or wait until the limits start again";
        let events = events.into_iter().map(|event| event as usize).collect();
        let detail = Detail::OverLimits { events, reset_s: reset_s.max(1) };
        Self { code: ProblemCode::LimitExceeded, message: Cow::Borrowed(message), detail }
    }

    /// The same, with the indexes that rows have in a body of which these events have no rows.
    pub fn in_body(mut self, invalid: &[Rejection]) -> Self {
        if let Detail::OverLimits { events, .. } = &mut self.detail {
            let mut without_rows: Vec<_> = invalid.iter().map(|rejection| rejection.index).collect();
            without_rows.sort_unstable();
            for event in events {
                for index in &without_rows {
                    *event += usize::from(index <= event);
                }
            }
        }
        self
    }

    pub const fn idempotency_conflict() -> Self {
        let message = "this Idempotency-Key was used for another body; use a new key for a new batch";
        Self::new(ProblemCode::IdempotencyConflict, message)
    }

    pub const fn backlog_full() -> Self {
        let message =
            "too many events wait to be stored; nothing was accepted; send the same batch again later";
        Self::new(ProblemCode::BacklogFull, message)
    }

    /// The code is that of a full backlog: both end when workers have drained the stream.
    pub const fn stream_full() -> Self {
        let message = "the memory or the disk of the stream is full; nothing was accepted; send the same batch again \
                       later";
        Self::new(ProblemCode::BacklogFull, message)
    }

    pub const fn epoch_changed() -> Self {
        let message = "the stream's counters are being rebuilt; send the same batch again later";
        Self::new(ProblemCode::StreamUnavailable, message)
    }

    pub const fn store_unavailable() -> Self {
        let message = "the database cannot be reached; retry later; events are still accepted";
        Self::new(ProblemCode::StoreUnavailable, message)
    }

    /// The same for a caller that must not learn the limits of the project: without their numbers, and
    /// without advice that needs them.
    pub fn without_limits(self) -> Self {
        let message = match self.code {
            ProblemCode::TooManyEvents => "the batch has too many events; send smaller batches",
            ProblemCode::QuotaExceeded => {
                "the batch has more events than the project may still send; keep the events, and wait at least as long \
                 as Retry-After says"
            }
            ProblemCode::LimitExceeded => {
                "the batch takes more than may still be sent; keep the events, and wait at least as long as Retry-After \
                 says"
            }
            _ => return self,
        };
        let detail = match self.detail {
            Detail::OverLimits { reset_s, .. } => Detail::RetryAfterS(reset_s),
            detail => detail,
        };
        Self { code: self.code, message: Cow::Borrowed(message), detail }
    }

    /// Adds the beginning of the body, for a problem of the body itself.
    pub fn with_body(self, excerpt: Excerpt) -> Self {
        Self { detail: Detail::Body(excerpt), ..self }
    }

    /// The beginning of the body, if it is known.
    pub fn excerpt(&self) -> Option<&Excerpt> {
        match &self.detail {
            Detail::Body(excerpt) => Some(excerpt),
            _ => None,
        }
    }

    /// The parameter or header to correct.
    pub fn field(&self) -> Option<&'static str> {
        match self.detail {
            Detail::Field(name) | Detail::Framing(name) => Some(name),
            _ => None,
        }
    }

    /// Seconds after which to try the same request again. `None` when it cannot succeed unchanged.
    fn retry_after_s(&self) -> Option<u64> {
        match self.detail {
            Detail::RetryAfterS(seconds) | Detail::OverLimits { reset_s: seconds, .. } => {
                Some(seconds.min(RETRY_AFTER_S_MAX))
            }
            _ => self.code.is_transient().then(|| rand::random_range(RETRY_S)),
        }
    }

    /// Whether the answer closes the connection.
    fn ends_connection(&self) -> bool {
        self.code.ends_connection() || matches!(self.detail, Detail::Framing(_))
    }

    pub fn answer(&self) -> Answer {
        self.answer_with(self.code.status())
    }

    /// The answer to an SDK that gives up after the status of the problem, and comes back after this one.
    pub fn answer_with(&self, status: StatusCode) -> Answer {
        let (kind, title) = self.code.problem_type();
        let document = ProblemDocument {
            r#type: kind,
            title,
            status: status.as_u16(),
            detail: &self.message,
            code: self.code,
            message: &self.message,
            field: self.field(),
            rejected: match &self.detail {
                Detail::Rejected(rejected) => Some(RejectedEvents::Invalid(rejected)),
                Detail::OverLimits { events, .. } => Some(RejectedEvents::over_limits(events)),
                _ => None,
            },
            violated_policies: match self.code {
                ProblemCode::RateLimited => Some([ratelimit::MINUTE]),
                ProblemCode::QuotaExceeded => Some([ratelimit::MONTH]),
                _ => None,
            },
        };
        let body = serde_json::to_vec(&document).expect("a document of strings and numbers");
        let mut answer = answer::with_type(status, "application/problem+json", body.into());
        self.add_headers(answer.headers_mut());
        answer
    }

    /// Another answer, with the headers of this problem.
    pub fn with_headers(&self, mut answer: Answer) -> Answer {
        self.add_headers(answer.headers_mut());
        answer
    }

    fn add_headers(&self, headers: &mut HeaderMap) {
        if let Some(seconds) = self.retry_after_s() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Detail::Allow(allow) = self.detail {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.code == ProblemCode::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"millrace\""));
        }
        if self.code == ProblemCode::UnsupportedEncoding {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate, zstd"));
        }
        if self.ends_connection() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

impl RejectedEvents<'_> {
    fn over_limits(events: &[usize]) -> Self {
        let message = "the customer has less left of a limit than this event takes";
        let (code, field) = (ProblemCode::LimitExceeded, "subject");
        let event = |index: &usize| EventOverLimit { index: *index, code, field, message };
        Self::OverLimits(events.iter().map(event).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry_after(problem: &Problem) -> Option<u64> {
        let answer = problem.answer();
        answer.headers().get(RETRY_AFTER).map(|seconds| seconds.to_str().unwrap().parse().unwrap())
    }

    #[test]
    fn only_transient_problems_have_retry_after() {
        for code in ProblemCode::ALL {
            let problem = Problem::new(*code, "x");
            let transient = matches!(code.status().as_u16(), 429 | 503);
            assert_eq!(retry_after(&problem).is_some(), transient, "{code:?}");
            assert!(retry_after(&problem).is_none_or(|seconds| seconds >= 1), "{code:?}");
        }
    }

    #[test]
    fn no_problem_asks_a_client_to_wait_for_more_than_an_hour() {
        let waits = [0, 1, 3_600, 3_601, 361_336, 2_600_000, u64::from(u32::MAX), u64::MAX];
        let limits = waits.into_iter().flat_map(|wait| {
            [Problem::quota_exceeded(wait), Problem::rate_limited(wait.saturating_mul(1_000_000))]
        });
        let all = ProblemCode::ALL.iter().map(|code| Problem::new(*code, "x"));
        for problem in limits.chain(all) {
            assert!(
                retry_after(&problem).is_none_or(|seconds| (1..=3_600).contains(&seconds)),
                "{problem:?}"
            );
        }
        assert_eq!(retry_after(&Problem::quota_exceeded(361_336)), Some(3_600));
    }

    #[test]
    fn the_wait_of_a_limit_is_rounded_up_to_whole_seconds_and_never_zero() {
        assert_eq!(retry_after(&Problem::rate_limited(1)), Some(1));
        assert_eq!(retry_after(&Problem::rate_limited(1_000_000)), Some(1));
        assert_eq!(retry_after(&Problem::rate_limited(1_000_001)), Some(2));
        assert_eq!(retry_after(&Problem::quota_exceeded(0)), Some(1));
        assert_eq!(retry_after(&Problem::quota_exceeded(3_599)), Some(3_599));
    }
}
