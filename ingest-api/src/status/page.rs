//! The page itself: one document that contains its style and its script, and a policy that allows only those
//! two.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY};
use sha2::{Digest, Sha256};

use crate::answer::{self, Answer};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const DOCUMENT: Bytes = Bytes::from_static(
    concat!(
        include_str!("page.html"),
        "<style>",
        include_str!("page.css"),
        "</style>\n<script>",
        include_str!("page.js"),
        "</script>\n"
    )
    .as_bytes(),
);

/// Nothing may be loaded, no text may become markup, and no site may show the page in a frame.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let policy = format!(
        "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        hash(SCRIPT),
        hash(STYLE)
    );
    HeaderValue::try_from(policy).expect("words and base64")
});

/// The page. It is the same on every installation.
pub fn get() -> Answer {
    let mut answer = answer::with_type(StatusCode::OK, "text/html; charset=utf-8", DOCUMENT);
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    for name in ["cross-origin-opener-policy", "cross-origin-resource-policy"] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static("same-origin"));
    }
    answer
}
