//! Unpacks the JSON of a body that an SDK has packed: a form with a field of JSON, gzip that no
//! `Content-Encoding` names, and base64. What it is shows in its first bytes. Pure: no I/O.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use crate::encoding::{self, DecodeError, Encoding};
use crate::form::{self, Form, FormError, FormKind};

/// The first bytes of gzip (RFC 1952, section 2.3.1).
const GZIP: [u8; 2] = [0x1f, 0x8b];
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// What the SDKs of a family do to the JSON of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Packing {
    /// The body is JSON, or a form with a field of JSON.
    Plain,
    /// Also gzip without a `Content-Encoding`, and base64.
    Detected,
    /// The body is JSON, or a form whose fields are the members of one event.
    Pairs,
}

/// JSON, and the key of the form that held it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unpacked {
    pub json: Bytes,
    pub key: Option<String>,
    /// See [`Form::api_key`].
    pub api_key: Option<String>,
}

/// Why a body cannot be unpacked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PackingError {
    #[error(transparent)]
    Form(#[from] FormError),
    #[error(transparent)]
    Gzip(#[from] DecodeError),
}

/// Unpacks a body of the declared kind, to at most `bytes_max` bytes. Bytes that are packed in no known way
/// are returned as they are.
///
/// # Errors
/// [`PackingError`].
pub fn unpack(
    packing: Packing,
    kind: Option<&FormKind>,
    body: Bytes,
    bytes_max: usize,
) -> Result<Unpacked, PackingError> {
    let body = without_gzip(packing, body, bytes_max)?;
    if packing == Packing::Pairs {
        let json = match kind {
            Some(FormKind::UrlEncoded) => form::as_object(&body)?.unwrap_or(body),
            _ => body,
        };
        return Ok(Unpacked { json, key: None, api_key: None });
    }
    let form = kind.map(|kind| form::read(kind, &body)).transpose()?.flatten();
    let Form { json, key, api_key } = form.unwrap_or(Form { json: body, key: None, api_key: None });
    let json = match packing {
        Packing::Detected if !is_json(&json) => match from_base64(&json) {
            Some(decoded) => without_gzip(packing, decoded.into(), bytes_max)?,
            None => json,
        },
        _ => json,
    };
    Ok(Unpacked { json, key, api_key })
}

fn without_gzip(packing: Packing, body: Bytes, bytes_max: usize) -> Result<Bytes, DecodeError> {
    if packing == Packing::Detected && body.starts_with(&GZIP) {
        return encoding::decode(Encoding::Gzip, &body, bytes_max);
    }
    Ok(body)
}

fn is_json(body: &[u8]) -> bool {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    matches!(text.first(), None | Some(b'{' | b'['))
}

/// Base64 in either alphabet, with padding or without. A form decodes `+` to a blank.
fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let letter = |byte: &u8| match byte {
        b'-' | b' ' => b'+',
        b'_' => b'/',
        other => *other,
    };
    let text: Vec<u8> = text.trim_ascii().iter().map(letter).collect();
    BASE64.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const JSON: &str = r#"[{"event":"e","x":">>>???~~~","y":"Zürich"}]"#;
    const MAX: usize = 1 << 20;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn unpacked(body: impl Into<Vec<u8>>, kind: Option<&FormKind>) -> Result<String, PackingError> {
        let unpacked = unpack(Packing::Detected, kind, Bytes::from(body.into()), MAX)?;
        Ok(String::from_utf8_lossy(&unpacked.json).into_owned())
    }

    #[test]
    fn json_is_found_in_every_way_in_which_sdks_pack_it() {
        let base64 = base64::engine::general_purpose::STANDARD.encode(JSON);
        let url_safe = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(JSON);
        let encoded = percent_encoding::utf8_percent_encode(&base64, percent_encoding::NON_ALPHANUMERIC);
        let form = Some(&FormKind::UrlEncoded);
        for (body, kind) in [
            (JSON.as_bytes().to_vec(), None),
            (JSON.as_bytes().to_vec(), form),
            (gzip(JSON.as_bytes()), None),
            (gzip(JSON.as_bytes()), form),
            (base64.clone().into_bytes(), None),
            (url_safe.into_bytes(), None),
            (format!("data={encoded}").into_bytes(), form),
            (format!("data={base64}&ip=0").into_bytes(), form),
            (base64::engine::general_purpose::STANDARD.encode(gzip(JSON.as_bytes())).into_bytes(), None),
        ] {
            let shown = String::from_utf8_lossy(&body).into_owned();
            assert_eq!(unpacked(body, kind), Ok(JSON.to_owned()), "{shown}");
        }
    }

    #[test]
    fn what_is_packed_in_no_known_way_is_left_as_it_is_or_refused() {
        assert_eq!(unpacked("not JSON!", None), Ok("not JSON!".to_owned()));
        assert_eq!(unpacked("", None), Ok(String::new()));
        assert_eq!(unpacked(GZIP, None), Err(PackingError::Gzip(DecodeError::Gzip)));
        let bomb = gzip(&vec![b'['; 4 * MAX]);
        assert_eq!(unpacked(bomb, None), Err(PackingError::Gzip(DecodeError::TooLarge { max: MAX })));
        let plain = unpack(Packing::Plain, None, Bytes::from(gzip(b"{}")), MAX).unwrap();
        assert_eq!(plain.json, gzip(b"{}"));
    }
}
