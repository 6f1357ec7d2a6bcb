//! A resource and a scope: what all their records share, read and written once.

use std::borrow::Cow;

use uuid::Uuid;

use super::any_value::{Attribute, ColumnText, Fault, Room};
use crate::dialect::call::{NAME, ObjectWriter, push_member, push_string};
use crate::event::derived_uuid;

const SDK_NAME: &str = "telemetry.sdk.name";
const SDK_VERSION: &str = "telemetry.sdk.version";

/// The attributes that name a user, or else a device, in the order in which they count.
const SUBJECTS: [&str; 5] =
    ["user.id", "enduser.id", "enduser.pseudo.id", "app.installation.id", "device.id"];

/// A resource or a scope.
pub(super) struct Level {
    /// Members of `context.otel`, without brackets around them.
    pub context: Vec<u8>,
    /// `{"name":…, "version":…}`
    pub library: Option<Vec<u8>>,
    pub subject: Option<String>,
}

/// The resource and the scope of a record.
pub(super) struct Levels<'l> {
    pub resource: &'l Level,
    pub scope: &'l Level,
    /// Stands for the content of both in the identity of a record.
    pub identity: Uuid,
}

impl<'l> Levels<'l> {
    pub(super) fn new(resource: &'l Level, scope: &'l Level) -> Self {
        let library = resource.library.as_deref().unwrap_or_default();
        let identity = derived_uuid(&[b"log scope", &resource.context, library, &scope.context]);
        Self { resource, scope, identity }
    }
}

/// The parts of a message `ResourceLogs` or `ScopeLogs`, but the list in it.
#[derive(Default)]
pub(super) struct LevelParts<'a> {
    /// The name and the version of a scope, as JSON.
    pub name: Option<Cow<'a, [u8]>>,
    pub version: Option<Cow<'a, [u8]>>,
    pub attributes: Vec<Attribute<'a>>,
    /// Other members of the resource or the scope.
    pub rest: ObjectWriter<'a>,
    /// Other members next to it, such as `schemaUrl`.
    pub outer_rest: ObjectWriter<'a>,
}

impl<'a> LevelParts<'a> {
    /// `resource` has the attributes, and `resourceLogs` what else was sent.
    pub(super) fn resource(mut self, room: &mut Room) -> Result<Level, Fault> {
        let text = |key: &str| {
            let found = self.attributes.iter().rfind(|attribute| attribute.key == key)?;
            found.value.column_text().filter(|text| text.is_whole)
        };
        let mut library = Vec::new();
        for (member, text) in [(NAME, text(SDK_NAME)), ("version", text(SDK_VERSION))] {
            if let Some(ColumnText { text, .. }) = text {
                push_member(&mut library, member, b"");
                push_string(&mut library, &text);
            }
        }
        let is_noted = |attribute: &Attribute<'_>| {
            matches!(&*attribute.key, SDK_NAME | SDK_VERSION)
                && attribute.value.column_text().is_some_and(|text| text.is_whole)
        };
        let ranked = self
            .attributes
            .iter()
            .filter_map(|attribute| Some((subject_rank(&attribute.key)?, attribute.value.column_text()?)));
        let subject = ranked.min_by_key(|(rank, _)| *rank).map(|(_, subject)| subject.text.into_owned());
        self.attributes.retain(|attribute| !is_noted(attribute));
        let mut context = Vec::new();
        add(&mut context, "resource", written(self.attributes, room)?);
        let mut outer = self.outer_rest;
        add_to(&mut outer, "resource", self.rest.finish());
        add(&mut context, "resourceLogs", outer.finish());
        Ok(Level { context, library: closed(library), subject })
    }

    /// `scope` has its name, version and attributes, and `scopeLogs` what else was sent.
    pub(super) fn scope(self, room: &mut Room) -> Result<Level, Fault> {
        let mut library = Vec::new();
        for (member, value) in [(NAME, &self.name), ("version", &self.version)] {
            if let Some(value) = value.as_ref().filter(|value| value.as_ref() != b"\"\"") {
                push_member(&mut library, member, value);
            }
        }
        let mut scope = library.clone();
        if let Some(attributes) = written(self.attributes, room)? {
            push_member(&mut scope, "attributes", &attributes);
        }
        let mut context = Vec::new();
        add(&mut context, "scope", closed(scope));
        let mut outer = self.outer_rest;
        add_to(&mut outer, "scope", self.rest.finish());
        add(&mut context, "scopeLogs", outer.finish());
        Ok(Level { context, library: closed(library), subject: None })
    }
}

/// The place of a key among those that name a user or a device.
pub(super) fn subject_rank(key: &str) -> Option<usize> {
    if key.ends_with(".id") { SUBJECTS.iter().position(|subject| key == *subject) } else { None }
}

/// Attributes as an object; `None` if there are none.
fn written(attributes: Vec<Attribute<'_>>, room: &mut Room) -> Result<Option<Vec<u8>>, Fault> {
    let mut object = ObjectWriter::default();
    for Attribute { key, value } in attributes {
        object.add_with(key, |out| value.write(out, room, ATTRIBUTE_DEPTH))?;
    }
    Ok(object.finish())
}

/// The depth of `context.otel.resource` and its like, in the context.
const ATTRIBUTE_DEPTH: usize = 4;

fn closed(mut object: Vec<u8>) -> Option<Vec<u8>> {
    if object.is_empty() {
        return None;
    }
    object.push(b'}');
    Some(object)
}

/// Appends a member without brackets around it.
fn add(members: &mut Vec<u8>, name: &str, json: Option<Vec<u8>>) {
    let Some(json) = json else { return };
    if !members.is_empty() {
        members.push(b',');
    }
    push_string(members, name);
    members.push(b':');
    members.extend_from_slice(&json);
}

fn add_to(object: &mut ObjectWriter<'_>, name: &'static str, json: Option<Vec<u8>>) {
    if let Some(json) = json {
        object.add(name, &json);
    }
}
