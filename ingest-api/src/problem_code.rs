//! The codes of errors, each with its status and meaning. Answers, metric labels, the OpenAPI document and
//! the table in `docs/http-api.md` are derived from this enum, or compared with it by a test.

use hyper::StatusCode;
use serde::Serialize;
use strum::{EnumMessage, IntoStaticStr, VariantArray, VariantNames};

/// The member `code` of a problem document. A name must never change, because clients decide by it. The
/// message is the meaning of the code.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Serialize, IntoStaticStr, EnumMessage, VariantArray, VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ProblemCode {
    #[strum(message = "the body is not JSON, or not in a supported form")]
    InvalidJson,
    #[strum(message = "the body does not decompress, or it ended early; the connection is closed")]
    InvalidEncoding,
    #[strum(message = "the body has no event")]
    EmptyBatch,
    #[strum(message = "a query parameter is unknown, repeated or has a wrong value")]
    InvalidParameter,
    #[strum(message = "a header has a wrong value, or `Host` is missing; `field` names it")]
    InvalidHeader,
    #[strum(message = "no key, an unknown, revoked or expired key, or a missing or wrong signature")]
    Unauthenticated,
    #[strum(
        message = "the key has another scope than the path needs, is no admin key, or is not for pages of this origin"
    )]
    Forbidden,
    #[strum(message = "no such path, or no such project, key, batch, meter, limit or threshold")]
    NotFound,
    #[strum(message = "the path does not take this method")]
    MethodNotAllowed,
    #[strum(message = "the new name or key is in use, or the key cannot be rotated any more")]
    Conflict,
    #[strum(message = "the body stopped arriving, or arrives too slowly; the connection is closed")]
    RequestTimeout,
    #[strum(message = "the body is too large, as sent or after decompression; the connection is closed")]
    PayloadTooLarge,
    #[strum(message = "the batch has more events than the plan could ever accept")]
    TooManyEvents,
    #[strum(message = "the `Content-Type` or its charset is not supported")]
    UnsupportedMediaType,
    #[strum(message = "the `Content-Encoding` is not supported, or there are several")]
    UnsupportedEncoding,
    #[strum(message = "every event was rejected; `rejected` has the reasons")]
    NoValidEvent,
    #[strum(message = "a field of the body is unknown, missing or wrong; `field` names it")]
    InvalidField,
    #[strum(message = "the `Idempotency-Key` was used for another body")]
    IdempotencyConflict,
    #[strum(message = "the project is over its plan's requests per minute")]
    RateLimited,
    #[strum(message = "the batch does not fit into what is left of the month's events")]
    QuotaExceeded,
    #[strum(
        message = "a customer of the batch has less left of a limit than the batch takes; `rejected` names events"
    )]
    LimitExceeded,
    #[strum(message = "too many events wait to be stored, or the memory or the disk of the stream is full")]
    BacklogFull,
    #[strum(message = "the batch cannot be put on disk now, or whether it was is unknown")]
    StreamUnavailable,
    #[strum(
        message = "the database cannot be reached; only reports, batch states, cancellations and `/v1/admin` need it"
    )]
    StoreUnavailable,
    #[strum(message = "the server is starting, or works on too many bodies or reports")]
    Overloaded,
}

impl ProblemCode {
    /// Every code, in the order of the documentation.
    pub const ALL: &[Self] = <Self as VariantArray>::VARIANTS;
    /// The names of all codes, in the same order.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    pub const fn status(self) -> StatusCode {
        match self {
            Self::InvalidJson
            | Self::InvalidEncoding
            | Self::EmptyBatch
            | Self::InvalidParameter
            | Self::InvalidHeader => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::PayloadTooLarge | Self::TooManyEvents => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType | Self::UnsupportedEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NoValidEvent | Self::InvalidField | Self::IdempotencyConflict => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            Self::RateLimited | Self::QuotaExceeded | Self::LimitExceeded => StatusCode::TOO_MANY_REQUESTS,
            Self::BacklogFull | Self::StreamUnavailable | Self::StoreUnavailable | Self::Overloaded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// The problem type (a URI) and its title. Two are registered with IANA; any other problem is named by
    /// its status.
    pub fn problem_type(self) -> (&'static str, &'static str) {
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

    /// Whether the same request may succeed later. The answer then has `Retry-After`.
    pub fn is_transient(self) -> bool {
        matches!(self.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
    }

    /// Whether the answer closes the connection, because the rest of the request cannot be used.
    pub fn ends_connection(self) -> bool {
        matches!(self, Self::PayloadTooLarge | Self::RequestTimeout | Self::InvalidEncoding)
    }

    /// Whether only a request with a valid signature can be refused so, if its key demands one.
    pub fn follows_the_signature(self) -> bool {
        matches!(
            self,
            Self::EmptyBatch
                | Self::InvalidParameter
                | Self::NotFound
                | Self::TooManyEvents
                | Self::NoValidEvent
                | Self::IdempotencyConflict
                | Self::RateLimited
                | Self::QuotaExceeded
                | Self::LimitExceeded
                | Self::BacklogFull
                | Self::StreamUnavailable
                | Self::StoreUnavailable
        )
    }

    /// The meaning, in the words of the documentation.
    pub fn meaning(self) -> &'static str {
        self.get_message().expect("every code has a message")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../docs/http-api.md");

    /// The text of a table's cell, without the targets of links.
    fn without_links(cell: &str) -> String {
        let mut text = String::new();
        let mut rest = cell;
        while let Some((before, link)) = rest.split_once('[') {
            let (label, after) = link.split_once("](").expect("a link");
            text.push_str(before);
            text.push_str(label);
            rest = after.split_once(')').expect("a link").1;
        }
        text + rest
    }

    #[test]
    fn the_documentation_has_one_row_for_each_code_and_no_other() {
        let section = PAGE.split_once("\n## Errors\n").unwrap().1.split("\n## ").next().unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        let documented: Vec<String> = rows
            .map(|row| {
                row.split('|').skip(1).take(3).map(|cell| without_links(cell.trim())).collect::<Vec<_>>()
            })
            .map(|cells| cells.join(" | "))
            .collect();
        let defined: Vec<String> = ProblemCode::ALL
            .iter()
            .map(|code| format!("`{}` | {} | {}", <&str>::from(code), code.status().as_u16(), code.meaning()))
            .collect();
        assert_eq!(
            documented, defined,
            "the first three columns of docs/http-api.md, section Errors, must be these rows"
        );
    }
}
