//! One call of an SDK, and the places where every dialect of an SDK puts the same things:
//!
//! | place | what is there |
//! |---|---|
//! | `name` | the name of the event; `$page`, `$screen`, `$identify`, `$group`, `$alias` for such calls |
//! | `subject` | the id of the user, or else of the device or visitor |
//! | `timestamp` | the time of the event by the client's clock, as sent |
//! | `properties` | the properties of the event; the traits of `$identify` and `$group` |
//! | `properties.name` | the name of the page or the screen, unless the properties have a `name` themselves |
//! | `context.ip` | the client's address, if the project stores addresses |
//! | `context.library` | `{"name": …, "version": …}` of the SDK |
//! | `context.FAMILY` | everything that has no other place, under the name of the SDK's family |
//!
//! Not stored: keys, and what an SDK notes for its own transport, such as the time of sending.
//!
//! SDKs drop a whole batch on a 4xx. So a value that does not fit its column is shortened there and kept
//! whole under `context.FAMILY`, and only a call that no event can be made of is an error.

mod identity;
mod object;
mod time;

use std::borrow::Cow;

use uuid::Uuid;

pub(super) use self::identity::{scalar_text, shortened_id, shortened_name};
pub(super) use self::object::{ObjectWriter, close_with, push_member, push_string};
pub(super) use self::time::read_time;
use super::bounds::Bounds;
use super::builder::EventBuilder;
use super::definition::RawEvent;
use super::validator::{Validator, without_nul};
use crate::event::{ID_BYTES_MAX, Origin, Rejection, RejectionCode, SUBJECT_BYTES_MAX};
use crate::json::{Container, Value};

/// The member of the context for the SDK's name and version.
pub(super) const LIBRARY: &str = "library";
/// The member of the properties for the name of a page or screen.
pub(super) const NAME: &str = "name";

/// Room for the name and version of most SDKs.
const LIBRARY_BYTES: usize = 64;
/// Room for the brackets and the names of the context's members.
const MEMBERS_BYTES: usize = 40;

/// A field of a call: its name, for errors and for the context, and its value.
pub(super) type Field<'a> = (&'static str, Option<Value<'a>>);

/// Sorts the fields of one call into their places.
pub(super) struct Call<'a> {
    family: &'static str,
    origin: Origin,
    validator: Validator,
    builder: EventBuilder<'a>,
    has_id: bool,
    /// What the properties get if they have no member of this name.
    added: Vec<(&'static str, Cow<'a, [u8]>)>,
    library: Option<Vec<u8>>,
    rest: ObjectWriter<'a>,
}

impl<'a> Call<'a> {
    /// A call with the name in this field.
    ///
    /// # Errors
    /// The rejection of a missing or empty name.
    pub(super) fn named(
        family: &'static str,
        event: &RawEvent<'a>,
        (field, value): Field<'a>,
    ) -> Result<Self, Rejection> {
        let validator = Validator { index: event.index };
        let Some(name) = scalar_text(value) else { return Err(missing_name(validator, field, value)) };
        let short = shortened_name(&name);
        let mut call = Self::of_kind(family, event, short.map_or(name, Cow::Owned));
        if let Some(value) = value.filter(|_| matches!(call.builder.name, Cow::Owned(_))) {
            call.keep(field, value)?;
        }
        Ok(call)
    }

    /// A call with a name that the dialect gives to its kind.
    pub(super) fn of_kind(family: &'static str, event: &RawEvent<'a>, name: Cow<'a, str>) -> Self {
        Self {
            family,
            origin: event.origin,
            validator: Validator { index: event.index },
            builder: EventBuilder::new(name),
            has_id: false,
            added: Vec::new(),
            library: None,
            rest: ObjectWriter::default(),
        }
    }

    /// The subject is the first of these fields that is an id. A field that the column has not all of is
    /// kept.
    pub(super) fn subject(&mut self, fields: &[Field<'a>]) -> Result<(), Rejection> {
        for (field, value) in fields {
            let text = scalar_text(*value);
            let has_column = self.builder.subject.is_none()
                && text.as_ref().is_some_and(|id| id.len() <= SUBJECT_BYTES_MAX);
            if let Some(id) = text.filter(|_| self.builder.subject.is_none()) {
                self.builder.subject = Some(shortened_id(id, SUBJECT_BYTES_MAX));
            }
            let is_same = matches!((value, &self.builder.subject), (Some(Value::String(id, _)), Some(subject)) if id == subject);
            if let Some(value) = value.filter(|value| !has_column && !is_same && !is_empty(*value)) {
                self.keep(field, value)?;
            }
        }
        Ok(())
    }

    /// Sets the identity: an id and a time. One that the columns have not all of is kept.
    ///
    /// # Errors
    /// The rejection of a time outside of the project's bounds, if the project wants it.
    pub(super) fn identify(
        &mut self,
        (id_field, id_value): Field<'a>,
        (time_field, time_value): Field<'a>,
    ) -> Result<(), Rejection> {
        let id = scalar_text(id_value);
        self.has_id = id.is_some();
        let is_lost = match &id {
            Some(id) => id.len() > ID_BYTES_MAX,
            None => id_value.is_some_and(|value| !is_empty(value)),
        };
        if let Some(value) = id_value.filter(|_| is_lost) {
            self.keep(id_field, value)?;
        }
        let time = time_value.and_then(read_time);
        self.builder.identify(self.origin, self.validator.index, id, time);
        self.builder.client_id = self.builder.client_id.take().map(|id| shortened_id(id, ID_BYTES_MAX));
        let bounds = self.builder.keep_in_bounds(self.origin, self.validator.index);
        if let Bounds::Refused { message } = bounds {
            return Err(self.validator.reject_field(time_field, RejectionCode::InvalidTimestamp, message));
        }
        let is_used = bounds == Bounds::Inside && time.is_some();
        if let Some(value) = time_value.filter(|value| !is_used && !is_empty(*value)) {
            self.keep(time_field, value)?;
        }
        Ok(())
    }

    /// The id, if there is one, identifies the event alone, at any time. Call it after [`Call::identify`].
    pub(super) fn identify_by_id_alone(&mut self) {
        if self.has_id {
            self.builder.identify_by_id_alone();
        }
    }

    /// Replaces the identity that was made of the id. The id as it was sent stays in its column.
    pub(super) fn identify_by(&mut self, event_id: Uuid, id: Option<Value<'a>>) {
        self.builder.event_id = event_id;
        self.builder.client_id = scalar_text(id).map(|id| shortened_id(id, ID_BYTES_MAX));
    }

    /// Sets the properties, without the members that have another place. `[]` is how PHP writes an empty
    /// object.
    ///
    /// # Errors
    /// The rejection of a value that is not an object, or cannot be stored.
    pub(super) fn properties(
        &mut self,
        (field, value): Field<'a>,
        has_place: impl Fn(&str, Value<'a>) -> bool,
    ) -> Result<(), Rejection> {
        self.builder.properties = match value {
            Some(Value::Object(object)) => {
                let without = object.storable_without(has_place);
                Some(without.map_err(|what| self.validator.unstorable(Some(field), what))?)
            }
            Some(Value::Array(array)) if array.is_empty() => Some(Cow::Borrowed(b"{}")),
            other => self.validator.object(field, other)?,
        };
        Ok(())
    }

    /// Sets the properties to an object that can be stored.
    pub(super) fn stored_properties(&mut self, object: Cow<'a, [u8]>) {
        self.builder.properties = Some(object);
    }

    /// Adds a member to the properties. Call it only for names that they do not have.
    pub(super) fn add_property(&mut self, name: &'static str, value: Value<'a>) -> Result<(), Rejection> {
        let json = self.storable(name, value)?;
        self.added.push((name, json));
        Ok(())
    }

    /// The name and version of the SDK. What is no text is kept under these names of fields.
    pub(super) fn library(
        &mut self,
        (name_field, name): Field<'a>,
        (version_field, version): Field<'a>,
    ) -> Result<(), Rejection> {
        let mut library = Vec::with_capacity(LIBRARY_BYTES);
        for (field, member, value) in [(name_field, NAME, name), (version_field, "version", version)] {
            match value {
                Some(value @ Value::String(..)) => {
                    push_member(&mut library, member, &self.storable(field, value)?);
                }
                Some(value) if !is_empty(value) => self.keep(field, value)?,
                _ => {}
            }
        }
        if !library.is_empty() {
            library.push(b'}');
            self.library = Some(library);
        }
        Ok(())
    }

    /// The same, for an SDK that sends both as one text, which `split` parts: `NAME/VERSION`.
    pub(super) fn library_text(
        &mut self,
        (field, value): Field<'a>,
        split: fn(&str) -> Option<(&str, &str)>,
    ) -> Result<(), Rejection> {
        let Some(Value::String(text, _)) = value else {
            return value.filter(|value| !is_empty(*value)).map_or(Ok(()), |value| self.keep(field, value));
        };
        let text = without_nul(text);
        let (name, version) = split(&text).unwrap_or((&text, ""));
        let mut library = Vec::with_capacity(LIBRARY_BYTES);
        for (member, part) in [(NAME, name), ("version", version)] {
            if !part.is_empty() {
                let json = serde_json::to_vec(part).expect("a string is JSON");
                push_member(&mut library, member, &json);
            }
        }
        if !library.is_empty() {
            library.push(b'}');
            self.library = Some(library);
        }
        Ok(())
    }

    /// The client's address, as the SDK sends it.
    pub(super) fn address(&mut self, sent: Option<Value<'a>>) {
        self.builder.set_address(sent);
    }

    /// Keeps a field that has no other place.
    ///
    /// # Errors
    /// The rejection of a value that cannot be stored.
    pub(super) fn keep(&mut self, name: &'a str, value: Value<'a>) -> Result<(), Rejection> {
        let json = self.storable(name, value)?;
        self.rest.add(without_nul(name), &json);
        Ok(())
    }

    /// As [`Call::keep`], for JSON that can be stored.
    pub(super) fn keep_json(&mut self, name: &'static str, json: &[u8]) {
        self.rest.add(name, json);
    }

    /// As [`Call::keep`], for an object, without the members that have another place.
    pub(super) fn keep_without(
        &mut self,
        name: &'a str,
        object: Container<'a>,
        has_place: impl Fn(&str, Value<'a>) -> bool,
    ) -> Result<(), Rejection> {
        let without = object.storable_without(has_place);
        let json = without.map_err(|what| self.validator.unstorable(Some(name), what))?;
        if *json != *b"{}" {
            self.rest.add(name, &json);
        }
        Ok(())
    }

    fn storable(&self, name: &str, value: Value<'a>) -> Result<Cow<'a, [u8]>, Rejection> {
        value.storable().map_err(|what| self.validator.unstorable(Some(name), what))
    }

    /// The event.
    pub(super) fn finish(self) -> EventBuilder<'a> {
        let mut builder = self.builder;
        if !self.added.is_empty() {
            let mut properties = Vec::new();
            for (name, json) in &self.added {
                push_member(&mut properties, name, json);
            }
            let own =
                builder.properties.as_deref().map_or(&b""[..], |own| own[1..own.len() - 1].trim_ascii());
            if !own.is_empty() {
                properties.push(b',');
                properties.extend_from_slice(own);
            }
            properties.push(b'}');
            builder.properties = Some(Cow::Owned(properties));
        }
        let rest = self.rest.finish();
        let parts = [&self.library, &rest].map(|part| part.as_ref().map_or(0, Vec::len));
        let mut context = Vec::with_capacity(parts.iter().sum::<usize>() + MEMBERS_BYTES);
        if let Some(library) = &self.library {
            push_member(&mut context, LIBRARY, library);
        }
        if let Some(rest) = rest {
            push_member(&mut context, self.family, &rest);
        }
        if !context.is_empty() {
            context.push(b'}');
            builder.context = Some(Cow::Owned(context));
        }
        builder
    }
}

/// Whether a value says nothing: null, or an empty text.
pub(super) fn is_empty(value: Value<'_>) -> bool {
    matches!(value, Value::Null | Value::String("", _))
}

fn missing_name(validator: Validator, field: &str, value: Option<Value<'_>>) -> Rejection {
    match validator.name(field, value) {
        Err(rejection) => rejection,
        Ok(_) => {
            validator.reject_field(field, RejectionCode::InvalidLength, format!("{field} must not be empty"))
        }
    }
}
