//! Snowplow's tracker protocol: `{"schema":…, "data":[{"e":…}, …]}`, or one event. Every value is a text.
//!
//! - id: `eid`
//! - name: of a self-describing event the name in its schema; the action `se_ac` of a structured event, or
//!   else its category; `$page` of a page view, `$screen` of Snowplow's event `screen_view`, `page_ping`,
//!   `transaction` and `transaction_item`
//! - timestamp: `ttm`, or else `dtm`, milliseconds since 1970, as sent
//! - subject: `uid`, or else `duid`, `tnuid` or `nuid`
//! - properties: the data of a self-describing event, unfolded from `ue_pr` or `ue_px`; of the other kinds
//!   their own fields, see [`Kind::fields`]
//! - context.library: `tv`, as `NAME-VERSION`
//! - context.ip: `ip`, if the project stores addresses
//! - context.snowplow.schema: the schema of a self-describing event
//! - context.snowplow.contexts: the contexts, unfolded from `co` or `cx`
//! - context.snowplow: everything else, such as `aid`, `p` and `sid`
//!
//! Not stored: `stm`, the time of sending.
//!
//! Event data that cannot be unfolded makes the event a dead letter, because nothing else tells what it is.
//! Contexts that cannot be read are kept as they were sent.
//!
//! Sources: Snowplow tracker protocol; the trackers `snowplow-tracker` for Python, `@snowplow/node-tracker`
//! and `@snowplow/browser-tracker`.

mod iglu;

use std::borrow::Cow;

use self::iglu::Packing;
use super::address::is_address;
use super::builder::EventBuilder;
use super::call::{Call, Field, is_empty, push_member, read_time, scalar_text, shortened_name};
use super::definition::{Dialect, DocumentForms, Framing, InvalidEvents, KeyPlaces, RawEvent};
use super::validator::Validator;
use crate::event::{Origin, Rejection, RejectionCode};
use crate::json::{Container, Value, check_grammar};
use crate::key::{CHOSEN_KEY_BYTES, KEY_MEMBER, hash_key, same_hash};

const FAMILY: &str = "snowplow";
/// The id of the application, in which a tracker can send the key.
const APP_ID: &str = "aid";

/// `/com.snowplowanalytics.snowplow/tp2` and `/i`
pub static EVENTS: Dialect = Dialect {
    name: "snowplow",
    framing: Framing::Base64Members(
        DocumentForms { envelope: Some("data"), array: false, single: true },
        &["ue_px", "cx"],
    ),
    expected: r#"{"schema": ..., "data": [...]}, or one event, an object"#,
    read_event,
    invalid: InvalidEvents::DeadLettered,
    keys: KeyPlaces { root: &[], first_event: &[&[APP_ID]] },
};

/// A kind of event that the protocol defines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    PageView,
    PagePing,
    Structured,
    Transaction,
    TransactionItem,
    SelfDescribing,
    /// A kind that is not known here. Its fields stay under their own names.
    Other,
}

/// A field, the property that it becomes, and whether that is a number.
type PropertyField = (&'static str, &'static str, bool);

impl Kind {
    fn of(value: Option<Value<'_>>) -> Self {
        match value {
            Some(Value::String("pv", _)) => Self::PageView,
            Some(Value::String("pp", _)) => Self::PagePing,
            Some(Value::String("se", _)) => Self::Structured,
            Some(Value::String("tr", _)) => Self::Transaction,
            Some(Value::String("ti", _)) => Self::TransactionItem,
            Some(Value::String("ue", _)) => Self::SelfDescribing,
            _ => Self::Other,
        }
    }

    /// The fields that become properties.
    fn fields(self) -> &'static [PropertyField] {
        match self {
            Self::PageView => &[("page", "name", false), ("url", "url", false), ("refr", "referrer", false)],
            Self::PagePing => &[
                ("page", "name", false),
                ("url", "url", false),
                ("refr", "referrer", false),
                ("pp_mix", "x_min", true),
                ("pp_max", "x_max", true),
                ("pp_miy", "y_min", true),
                ("pp_may", "y_max", true),
            ],
            Self::Structured => &[
                ("se_ca", "category", false),
                ("se_ac", "action", false),
                ("se_la", "label", false),
                ("se_pr", "property", false),
                ("se_va", "value", true),
            ],
            Self::Transaction => &[
                ("tr_id", "order_id", false),
                ("tr_af", "affiliation", false),
                ("tr_tt", "total", true),
                ("tr_tx", "tax", true),
                ("tr_sh", "shipping", true),
                ("tr_ci", "city", false),
                ("tr_st", "state", false),
                ("tr_co", "country", false),
                ("tr_cu", "currency", false),
            ],
            Self::TransactionItem => &[
                ("ti_id", "order_id", false),
                ("ti_sk", "sku", false),
                ("ti_nm", "name", false),
                ("ti_ca", "category", false),
                ("ti_pr", "price", true),
                ("ti_qu", "quantity", true),
                ("ti_cu", "currency", false),
            ],
            Self::SelfDescribing | Self::Other => &[],
        }
    }
}

/// The fields that have a place of their own. Every other member is kept under its name.
#[derive(Default)]
struct Fields<'a> {
    kind: Option<Value<'a>>,
    id: Option<Value<'a>>,
    device_time: Option<Value<'a>>,
    true_time: Option<Value<'a>>,
    user: Option<Value<'a>>,
    domain_user: Option<Value<'a>>,
    network_user: [Option<Value<'a>>; 2],
    tracker: Option<Value<'a>>,
    address: Option<Value<'a>>,
    category: Option<Value<'a>>,
    action: Option<Value<'a>>,
    event: [Option<Value<'a>>; 2],
    contexts: [Option<Value<'a>>; 2],
}

impl<'a> Fields<'a> {
    fn of(event: Container<'a>) -> Self {
        let mut fields = Self::default();
        for (name, value) in event.members() {
            let slot = match name {
                "e" => &mut fields.kind,
                "eid" => &mut fields.id,
                "dtm" => &mut fields.device_time,
                "ttm" => &mut fields.true_time,
                "uid" => &mut fields.user,
                "duid" => &mut fields.domain_user,
                "tnuid" => &mut fields.network_user[0],
                "nuid" => &mut fields.network_user[1],
                "tv" => &mut fields.tracker,
                "ip" => &mut fields.address,
                "se_ca" => &mut fields.category,
                "se_ac" => &mut fields.action,
                "ue_px" => &mut fields.event[0],
                "ue_pr" => &mut fields.event[1],
                "cx" => &mut fields.contexts[0],
                "co" => &mut fields.contexts[1],
                _ => continue,
            };
            *slot = Some(value);
        }
        fields
    }

    /// The field that holds the time of the event. A true time that cannot be read is no time.
    fn time(&self) -> Field<'a> {
        match self.true_time.filter(|time| read_time(*time).is_some()) {
            Some(time) => ("ttm", Some(time)),
            None => ("dtm", self.device_time),
        }
    }
}

/// The first of two fields that says something: the one in base64, or the plain one.
fn packed<'a>(
    names: [&'static str; 2],
    values: [Option<Value<'a>>; 2],
) -> Option<((&'static str, Value<'a>), Packing)> {
    let found = names.into_iter().zip(values).zip([Packing::Base64, Packing::Text]);
    found
        .filter_map(|((name, value), packing)| Some(((name, value?), packing)))
        .find(|((_, value), _)| !is_empty(*value))
}

fn read_event<'a>(event: &RawEvent<'a>) -> Result<EventBuilder<'a>, Rejection> {
    let validator = Validator { index: event.index };
    let fields = Fields::of(event.object);
    let kind = Kind::of(fields.kind);
    let time = fields.time();
    let (mut call, unfolded) = match kind {
        Kind::PageView => (Call::of_kind(FAMILY, event, Cow::Borrowed("$page")), None),
        Kind::PagePing => (Call::of_kind(FAMILY, event, Cow::Borrowed("page_ping")), None),
        Kind::Transaction => (Call::of_kind(FAMILY, event, Cow::Borrowed("transaction")), None),
        Kind::TransactionItem => (Call::of_kind(FAMILY, event, Cow::Borrowed("transaction_item")), None),
        Kind::Structured => {
            // The whole name is a property, so that it needs no other place when it is shortened.
            let name = scalar_text(fields.action).or_else(|| scalar_text(fields.category));
            let call = match name {
                Some(name) => {
                    let short = shortened_name(&name).map_or(name, Cow::Owned);
                    Call::of_kind(FAMILY, event, short)
                }
                None => Call::named(FAMILY, event, ("se_ac", fields.action))?,
            };
            (call, None)
        }
        Kind::SelfDescribing => {
            let (call, field) = self_describing(event, &fields, validator)?;
            (call, Some(field))
        }
        Kind::Other => (Call::named(FAMILY, event, ("e", fields.kind))?, None),
    };
    call.identify(("eid", fields.id), time)?;
    call.subject(&[
        ("uid", fields.user),
        ("duid", fields.domain_user),
        ("tnuid", fields.network_user[0]),
        ("nuid", fields.network_user[1]),
    ])?;
    call.library_text(("tv", fields.tracker), |text| text.split_once('-'))?;
    call.address(fields.address);
    properties(&mut call, kind, event.object, validator)?;
    let contexts = contexts(&mut call, &fields, validator)?;
    for (member, value) in event.shared.iter().copied().chain(event.object.members()) {
        let has_place = match member {
            "eid" | "uid" | "duid" | "tnuid" | "nuid" | "tv" => true,
            // What a tracker notes for the transport, and keys.
            "stm" | KEY_MEMBER => true,
            "ip" => is_address(value),
            "schema" | "data" => event.shared.iter().any(|(name, _)| *name == member),
            "dtm" | "ttm" => member == time.0,
            APP_ID => is_key(value, event.origin),
            member => {
                Some(member) == unfolded
                    || Some(member) == contexts
                    || kind.fields().iter().any(|(field, ..)| *field == member)
            }
        };
        if !has_place && !is_empty(value) {
            call.keep(member, value)?;
        }
    }
    Ok(call.finish())
}

/// Whether this is the key with which the event was sent.
fn is_key(value: Value<'_>, origin: Origin) -> bool {
    let Value::String(text, _) = value else { return false };
    CHOSEN_KEY_BYTES.contains(&text.len())
        && origin.key_hash.is_some_and(|hash| same_hash(&hash_key(text), &hash))
}

/// A self-describing event with its name, its properties and its schema, and the field that it was in.
fn self_describing<'a>(
    event: &RawEvent<'a>,
    fields: &Fields<'a>,
    validator: Validator,
) -> Result<(Call<'a>, &'static str), Rejection> {
    let Some((field, packing)) = packed(["ue_px", "ue_pr"], fields.event) else {
        return Err(missing("ue_px", validator));
    };
    let found = iglu::event_in(field, packing, validator)?;
    let name = match found.name {
        name if name == "screen_view" && found.is_snowplows => Cow::Borrowed("$screen"),
        name if name.is_empty() => return Err(missing("schema", validator)),
        name => shortened_name(&name).map_or(name, Cow::Owned),
    };
    let mut call = Call::of_kind(FAMILY, event, name);
    call.keep_json("schema", &found.schema);
    match found.data {
        Some(data) if found.has_object => call.stored_properties(data),
        Some(data) => call.keep_json("data", &data),
        None => {}
    }
    if let Some(whole) = found.whole {
        call.keep_json("event", &whole);
    }
    Ok((call, field.0))
}

fn missing(field: &'static str, validator: Validator) -> Rejection {
    validator.reject_field(field, RejectionCode::MissingField, format!("{field} is required"))
}

/// Sets the properties of a kind whose fields are its properties.
fn properties<'a>(
    call: &mut Call<'a>,
    kind: Kind,
    event: Container<'a>,
    validator: Validator,
) -> Result<(), Rejection> {
    let fields = kind.fields();
    if fields.is_empty() {
        return Ok(());
    }
    let mut found: [Option<Value<'a>>; 9] = [None; 9];
    for (member, value) in event.members() {
        if let Some(index) = fields.iter().position(|(field, ..)| *field == member) {
            found[index] = Some(value);
        }
    }
    let mut object = Vec::new();
    for ((field, property, is_number), value) in fields.iter().zip(found) {
        let Some(value) = value.filter(|value| !is_empty(*value)) else { continue };
        let value = if *is_number { number_of(value) } else { value };
        let json = value.storable().map_err(|what| validator.unstorable(Some(field), what))?;
        push_member(&mut object, property, &json);
    }
    if !object.is_empty() {
        object.push(b'}');
        call.stored_properties(Cow::Owned(object));
    }
    Ok(())
}

/// The number in a text, with all of its digits. A text that is none remains.
fn number_of(value: Value<'_>) -> Value<'_> {
    let Value::String(text, _) = value else { return value };
    let number = Value::Number(text.as_bytes());
    let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        && check_grammar(text.as_bytes()).is_ok()
        && !text.ends_with(|last: char| last.is_ascii_whitespace())
        && number.storable().is_ok();
    if is_number { number } else { value }
}

/// Keeps the contexts. Returns the field that they were in, unless they cannot be read.
fn contexts<'a>(
    call: &mut Call<'a>,
    fields: &Fields<'a>,
    validator: Validator,
) -> Result<Option<&'static str>, Rejection> {
    let Some((field, packing)) = packed(["cx", "co"], fields.contexts) else { return Ok(None) };
    let Ok(contexts) = iglu::contexts_in(field, packing, validator) else { return Ok(None) };
    call.keep_json("contexts", &contexts);
    Ok(Some(field.0))
}
