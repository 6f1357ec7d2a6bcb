//! Forms: what `navigator.sendBeacon` sends for `URLSearchParams` and `FormData`. A form has one field,
//! `data` or `payload`, that holds the JSON of a Segment body, and may have a field `writeKey`. Pure: no I/O.
//!
//! SDKs send JSON under the types of forms, too: a body that begins like JSON is never read as a form. A form
//! that cannot be read is refused, and never taken for one with fewer fields.

use std::borrow::Cow;

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::CONTENT_TYPE;
use millrace_event::key::KEY_MEMBER;
use percent_encoding::percent_decode;

/// Fields that hold the JSON.
const JSON_FIELDS: [&[u8]; 3] = [b"data", b"payload", b"identification"];
/// A field that may hold the key, unless the JSON has one.
const API_KEY: &[u8] = b"api_key";
/// Most fields of a form.
const FIELDS_MAX: usize = 100;
/// Longest boundary, in bytes (RFC 2046, section 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;
/// Longest head of a part, in bytes.
const PART_HEAD_BYTES_MAX: usize = 4_096;

/// The encoding of a form.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FormKind {
    UrlEncoded,
    /// With the boundary of its parts, if there is a valid one.
    Multipart(Option<String>),
}

/// A form that was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Form {
    pub json: Bytes,
    pub key: Option<String>,
    /// Counts if the JSON has no key: Mixpanel's SDK for Python sends another value in this field.
    pub api_key: Option<String>,
}

/// Why a form is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FormError {
    #[error(
        "the form has no field data or payload; send the JSON of the batch in such a field, or as the body itself"
    )]
    NoJson,
    #[error("the form has several fields data or payload; send one form for each")]
    SeveralJson,
    #[error("the form has several fields writeKey; send it once")]
    SeveralKeys,
    #[error("the form has more than 100 fields; send the JSON of the batch in one field data")]
    TooManyFields,
    #[error("the event has more than 100 fields in the query or the form; send it as JSON")]
    TooManyMembers,
    #[error("the Content-Type of the form has no valid boundary; let the browser set this header")]
    NoBoundary,
    #[error("the form ends early, or one of its parts has no valid head")]
    Broken,
}

impl FormKind {
    /// The kind that the `Content-Type` names. `None` when it names no form.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let mut parts = value.split(';');
        let essence = parts.next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Some(Self::UrlEncoded);
        }
        if !essence.eq_ignore_ascii_case("multipart/form-data") {
            return None;
        }
        let boundary = parts.filter_map(|part| part.trim().split_once('=')).find_map(|(name, value)| {
            name.eq_ignore_ascii_case("boundary").then(|| value.trim_matches('"').to_owned())
        });
        Some(Self::Multipart(boundary.filter(|text| (1..=BOUNDARY_BYTES_MAX).contains(&text.len()))))
    }
}

/// The JSON and the key of a form. `None` when the body is JSON itself.
///
/// # Errors
/// [`FormError`].
pub fn read(kind: &FormKind, body: &[u8]) -> Result<Option<Form>, FormError> {
    if body.trim_ascii_start().is_empty() || is_json(body) {
        return Ok(None);
    }
    let mut fields = Fields::default();
    match kind {
        FormKind::UrlEncoded => read_pairs(body, &mut fields)?,
        FormKind::Multipart(None) => return Err(FormError::NoBoundary),
        FormKind::Multipart(Some(boundary)) => read_parts(body, boundary, &mut fields)?,
    }
    Ok(Some(Form { json: fields.json.ok_or(FormError::NoJson)?, key: fields.key, api_key: fields.api_key }))
}

/// A form of pairs as a JSON object: every field is a member, and its value a string. `None` when the body is
/// JSON itself.
///
/// # Errors
/// [`FormError::TooManyMembers`].
pub fn as_object(body: &[u8]) -> Result<Option<Bytes>, FormError> {
    if is_json(body) {
        return Ok(None);
    }
    let mut object = vec![b'{'];
    for (index, (name, value)) in pairs(body).enumerate() {
        if index == FIELDS_MAX {
            return Err(FormError::TooManyMembers);
        }
        for (text, end) in [(name, b':'), (value, b',')] {
            let text = decoded(text);
            let text = String::from_utf8_lossy(&text);
            serde_json::to_writer(&mut object, &text).expect("a string is JSON, and memory takes it");
            object.push(end);
        }
    }
    if object.len() > 1 {
        object.pop();
    }
    object.push(b'}');
    Ok(Some(object.into()))
}

fn is_json(body: &[u8]) -> bool {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body).trim_ascii_start();
    matches!(text.first(), Some(b'{' | b'['))
}

#[derive(Default)]
struct Fields {
    found: usize,
    json: Option<Bytes>,
    key: Option<String>,
    api_key: Option<String>,
}

impl Fields {
    /// Notes a field. `value` is called only for those that are used.
    fn add<'a>(&mut self, name: &[u8], value: impl FnOnce() -> Cow<'a, [u8]>) -> Result<(), FormError> {
        self.found += 1;
        if self.found > FIELDS_MAX {
            return Err(FormError::TooManyFields);
        }
        if JSON_FIELDS.contains(&name) {
            let json = Bytes::from(value().into_owned());
            return if self.json.replace(json).is_some() { Err(FormError::SeveralJson) } else { Ok(()) };
        }
        if name == API_KEY {
            self.api_key = Some(String::from_utf8_lossy(&value()).into_owned());
            return Ok(());
        }
        if name == KEY_MEMBER.as_bytes() {
            let key = String::from_utf8_lossy(&value()).into_owned();
            return if self.key.replace(key).is_some() { Err(FormError::SeveralKeys) } else { Ok(()) };
        }
        Ok(())
    }
}

/// `name=value&name=value` (URL standard, "application/x-www-form-urlencoded parsing").
fn read_pairs(body: &[u8], fields: &mut Fields) -> Result<(), FormError> {
    for (name, value) in pairs(body) {
        fields.add(&decoded(name), || decoded(value))?;
    }
    Ok(())
}

/// The names and values, still encoded.
fn pairs(body: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()).map(|pair| {
        let end = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        (&pair[..end], pair.get(end + 1..).unwrap_or_default())
    })
}

fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'+' | b'%')) {
        return Cow::Borrowed(text);
    }
    let spaced: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    Cow::Owned(percent_decode(&spaced).collect())
}

/// Parts between lines of the boundary (RFC 7578).
fn read_parts(body: &[u8], boundary: &str, fields: &mut Fields) -> Result<(), FormError> {
    let first = format!("--{boundary}");
    let separator = format!("\r\n--{boundary}");
    let mut rest = &body[find(body, first.as_bytes()).ok_or(FormError::Broken)? + first.len()..];
    loop {
        if rest.starts_with(b"--") {
            return Ok(());
        }
        let part = rest.strip_prefix(b"\r\n").ok_or(FormError::Broken)?;
        let head_end =
            find(&part[..part.len().min(PART_HEAD_BYTES_MAX)], b"\r\n\r\n").ok_or(FormError::Broken)?;
        let content = &part[head_end + 4..];
        let end = find(content, separator.as_bytes()).ok_or(FormError::Broken)?;
        let name = part_name(&part[..head_end]).ok_or(FormError::Broken)?;
        fields.add(name, || Cow::Borrowed(&content[..end]))?;
        rest = &content[end + separator.len()..];
    }
}

/// The name of a part, in its `Content-Disposition: form-data; name="…"`. Browsers always quote it.
fn part_name(head: &[u8]) -> Option<&[u8]> {
    let lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let is_disposition =
        |line: &&[u8]| line.get(..20).is_some_and(|name| name.eq_ignore_ascii_case(b"content-disposition:"));
    let line = lines.filter(|line| line.len() >= 20).find(is_disposition)?;
    let value = &line[find(line, b" name=\"")? + 7..];
    Some(&value[..value.iter().position(|byte| *byte == b'"')?])
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    let first = *part.first()?;
    let mut from = 0;
    while let Some(at) = text.get(from..)?.iter().position(|byte| *byte == first) {
        if text[from + at..].starts_with(part) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn kind(value: &str) -> Option<FormKind> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(value).unwrap());
        FormKind::of(&headers)
    }

    fn pairs(body: &str) -> Result<Option<(String, Option<String>)>, FormError> {
        shown(read(&FormKind::UrlEncoded, body.as_bytes()))
    }

    fn parts(body: &str) -> Result<Option<(String, Option<String>)>, FormError> {
        shown(read(&FormKind::Multipart(Some("B".to_owned())), body.as_bytes()))
    }

    fn shown(read: Result<Option<Form>, FormError>) -> Result<Option<(String, Option<String>)>, FormError> {
        Ok(read?.map(|form| (String::from_utf8_lossy(&form.json).into_owned(), form.key)))
    }

    #[test]
    fn the_content_type_names_the_kind_of_form() {
        assert_eq!(kind("Application/X-WWW-Form-Urlencoded;charset=UTF-8"), Some(FormKind::UrlEncoded));
        let boundary = Some(FormKind::Multipart(Some("----WebKitFormBoundary1".to_owned())));
        assert_eq!(kind("multipart/form-data; boundary=----WebKitFormBoundary1"), boundary);
        assert_eq!(kind("multipart/form-data; charset=x; Boundary=\"----WebKitFormBoundary1\""), boundary);
        assert_eq!(kind("multipart/form-data"), Some(FormKind::Multipart(None)));
        let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
        assert_eq!(kind(&long), Some(FormKind::Multipart(None)));
        for other in ["application/json", "text/plain;charset=UTF-8", "multipart/mixed; boundary=B"] {
            assert_eq!(kind(other), None, "{other}");
        }
    }

    #[test]
    fn the_json_of_a_form_is_in_its_field_data_or_payload() {
        let found = |json: &str, key: Option<&str>| Ok(Some((json.to_owned(), key.map(str::to_owned))));
        assert_eq!(pairs("data=%7B%22a+b%22%3A1%7D&x=1"), found(r#"{"a b":1}"#, None));
        assert_eq!(pairs("writeKey=mk%5F1&payload={}"), found("{}", Some("mk_1")));
        let part = |name: &str, text: &str| {
            format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
        };
        let body = format!("{}{}--B--\r\n", part("data", "{\r\n--Bx}"), part("writeKey", "mk_1"));
        assert_eq!(parts(&body), Err(FormError::Broken), "a boundary in the text ends the part");
        let body = format!("{}{}--B--\r\n", part("data", "{\"a\":\"ä&+%41\"}"), part("writeKey", "mk_1"));
        assert_eq!(parts(&body), found("{\"a\":\"ä&+%41\"}", Some("mk_1")));
        let blob = "--B\r\ncontent-disposition: form-data; name=\"payload\"; filename=\"blob\"\r\n\
                    Content-Type: application/json\r\n\r\n{}\r\n--B--";
        assert_eq!(parts(blob), found("{}", None));
    }

    #[test]
    fn json_under_the_type_of_a_form_is_not_a_form() {
        for body in [r#"{"batch":[]}"#, " \n[1]", "\u{feff}{}", ""] {
            assert_eq!((pairs(body), parts(body)), (Ok(None), Ok(None)), "{body:?}");
        }
    }

    #[test]
    fn a_form_that_cannot_be_read_as_a_whole_is_refused() {
        assert_eq!(pairs("event=x&userId=u"), Err(FormError::NoJson));
        assert_eq!(pairs("data=1&payload=2"), Err(FormError::SeveralJson));
        assert_eq!(pairs("data=1&writeKey=a&writeKey=a"), Err(FormError::SeveralKeys));
        assert_eq!(pairs(&"a=1&".repeat(FIELDS_MAX + 1)), Err(FormError::TooManyFields));
        assert_eq!(read(&FormKind::Multipart(None), b"--B"), Err(FormError::NoBoundary));
        let head = "--B\r\nContent-Disposition: form-data; name=\"data\"\r\n\r\n";
        for broken in [
            "no boundary".to_owned(),
            "--B".to_owned(),
            "--B\r\nContent-Type: x\r\n\r\n{}\r\n--B--".to_owned(),
            "--B\r\nContent-Disposition: form-data; name=data\r\n\r\n{}\r\n--B--".to_owned(),
            format!("{head}{{}}"),
            format!("{head}{{}}\r\n--B"),
            format!("--B\r\nX: {}\r\n\r\n{{}}\r\n--B--", "y".repeat(PART_HEAD_BYTES_MAX)),
        ] {
            assert_eq!(parts(&broken), Err(FormError::Broken), "{broken:?}");
        }
    }
}
