//! The texts of samples: what a client sent, cut and without keys.

use millrace_event::dialect::Dialect;
use millrace_event::event::Rejection;
use millrace_event::excerpt::excerpt;
use millrace_store::SAMPLE_PAYLOAD_BYTES_MAX;

/// The beginning of an event or a body as it was sent, without keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Excerpt(pub(super) Vec<u8>);

/// Excerpts of rejected events of a body. `key_hash` is that of the sender's key.
pub fn of_events(
    dialect: &Dialect,
    body: &[u8],
    rejected: Vec<Rejection>,
    key_hash: &[u8; 32],
) -> Vec<(Rejection, Excerpt)> {
    let indexes: Vec<_> = rejected.iter().map(|rejection| rejection.index).collect();
    let texts = dialect.texts_of(body, &indexes);
    let excerpts = texts.into_iter().map(|text| of_body(text.unwrap_or_default(), key_hash));
    rejected.into_iter().zip(excerpts).collect()
}

/// An excerpt of this text. `key_hash` is that of the sender's key.
pub fn of_body(text: &[u8], key_hash: &[u8; 32]) -> Excerpt {
    Excerpt(excerpt(text, SAMPLE_PAYLOAD_BYTES_MAX, Some(key_hash)))
}

#[cfg(test)]
mod tests {
    use millrace_event::dialect::native;
    use millrace_event::event::RejectionCode;
    use millrace_event::key::hash_key;

    use super::*;

    #[test]
    fn each_event_has_its_own_text_or_none() {
        let rejection =
            |index| Rejection { index, code: RejectionCode::TooDeep, field: None, message: String::new() };
        let rejected = vec![rejection(2), rejection(9)];
        let excerpts = of_events(&native::JSON, b"[1,2,{\"a\":3}]", rejected, &[0; 32]);
        let texts: Vec<_> = excerpts.iter().map(|(rejection, text)| (rejection.index, &text.0[..])).collect();
        assert_eq!(texts, [(2, &b"{\"a\":3}"[..]), (9, b"")]);
    }

    #[test]
    fn a_sample_has_no_key_and_at_most_4_kib() {
        let key = "a-key-that-was-chosen";
        let body = format!(r#"{{"key":"{key}","writeKey":"mk_1","x":"{}"}}"#, "x".repeat(9_000));
        let Excerpt(text) = of_body(body.as_bytes(), &hash_key(key));
        let begins = format!(r#"{{"key":"{}","writeKey":"****","x":"x"#, "*".repeat(key.len()));
        assert!(text.starts_with(begins.as_bytes()), "{}", String::from_utf8_lossy(&text));
        assert_eq!(text.len(), SAMPLE_PAYLOAD_BYTES_MAX);
    }
}
