//! Collects the columns of one event and writes its row.

use std::borrow::Cow;

use uuid::Uuid;

use crate::event::{ClientIdentity, EVENT_TIMES_US, Origin, uuid_of_index};
use crate::plan::ProjectId;
use crate::policy::Dedupe;
use crate::row::{EventTime, Row};

/// The validated columns of one event.
pub struct EventBuilder<'a> {
    pub name: Cow<'a, str>,
    pub subject: Option<Cow<'a, str>>,
    /// A JSON object, as text.
    pub properties: Option<Cow<'a, [u8]>>,
    /// A JSON object, as text.
    pub context: Option<Cow<'a, [u8]>>,
    /// The client's address that the event has itself, as JSON.
    pub(super) address: Option<Cow<'a, [u8]>>,
    pub(super) event_id: Uuid,
    by_id: bool,
    pub(super) client_id: Option<Cow<'a, str>>,
    pub(super) time: EventTime,
}

impl<'a> EventBuilder<'a> {
    /// An event with a name and nothing else. Call [`EventBuilder::identify`] before writing it.
    pub fn new(name: Cow<'a, str>) -> Self {
        Self {
            name,
            subject: None,
            properties: None,
            context: None,
            address: None,
            event_id: Uuid::nil(),
            by_id: false,
            client_id: None,
            time: EventTime::Anonymous,
        }
    }

    /// Sets the event's identity. The id is the client's, or else derived from the index in the batch. The
    /// time is the client's, or else the time in a UUIDv7, or else the receive time. A time outside of
    /// [`EVENT_TIMES_US`] counts as absent, so that no dialect can store one.
    pub fn identify(
        &mut self,
        origin: Origin,
        index: usize,
        id: Option<Cow<'a, str>>,
        timestamp_us: Option<i64>,
    ) {
        let Some(id) = id else {
            self.event_id = uuid_of_index(origin.batch_id, index);
            self.time = timestamp_us.filter(is_storable).map_or(EventTime::Anonymous, EventTime::At);
            return;
        };
        let identity = ClientIdentity::of(&id, timestamp_us);
        self.event_id = identity.event_id;
        self.by_id = origin.policy.dedupe == Dedupe::Id;
        self.time = identity.timestamp_us.map_or(EventTime::Undated, EventTime::At);
        self.client_id = (!identity.is_uuid).then_some(id);
    }

    /// Sets the identity of an event that has no id of the client, from its content. The time is as in
    /// [`EventBuilder::identify`].
    pub(super) fn identify_by_content(&mut self, origin: Origin, event_id: Uuid, timestamp_us: Option<i64>) {
        self.event_id = event_id;
        self.by_id = origin.policy.dedupe == Dedupe::Id;
        self.time = timestamp_us.filter(is_storable).map_or(EventTime::Undated, EventTime::At);
        self.client_id = None;
    }

    /// Makes the id, which the event must have, identify it alone, under any policy of the project.
    pub(super) fn identify_by_id_alone(&mut self) {
        self.by_id = true;
    }

    /// Appends the event's row.
    pub(super) fn write(&self, project: ProjectId, rows: &mut Vec<u8>) {
        let row = Row {
            project,
            time: self.time,
            event_id: self.event_id,
            by_id: self.by_id,
            name: &self.name,
            subject: self.subject.as_deref(),
            client_id: self.client_id.as_deref(),
            properties: self.properties.as_deref(),
            context: self.context.as_deref(),
        };
        row.write(rows);
    }
}

fn is_storable(time_us: &i64) -> bool {
    EVENT_TIMES_US.contains(time_us)
}
