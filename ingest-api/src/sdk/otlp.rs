//! OTLP over HTTP, for log records, in JSON and in protobuf. An answer has the encoding of its request.
//!
//! Exporters send a request again only after 429, 502, 503 and 504, and wait for as long as `Retry-After`
//! says. They drop it after any other refusal, and print the text of a partial success. So a dead letter is
//! reported as a rejected record, which the exporter must not send again, and 408 is answered with 503
//! (source: the OTLP specification 1.10, sections "OTLP/HTTP response" and "Partial success").

use bytes::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode};
use millrace_event::dialect::otlp;
use prost::encoding::{WireType, encode_key, encode_varint, int32, int64, string};
use serde_json::json;

use super::{Protocol, ok};
use crate::answer::{self, Answer};
use crate::error::Problem;
use crate::ingest::Receipt;
use crate::packing::Packing;
use crate::problem_code::ProblemCode;

const PROTOBUF_TYPE: &str = "application/x-protobuf";

static JSON: Protocol = Protocol {
    dialect: &otlp::JSON,
    packing: Packing::Plain,
    id_member: None,
    complete: None,
    choose: None,
    empty: Some(|| ok("{}")),
    success: json_success,
    refusal: json_refusal,
};

static PROTOBUF: Protocol = Protocol {
    dialect: &otlp::PROTOBUF,
    empty: Some(|| protobuf(StatusCode::OK, Vec::new())),
    success: protobuf_success,
    refusal: protobuf_refusal,
    ..JSON
};

/// `/v1/logs`. The `Content-Type` tells protobuf from JSON, which is everything else.
pub fn logs(headers: &HeaderMap) -> &'static Protocol {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        PROTOBUF_TYPE | "application/protobuf" | "application/vnd.google.protobuf" => &PROTOBUF,
        _ => &JSON,
    }
}

/// What an exporter prints of the records that became dead letters, and their number.
fn partial_success(receipt: &Receipt) -> Option<(i64, String)> {
    let first = receipt.dead.first()?;
    let count = receipt.dead.len();
    let message = format!(
        "{count} of {} log records cannot be stored and are kept as dead letters; the first is record {}: {}",
        receipt.count, first.index, first.message
    );
    Some((i64::try_from(count).unwrap_or(i64::MAX), message))
}

fn json_success(_head: &Parts, receipt: &Receipt) -> Answer {
    let Some((count, message)) = partial_success(receipt) else { return ok("{}") };
    let partial = json!({ "rejectedLogRecords": count.to_string(), "errorMessage": message });
    ok(json!({ "partialSuccess": partial }).to_string())
}

/// `ExportLogsServiceResponse`
fn protobuf_success(_head: &Parts, receipt: &Receipt) -> Answer {
    let mut response = Vec::new();
    if let Some((count, message)) = partial_success(receipt) {
        let mut partial = Vec::new();
        int64::encode(1, &count, &mut partial);
        string::encode(2, &message, &mut partial);
        encode_key(1, WireType::LengthDelimited, &mut response);
        encode_varint(partial.len() as u64, &mut response);
        response.extend_from_slice(&partial);
    }
    protobuf(StatusCode::OK, response)
}

/// `google.rpc.Status`, and the name of the problem.
fn json_refusal(problem: &Problem) -> Answer {
    let name: &str = problem.code.into();
    let status = json!({ "code": rpc_code(problem.code), "message": problem.message, "problem": name });
    problem.with_headers(answer::json(status_of(problem.code), &status))
}

fn protobuf_refusal(problem: &Problem) -> Answer {
    let mut status = Vec::new();
    int32::encode(1, &rpc_code(problem.code), &mut status);
    string::encode(2, &problem.message.clone().into_owned(), &mut status);
    problem.with_headers(protobuf(status_of(problem.code), status))
}

fn protobuf(status: StatusCode, message: Vec<u8>) -> Answer {
    answer::with_type(status, PROTOBUF_TYPE, Bytes::from(message))
}

/// The status after which an exporter comes back if the request may succeed later.
fn status_of(code: ProblemCode) -> StatusCode {
    match code.status() {
        StatusCode::REQUEST_TIMEOUT => StatusCode::SERVICE_UNAVAILABLE,
        status => status,
    }
}

/// The code of gRPC for a problem (source: `google/rpc/code.proto`).
fn rpc_code(code: ProblemCode) -> i32 {
    match status_of(code) {
        StatusCode::UNAUTHORIZED => 16,
        StatusCode::FORBIDDEN => 7,
        StatusCode::PAYLOAD_TOO_LARGE => 11,
        StatusCode::UNPROCESSABLE_ENTITY => 9,
        StatusCode::TOO_MANY_REQUESTS => 8,
        StatusCode::SERVICE_UNAVAILABLE => 14,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::RETRY_AFTER;

    use super::*;

    fn protocol_of(kind: Option<&'static str>) -> &'static str {
        let headers = kind.map(|kind| (CONTENT_TYPE, kind.parse().unwrap())).into_iter().collect();
        logs(&headers).dialect.name
    }

    #[test]
    fn the_content_type_tells_protobuf_from_json() {
        for kind in ["application/x-protobuf", "Application/X-Protobuf; x=1", "application/protobuf"] {
            assert_eq!(protocol_of(Some(kind)), "otlp-protobuf", "{kind}");
        }
        for kind in [None, Some("application/json"), Some("text/plain"), Some("application/x-ndjson")] {
            assert_eq!(protocol_of(kind), "otlp-json", "{kind:?}");
        }
    }

    #[test]
    fn an_exporter_comes_back_after_everything_that_may_succeed_later_and_after_nothing_else() {
        for protocol in [&JSON, &PROTOBUF] {
            for code in ProblemCode::ALL {
                let answer = (protocol.refusal)(&Problem::new(*code, "x"));
                let comes_back = matches!(answer.status().as_u16(), 429 | 502 | 503 | 504);
                let may_succeed = matches!(code.status().as_u16(), 408 | 429 | 503);
                assert_eq!(comes_back, may_succeed, "{code:?}");
            }
            let limit = (protocol.refusal)(&Problem::rate_limited(2_000_000));
            assert_eq!(
                (limit.status().as_u16(), &limit.headers()[RETRY_AFTER]),
                (429, &"2".parse().unwrap())
            );
        }
    }
}
