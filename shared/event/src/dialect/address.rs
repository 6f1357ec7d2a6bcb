//! The client's address: one rule for every dialect of an SDK, and one place in a row.
//!
//! The text of the member in which a family of SDKs sends an address is never stored where it was sent. If
//! the project stores addresses, `context.ip` has it, or else the address that the API gives. Otherwise the
//! row has neither. The context of Millrace's own format is the client's: without the choice of the project
//! it is stored as it was sent.

use std::borrow::Cow;

use super::builder::EventBuilder;
use crate::event::Origin;
use crate::json::{self, Value};

/// The member of the context.
pub(super) const ADDRESS: &str = "ip";
/// Amplitude's SDK for web pages asks for the address of the connection with this text.
const OF_CONNECTION: &str = "$remote";

/// Whether the value of a member for addresses has this place and no other. What is no text stays where it
/// was sent.
pub(super) fn is_address(value: Value<'_>) -> bool {
    matches!(value, Value::String(..) | Value::Null)
}

impl<'a> EventBuilder<'a> {
    /// Sets the address that the event has itself. A value that names none changes nothing.
    pub(super) fn set_address(&mut self, sent: Option<Value<'a>>) {
        if let Some(value @ Value::String(text, _)) = sent
            && !matches!(text, "" | OF_CONNECTION)
        {
            self.address = value.storable().ok();
        }
    }

    /// Puts the address into the context, if the project stores addresses.
    pub(super) fn place_address(&mut self, origin: Origin) {
        if !origin.policy.store_ip {
            return;
        }
        let of_client = || origin.client_address.map(|address| format!("\"{address}\"").into_bytes().into());
        let Some(address) = self.address.take().or_else(of_client) else { return };
        self.context = Some(Cow::Owned(with_address(self.context.as_deref(), &address)));
    }
}

/// The context with an address, unless it has one. Null and an empty text are none.
fn with_address(context: Option<&[u8]>, address: &[u8]) -> Vec<u8> {
    let context = context.unwrap_or(b"{}");
    let mut with = Vec::with_capacity(context.len() + address.len() + ADDRESS.len() + 4);
    match json::root_member(context, ADDRESS, None).map(|own| (own, own.trim_ascii())) {
        Some((own, b"null" | b"\"\"")) => {
            let start = own.as_ptr() as usize - context.as_ptr() as usize;
            with.extend_from_slice(&context[..start]);
            with.extend_from_slice(address);
            with.extend_from_slice(&context[start + own.len()..]);
        }
        Some(_) => with.extend_from_slice(context),
        None => {
            let rest = context[1..].trim_ascii_start();
            with.extend_from_slice(b"{\"ip\":");
            with.extend_from_slice(address);
            if rest != b"}" {
                with.push(b',');
            }
            with.extend_from_slice(rest);
        }
    }
    with
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_gets_an_address_once_and_keeps_its_own() {
        let with = |context: Option<&str>| {
            let with = with_address(context.map(str::as_bytes), br#""192.0.2.1""#);
            String::from_utf8(with).unwrap()
        };
        for (context, expected) in [
            (None, r#"{"ip":"192.0.2.1"}"#),
            (Some("{}"), r#"{"ip":"192.0.2.1"}"#),
            (Some("{ }"), r#"{"ip":"192.0.2.1"}"#),
            (Some(r#"{"a":{"ip":"x"}}"#), r#"{"ip":"192.0.2.1","a":{"ip":"x"}}"#),
            (Some(r#"{"a":1,"ip":null,"b":2}"#), r#"{"a":1,"ip":"192.0.2.1","b":2}"#),
            (Some(r#"{"ip":""}"#), r#"{"ip":"192.0.2.1"}"#),
            (Some(r#"{"ip":"::1"}"#), r#"{"ip":"::1"}"#),
            (Some(r#"{"\u0069p":"::1"}"#), r#"{"\u0069p":"::1"}"#),
            (Some(r#"{"ip":{"v4":1}}"#), r#"{"ip":{"v4":1}}"#),
        ] {
            assert_eq!(with(context), expected, "{context:?}");
        }
    }
}
