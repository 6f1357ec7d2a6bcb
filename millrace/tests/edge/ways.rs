//! The ways in which SDKs send a call: the key in the head, in the body or in the query, alone or in a batch.

use serde_json::Value;

use crate::site::Site;

/// The call that every batch has first. Nothing about its neighbor may change it.
pub const GOOD: &str = r#"{"type":"track","event":"good","userId":"u"}"#;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// A batch, with the key in the head.
    Head,
    /// A batch sent as a beacon sends it, with the key in the body.
    Body,
    /// A batch with the key in the query.
    Query,
    /// The call alone, to the route of its type.
    Alone,
}

impl Way {
    pub const OF_BATCHES: [Self; 3] = [Self::Head, Self::Body, Self::Query];

    /// The call with a member that tells which case it is, if it is an object. `~` becomes a digit of its own
    /// for each way, so that the same id is not sent in two ways.
    pub fn marked(self, case: usize, call: &[u8]) -> Vec<u8> {
        let call: Vec<_> =
            call.iter().map(|byte| if *byte == b'~' { b'0' + self as u8 } else { *byte }).collect();
        match call.strip_prefix(b"{") {
            None => call,
            Some(b"}") => format!("{{{}}}", self.mark(case)).into_bytes(),
            Some(rest) => [format!("{{{},", self.mark(case)).as_bytes(), rest].concat(),
        }
    }

    fn mark(self, case: usize) -> String {
        format!("\"case\":\"{}\"", self.name(case))
    }

    /// What is expected of the call with its digit.
    pub fn expected(self, row: &Value) -> Value {
        serde_json::from_str(&row.to_string().replace('~', &(self as u8).to_string())).unwrap()
    }

    /// The value of the member that [`Way::marked`] adds.
    pub fn name(self, case: usize) -> String {
        format!("{case} {self:?}")
    }

    /// Posts the call, in a batch as the second of two, with `around` as further members of the body. Returns
    /// the answer, which must be that of success.
    pub async fn post(self, site: &Site, key: &str, call: &[u8], around: &str) -> Value {
        let batch = |first: String| {
            let head = format!("{{{first}\"batch\":[{GOOD},");
            [head.as_bytes(), call, b"]", around.as_bytes(), b",\"sentAt\":\"2026-11-20T10:00:01Z\"}"]
                .concat()
        };
        let bearer = format!("Bearer {key}");
        let bearer = [("authorization", bearer.as_str())];
        let (path, headers, body) = match self {
            Self::Head => ("/v1/batch".to_owned(), &bearer[..], batch(String::new())),
            Self::Body => (
                "/v1/b".to_owned(),
                &[("content-type", "text/plain")][..],
                batch(format!("\"writeKey\":\"{key}\",")),
            ),
            Self::Query => (format!("/beacon/v1/batch?writeKey={key}"), &[][..], batch(String::new())),
            Self::Alone => ("/v1/track".to_owned(), &bearer[..], call.to_vec()),
        };
        let answer = testkit::http::post(site.address, &path, headers, body).await;
        let shown = String::from_utf8_lossy(&call[..call.len().min(200)]);
        assert_eq!(answer.status, 200, "{self:?} {shown}: {answer:?}");
        let answer = answer.json();
        assert_eq!(
            (&answer["success"], answer.get("rejected")),
            (&Value::Bool(true), None),
            "{shown}: {answer}"
        );
        answer
    }
}
