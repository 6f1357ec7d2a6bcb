//! Self-describing JSON (Iglu) in a field of an event, as base64 or as it is:
//! `{"schema":"iglu:VENDOR/NAME/FORMAT/VERSION","data":…}`.
//!
//! A field is a text, or JSON that was decoded with the body. A text is read in memory of its own, and what
//! is unfolded takes at most its bytes.

use std::borrow::Cow;

use base64::Engine;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::dialect::tolerant;
use crate::dialect::validator::{Validator, without_nul};
use crate::event::{Rejection, RejectionCode};
use crate::json::{self, Container, Unstorable, Value};

/// What the trackers send, and what other base64 is.
const BASE64: [GeneralPurpose; 2] = [tolerant_base64(&URL_SAFE), tolerant_base64(&STANDARD)];

const fn tolerant_base64(alphabet: &Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(alphabet, config)
}

/// How a field holds its JSON.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Packing {
    Text,
    Base64,
}

/// A self-describing event: its own schema and data, without the envelope of the protocol.
pub(super) struct SelfDescribingEvent<'a> {
    /// The schema as JSON that can be stored.
    pub schema: Cow<'a, [u8]>,
    /// The name in the schema, or the schema itself if it has none.
    pub name: Cow<'a, str>,
    pub is_snowplows: bool,
    /// JSON that can be stored. `None` if there is none.
    pub data: Option<Cow<'a, [u8]>>,
    pub has_object: bool,
    /// The whole as JSON, if it has more than this.
    pub whole: Option<Cow<'a, [u8]>>,
}

impl<'a> SelfDescribingEvent<'a> {
    /// `None` for JSON that is none.
    fn of(root: Value<'a>) -> Result<Option<Self>, Unstorable> {
        let Value::Object(object) = root else { return Ok(None) };
        let outer = Envelope::of(object);
        let inner = match outer.data {
            Some(Value::Object(data)) => Some(Envelope::of(data)).filter(|inner| inner.schema.is_some()),
            _ => None,
        };
        let has_more = outer.has_more || inner.as_ref().is_some_and(|inner| inner.has_more);
        let Envelope { schema, data, .. } = inner.unwrap_or(outer);
        let Some(schema @ Value::String(uri, _)) = schema else { return Ok(None) };
        let (name, is_snowplows) = name_of(uri).unwrap_or((uri, false));
        let data = data.filter(|data| !matches!(data, Value::Null));
        Ok(Some(Self {
            schema: schema.storable()?,
            name: without_nul(name),
            is_snowplows,
            has_object: matches!(data, Some(Value::Object(_))),
            data: data.map(|data| data.storable()).transpose()?,
            whole: has_more.then(|| root.storable()).transpose()?,
        }))
    }

    fn into_owned<'b>(self) -> SelfDescribingEvent<'b> {
        let owned = |json: Cow<'_, [u8]>| Cow::Owned(json.into_owned());
        SelfDescribingEvent {
            schema: owned(self.schema),
            name: Cow::Owned(self.name.into_owned()),
            is_snowplows: self.is_snowplows,
            data: self.data.map(owned),
            has_object: self.has_object,
            whole: self.whole.map(owned),
        }
    }
}

/// The name in an Iglu URI, and whether a schema of Snowplow itself has it.
fn name_of(schema: &str) -> Option<(&str, bool)> {
    let (vendor, rest) = schema.strip_prefix("iglu:")?.split_once('/')?;
    let name = rest.split('/').next().filter(|name| !name.is_empty())?;
    Some((name, vendor.starts_with("com.snowplowanalytics.")))
}

/// The event in a field.
///
/// # Errors
/// The rejection of a text that is no self-describing JSON, or that cannot be stored.
pub(super) fn event_in<'a>(
    (field, value): (&'static str, Value<'a>),
    packing: Packing,
    validator: Validator,
) -> Result<SelfDescribingEvent<'a>, Rejection> {
    let found = match value {
        Value::String(text, _) => with_json((field, text), packing, validator, |root| {
            SelfDescribingEvent::of(root).map(|event| event.map(SelfDescribingEvent::into_owned))
        })?,
        json => SelfDescribingEvent::of(json),
    };
    found.map_err(|what| validator.unstorable(Some(field), what))?.ok_or_else(|| {
        let message = format!("{field} must be self-describing JSON: an object with schema and data");
        validator.reject_field(field, RejectionCode::InvalidType, message)
    })
}

/// The contexts in a field, as JSON that can be stored: the array of self-describing JSON, or else the whole.
///
/// # Errors
/// The rejection of a text that is no JSON, or that cannot be stored.
pub(super) fn contexts_in<'a>(
    (field, value): (&'static str, Value<'a>),
    packing: Packing,
    validator: Validator,
) -> Result<Cow<'a, [u8]>, Rejection> {
    let found = match value {
        Value::String(text, _) => with_json((field, text), packing, validator, |root| {
            contexts_of(root).map(|contexts| Cow::Owned(contexts.into_owned()))
        })?,
        json => contexts_of(json),
    };
    found.map_err(|what| validator.unstorable(Some(field), what))
}

fn contexts_of(root: Value<'_>) -> Result<Cow<'_, [u8]>, Unstorable> {
    match root {
        Value::Object(object) => match Envelope::of(object) {
            Envelope { data: Some(data @ Value::Array(_)), has_more: false, .. } => data.storable(),
            _ => root.storable(),
        },
        _ => root.storable(),
    }
}

/// The members of self-describing JSON.
struct Envelope<'a> {
    schema: Option<Value<'a>>,
    data: Option<Value<'a>>,
    /// Whether there are others.
    has_more: bool,
}

impl<'a> Envelope<'a> {
    fn of(object: Container<'a>) -> Self {
        let mut envelope = Self { schema: None, data: None, has_more: false };
        for (name, value) in object.members() {
            match name {
                "schema" => envelope.schema = Some(value),
                "data" => envelope.data = Some(value),
                _ => envelope.has_more = true,
            }
        }
        envelope
    }
}

/// Passes the JSON in a text to `read`, after the repairs that are made for SDKs.
fn with_json<R>(
    (field, text): (&'static str, &str),
    packing: Packing,
    validator: Validator,
    read: impl Fn(Value<'_>) -> R,
) -> Result<R, Rejection> {
    let decoded;
    let json = match packing {
        Packing::Text => text.as_bytes(),
        Packing::Base64 => {
            decoded = from_base64(text).ok_or_else(|| {
                let message = format!("{field} must be base64");
                validator.reject_field(field, RejectionCode::InvalidString, message)
            })?;
            decoded.as_slice()
        }
    };
    let json = json::without_byte_order_mark(json);
    let parse = |json: &[u8]| json::parse(json, |parsed| parsed.map(|document| read(document.root())));
    parse(json)
        .or_else(|_| parse(&json::repaired(json)))
        .map_err(|fault| tolerant::rejection(validator, field, &fault))
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    BASE64.iter().find_map(|engine| engine.decode(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALIDATOR: Validator = Validator { index: 0 };

    #[test]
    fn the_name_of_a_schema_is_its_second_part() {
        assert_eq!(
            name_of("iglu:com.acme/order_completed/jsonschema/1-0-0"),
            Some(("order_completed", false))
        );
        assert_eq!(
            name_of("iglu:com.snowplowanalytics.mobile/screen_view/jsonschema/1-0-0"),
            Some(("screen_view", true))
        );
        for other in ["", "iglu:", "iglu:com.acme", "iglu:com.acme/", "iglu:com.acme//1", "order_completed"] {
            assert_eq!(name_of(other), None, "{other}");
        }
    }

    #[test]
    fn json_is_found_in_every_alphabet_of_base64_with_and_without_padding() {
        let json = r#"{"schema":"iglu:a/n/j/1","data":{"x":">>>???~~~ü"}}"#;
        let standard = base64::engine::general_purpose::STANDARD.encode(json);
        let url_safe = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
        assert_ne!(standard.trim_end_matches('='), url_safe);
        for text in [&standard, &url_safe, standard.trim_end_matches('=')] {
            let event = event_in(("ue_px", Value::String(text, b"")), Packing::Base64, VALIDATOR).unwrap();
            assert_eq!((&*event.schema, &*event.name), (&br#""iglu:a/n/j/1""#[..], "n"));
            assert_eq!(*event.data.unwrap(), *r#"{"x":">>>???~~~ü"}"#.as_bytes());
        }
    }

    #[test]
    fn a_text_that_is_no_self_describing_json_is_refused_with_its_reason() {
        for (text, packing, code) in [
            ("%", Packing::Base64, RejectionCode::InvalidString),
            ("e30", Packing::Base64, RejectionCode::InvalidType),
            ("", Packing::Text, RejectionCode::InvalidJson),
            (r#"{"schema":1,"data":{}}"#, Packing::Text, RejectionCode::InvalidType),
            (r#"{"schema":"iglu:a/n/j/1","data":"#, Packing::Text, RejectionCode::InvalidJson),
            (r#"{"schema":"iglu:a/n/j/1","data":{"x":1e999}}"#, Packing::Text, RejectionCode::InvalidNumber),
        ] {
            let refused = event_in(("ue", Value::String(text, b"")), packing, VALIDATOR);
            assert_eq!(refused.err().map(|rejection| rejection.code), Some(code), "{text}");
        }
    }
}
