//! The one place where facts become answers: every reason for not serving a request, and the problem document
//! (RFC 9457) it is told in. Nothing of the request is repeated in an answer.

use std::borrow::Cow;

use hyper::StatusCode;
use hyper::header::{ALLOW, CONNECTION, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use millrace_event::dialect::BodyError;
use millrace_event::event::Rejection;
use millrace_store::StoreError;
use serde::Serialize;

use crate::accounts::LookupError;
use crate::answer::{self, Answer};
use crate::auth::CredentialsError;
use crate::body::BodyFault;
use crate::encoding::DecodeError;
use crate::headers::HeaderError;
use crate::parameters::ParameterError;
use crate::ratelimit;
use crate::signature::SignatureError;

/// Seconds after which a request answered 503 may be sent again: spread, so that clients do not come back at once.
const RETRY_S: std::ops::RangeInclusive<u64> = 1..=5;

/// Why a request is not served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The body is not JSON of the form the route takes.
    InvalidJson(String),
    /// The body cannot be decompressed, or is not framed as its head says.
    InvalidEncoding(&'static str),
    /// Well-formed, without any event.
    EmptyBatch,
    /// A parameter of the query.
    InvalidParameter(ParameterError),
    /// A header.
    InvalidHeader(HeaderError),
    /// No key, an unknown or revoked key, or no valid signature.
    Unauthenticated(String),
    /// No such path, or no such thing.
    NotFound(&'static str),
    /// The path is there, the method is not.
    MethodNotAllowed {
        /// The methods that are.
        allow: String,
    },
    /// The body did not come in time.
    RequestTimeout,
    /// The body is larger than the server takes.
    PayloadTooLarge(Cow<'static, str>),
    /// The batch is larger than the plan could ever admit.
    TooManyEvents {
        /// Events in it.
        found: usize,
        /// Events the plan allows in one batch.
        max: usize,
    },
    /// The content type is not one of ours.
    UnsupportedMediaType,
    /// The content encoding is not one of ours.
    UnsupportedEncoding,
    /// Events, none of them valid.
    NoValidEvent(Vec<Rejection>),
    /// The idempotency key was used for another body.
    IdempotencyConflict,
    /// Over the plan's rate.
    RateLimited {
        /// Microseconds in which nothing can pass.
        wait_us: u64,
    },
    /// Over the plan's events for the month.
    QuotaExceeded {
        /// Seconds until the next month.
        reset_s: u64,
    },
    /// Too many events wait to be stored.
    BacklogFull,
    /// The stream cannot take the batch durably now.
    StreamUnavailable(&'static str),
    /// The store cannot be asked now; only reports need it.
    StoreUnavailable,
    /// The server itself is at a limit, or not ready.
    Overloaded(&'static str),
}

/// The codes of every [`Problem`], for the interface document to be held against.
pub const CODES: &[(u16, &str)] = &[
    (400, "invalid_json"),
    (400, "invalid_encoding"),
    (400, "empty_batch"),
    (400, "invalid_parameter"),
    (400, "invalid_header"),
    (401, "unauthenticated"),
    (404, "not_found"),
    (405, "method_not_allowed"),
    (408, "request_timeout"),
    (413, "payload_too_large"),
    (413, "too_many_events"),
    (415, "unsupported_media_type"),
    (415, "unsupported_encoding"),
    (422, "no_valid_event"),
    (422, "idempotency_conflict"),
    (429, "rate_limited"),
    (429, "quota_exceeded"),
    (503, "backlog_full"),
    (503, "stream_unavailable"),
    (503, "store_unavailable"),
    (503, "overloaded"),
];

/// The document, RFC 9457 with members of ours. `code` and `message` are what SDKs of several families look for.
#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<&'a [Rejection]>,
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated_policies: Option<[&'static str; 1]>,
}

impl Problem {
    /// The stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::InvalidJson(_) => "invalid_json",
            Self::InvalidEncoding(_) => "invalid_encoding",
            Self::EmptyBatch => "empty_batch",
            Self::InvalidParameter(_) => "invalid_parameter",
            Self::InvalidHeader(_) => "invalid_header",
            Self::Unauthenticated(_) => "unauthenticated",
            Self::NotFound(_) => "not_found",
            Self::MethodNotAllowed { .. } => "method_not_allowed",
            Self::RequestTimeout => "request_timeout",
            Self::PayloadTooLarge(_) => "payload_too_large",
            Self::TooManyEvents { .. } => "too_many_events",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::UnsupportedEncoding => "unsupported_encoding",
            Self::NoValidEvent(_) => "no_valid_event",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::RateLimited { .. } => "rate_limited",
            Self::QuotaExceeded { .. } => "quota_exceeded",
            Self::BacklogFull => "backlog_full",
            Self::StreamUnavailable(_) => "stream_unavailable",
            Self::StoreUnavailable => "store_unavailable",
            Self::Overloaded(_) => "overloaded",
        }
    }

    /// The status it is answered with.
    pub fn status(&self) -> StatusCode {
        let known = CODES.iter().find(|(_, code)| *code == self.code());
        let status = known.and_then(|(status, _)| StatusCode::from_u16(*status).ok());
        status.expect("CODES has every code, as a test holds")
    }

    /// What is wrong and what would be right, for people.
    pub fn message(&self) -> Cow<'_, str> {
        match self {
            Self::InvalidJson(message) | Self::Unauthenticated(message) => message.into(),
            Self::PayloadTooLarge(message) => message.as_ref().into(),
            Self::InvalidEncoding(message)
            | Self::NotFound(message)
            | Self::StreamUnavailable(message)
            | Self::Overloaded(message) => (*message).into(),
            Self::EmptyBatch => "the batch holds no event".into(),
            Self::InvalidParameter(error) => error.to_string().into(),
            Self::InvalidHeader(error) => error.to_string().into(),
            Self::MethodNotAllowed { allow } => format!("this path takes {allow}").into(),
            Self::RequestTimeout => "the body did not arrive in time".into(),
            Self::TooManyEvents { found, max } => {
                format!("the batch holds {found} events, the plan allows {max}; send smaller batches").into()
            }
            Self::UnsupportedMediaType => {
                "send application/json, or application/x-ndjson with one event a line".into()
            }
            Self::UnsupportedEncoding => {
                "send the body as it is, or with one content encoding: gzip or zstd".into()
            }
            Self::NoValidEvent(_) => "no event of the batch is valid; rejected tells why for each".into(),
            Self::IdempotencyConflict => "this idempotency key was used for another body".into(),
            Self::RateLimited { .. } => "over the plan's requests per minute".into(),
            Self::QuotaExceeded { .. } => "the batch does not fit into what is left of the month".into(),
            Self::BacklogFull => "too many events wait to be stored; nothing was accepted".into(),
            Self::StoreUnavailable => "the store cannot be asked now; events are still accepted".into(),
        }
    }

    fn kind(&self) -> (&'static str, &'static str) {
        match self.status() {
            StatusCode::TOO_MANY_REQUESTS => {
                ("https://iana.org/assignments/http-problem-types#quota-exceeded", "Quota Exceeded")
            }
            StatusCode::SERVICE_UNAVAILABLE => (
                "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity",
                "Temporary Reduced Capacity",
            ),
            status => ("about:blank", status.canonical_reason().unwrap_or("Error")),
        }
    }

    /// Seconds after which the same request may succeed; `None` when it never will as it is.
    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::RateLimited { wait_us } => Some(wait_us.div_ceil(1_000_000).max(1)),
            Self::QuotaExceeded { reset_s } => Some((*reset_s).max(1)),
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => Some(rand::random_range(RETRY_S)),
            _ => None,
        }
    }

    /// Whether the rest of the request is not worth reading.
    fn ends_connection(&self) -> bool {
        matches!(self, Self::PayloadTooLarge(_) | Self::RequestTimeout | Self::InvalidEncoding(_))
    }

    /// The answer.
    pub fn answer(&self) -> Answer {
        let (kind, title) = self.kind();
        let message = self.message();
        let document = Document {
            r#type: kind,
            title,
            status: self.status().as_u16(),
            detail: &message,
            code: self.code(),
            message: &message,
            field: match self {
                Self::InvalidParameter(error) => Some(error.name()),
                Self::InvalidHeader(error) => Some(error.name()),
                _ => None,
            },
            rejected: match self {
                Self::NoValidEvent(rejected) => Some(rejected),
                _ => None,
            },
            violated_policies: match self {
                Self::RateLimited { .. } => Some([ratelimit::MINUTE]),
                Self::QuotaExceeded { .. } => Some([ratelimit::MONTH]),
                _ => None,
            },
        };
        let body = serde_json::to_vec(&document).expect("a document of strings and numbers");
        let mut answer = answer::with_type(self.status(), "application/problem+json", body.into());
        let headers = answer.headers_mut();
        if let Some(seconds) = self.retry_after_s() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Self::MethodNotAllowed { allow } = self {
            headers.insert(ALLOW, HeaderValue::try_from(allow).expect("a list of methods"));
        }
        if let Self::Unauthenticated(_) = self {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"millrace\""));
        }
        if self.ends_connection() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

impl From<CredentialsError> for Problem {
    fn from(error: CredentialsError) -> Self {
        Self::Unauthenticated(error.to_string())
    }
}

impl From<LookupError> for Problem {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::NotLoaded => Self::Overloaded("the server is starting and knows no keys yet"),
            LookupError::UnknownKey => Self::Unauthenticated(error.to_string()),
        }
    }
}

impl From<SignatureError> for Problem {
    fn from(error: SignatureError) -> Self {
        Self::Unauthenticated(error.to_string())
    }
}

impl From<HeaderError> for Problem {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::MediaType => Self::UnsupportedMediaType,
            HeaderError::Encoding => Self::UnsupportedEncoding,
            HeaderError::Invalid { .. } => Self::InvalidHeader(error),
        }
    }
}

impl From<BodyFault> for Problem {
    fn from(fault: BodyFault) -> Self {
        match fault {
            BodyFault::TooLarge { max } => {
                Self::PayloadTooLarge(format!("the body is larger than {max} bytes").into())
            }
            BodyFault::Timeout => Self::RequestTimeout,
            BodyFault::Broken => {
                Self::InvalidEncoding("the body ended early or is not framed as its head says")
            }
            BodyFault::OverBudget => Self::Overloaded("too many bodies are being read at once"),
        }
    }
}

impl From<DecodeError> for Problem {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLarge { max } => {
                Self::PayloadTooLarge(format!("the decompressed body is larger than {max} bytes").into())
            }
            DecodeError::Gzip => Self::InvalidEncoding("the body is not whole and valid gzip"),
            DecodeError::Zstd => {
                Self::InvalidEncoding("the body is not whole and valid zstd with a window of at most 8 MiB")
            }
        }
    }
}

impl From<BodyError> for Problem {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::InvalidJson { message } => Self::InvalidJson(message),
            BodyError::EmptyBatch => Self::EmptyBatch,
            BodyError::TooManyEvents { found, max } => Self::TooManyEvents { found, max },
            BodyError::NoValidEvent { rejected } => Self::NoValidEvent(rejected),
        }
    }
}

impl From<ParameterError> for Problem {
    fn from(error: ParameterError) -> Self {
        Self::InvalidParameter(error)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::debug!(%error, "a report could not be made: {error}");
        Self::StoreUnavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_a_status_and_only_transient_ones_say_when_to_come_back() {
        let problems = [
            Problem::InvalidJson("x".into()),
            Problem::InvalidEncoding("x"),
            Problem::EmptyBatch,
            Problem::InvalidParameter(ParameterError::Unknown),
            Problem::InvalidHeader(HeaderError::Invalid { name: "idempotency-key", expected: "x" }),
            Problem::Unauthenticated("x".into()),
            Problem::NotFound("x"),
            Problem::MethodNotAllowed { allow: "GET".into() },
            Problem::RequestTimeout,
            Problem::PayloadTooLarge("x".into()),
            Problem::TooManyEvents { found: 2, max: 1 },
            Problem::UnsupportedMediaType,
            Problem::UnsupportedEncoding,
            Problem::NoValidEvent(Vec::new()),
            Problem::IdempotencyConflict,
            Problem::RateLimited { wait_us: 1 },
            Problem::QuotaExceeded { reset_s: 0 },
            Problem::BacklogFull,
            Problem::StreamUnavailable("x"),
            Problem::StoreUnavailable,
            Problem::Overloaded("x"),
        ];
        assert_eq!(problems.len(), CODES.len());
        for (problem, (status, code)) in problems.iter().zip(CODES) {
            assert_eq!((problem.status().as_u16(), problem.code()), (*status, *code));
            let answer = problem.answer();
            let retry_after = answer.headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap());
            let transient = matches!(status, 429 | 503);
            assert_eq!(retry_after.is_some(), transient, "{code}");
            assert!(retry_after.is_none_or(|seconds| seconds.parse::<u64>().unwrap() >= 1), "{code}");
        }
    }

    #[test]
    fn the_wait_of_a_rate_limit_is_rounded_up_to_whole_seconds() {
        assert_eq!(Problem::RateLimited { wait_us: 1_000_000 }.retry_after_s(), Some(1));
        assert_eq!(Problem::RateLimited { wait_us: 1_000_001 }.retry_after_s(), Some(2));
    }
}
