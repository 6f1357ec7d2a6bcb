//! Distinguishable events, generated from a seed. Event `n` of a source is always the same, so that the store
//! can be compared with the posted events without keeping them.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

const MINUTE_US: i64 = 60_000_000;
const DAY_US: i64 = 24 * 60 * MINUTE_US;
/// Between the timestamps of the versions of one event.
const RESTAMPED_BY_US: i64 = 7_000_001;

/// Which of the fields for identity and time an event has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// A UUID and a timestamp.
    Dated,
    /// An id that is not a UUID, and a timestamp.
    Named,
    /// A UUIDv7, which contains the time, and no timestamp.
    Ordered,
    /// An id without a time, and no timestamp.
    Undated,
    /// A timestamp and no id.
    TimeOnly,
    /// Neither an id nor a timestamp.
    Anonymous,
    /// A call of an SDK, with an id that is not a UUID and a timestamp.
    Call,
    /// A call of an SDK that no event can be made of: it becomes a dead letter.
    Undeliverable,
}

impl EventKind {
    /// Whether the event is recognized as a duplicate in any batch. An event of another kind can be repeated
    /// only in a batch with an `Idempotency-Key`.
    pub fn has_identity(self) -> bool {
        !matches!(self, Self::TimeOnly | Self::Anonymous | Self::Undeliverable)
    }

    /// Whether it is posted in the format of SDKs.
    pub fn is_call(self) -> bool {
        matches!(self, Self::Call | Self::Undeliverable)
    }
}

#[derive(Clone, Debug)]
pub struct Event {
    /// The number in the source, which is also the property `n`.
    pub number: u64,
    pub kind: EventKind,
    /// The id in the request.
    pub id: Option<String>,
    /// The id, if it is a UUID.
    pub uuid: Option<Uuid>,
    /// The timestamp that must be stored, in microseconds since 1970. `None` is the receive time.
    pub time_us: Option<i64>,
    pub name: String,
    pub subject: Option<String>,
    pub properties: Value,
    pub context: Option<Value>,
    /// How it differs from the event as it was first posted.
    pub version: Version,
}

/// How a repeated event differs from the event as it was first posted. Projects that recognize events by
/// their ids alone store one of the versions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    First,
    /// With another timestamp, as SDKs that stamp every attempt send it.
    Restamped,
    /// With another timestamp and other properties.
    Changed,
}

/// The events of one project of one run.
#[derive(Clone, Debug)]
pub struct EventSource {
    seed: u64,
    /// The center of the timestamps, in milliseconds since 1970.
    around_ms: i64,
    /// Subjects that its events have.
    subjects: u32,
}

/// Subjects of a source, unless it has others.
const SUBJECTS: u32 = 1_000;

impl EventSource {
    /// Creates a source whose timestamps are around `around_ms`, in milliseconds since 1970.
    pub fn new(seed: u64, around_ms: i64) -> Self {
        Self { seed, around_ms, subjects: SUBJECTS }
    }

    /// The same events with only so many subjects.
    #[must_use]
    pub fn with_subjects(self, subjects: u32) -> Self {
        Self { subjects, ..self }
    }

    /// Generates event `number`.
    pub fn event(&self, number: u64) -> Event {
        let mut rng = self.rng(number);
        let kind = match rng.random_range(0..100) {
            0..50 => EventKind::Dated,
            50..70 => EventKind::Named,
            70..80 => EventKind::Ordered,
            80..92 => EventKind::Undated,
            92..96 => EventKind::TimeOnly,
            _ => EventKind::Anonymous,
        };
        let time_us = matches!(kind, EventKind::Dated | EventKind::Named | EventKind::TimeOnly)
            .then(|| self.time(&mut rng));
        let ordered_ms = self.around_ms - rng.random_range(0..600_000);
        let uuid = match kind {
            EventKind::Dated => Some(uuid::Builder::from_random_bytes(rng.random()).into_uuid()),
            EventKind::Undated => {
                let uuid = uuid::Builder::from_random_bytes(rng.random()).into_uuid();
                rng.random_bool(0.5).then_some(uuid)
            }
            EventKind::Ordered => {
                let ms = u64::try_from(ordered_ms).expect("the time is after 1970");
                Some(uuid::Builder::from_unix_timestamp_millis(ms, &rng.random()).into_uuid())
            }
            _ => None,
        };
        let id = match kind {
            EventKind::TimeOnly | EventKind::Anonymous => None,
            // Without the seed: projects use the same ids, which must not collide.
            _ => Some(uuid.map_or_else(|| format!("commande n\u{b0} {number}"), |uuid| uuid.to_string())),
        };
        Event {
            number,
            kind,
            id,
            uuid,
            time_us: if kind == EventKind::Ordered { Some(ordered_ms * 1_000) } else { time_us },
            name: ["page_view", "product_viewed", "add_to_cart", "checkout", "achat \u{2713}"]
                [rng.random_range(0..5)]
            .to_owned(),
            subject: rng.random_bool(0.7).then(|| format!("user-{}", rng.random_range(0..self.subjects))),
            properties: properties(number, &mut rng),
            context: rng.random_bool(0.3).then(|| json!({"ip": "192.0.2.7", "page": {"path": "/a\"b\\c"}})),
            version: Version::First,
        }
    }

    /// This event of the source, as a client repeats it.
    pub fn repeated(&self, mut event: Event, version: Version) -> Event {
        if version > Version::First {
            let first_us = event.time_us.unwrap_or(self.around_ms * 1_000);
            event.time_us = Some(first_us - version as i64 * RESTAMPED_BY_US);
        }
        if version == Version::Changed {
            event.properties["amount"] = json!(-1);
        }
        event.version = version;
        event
    }

    pub(super) fn rng(&self, number: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Mostly within the last ten minutes; rarely outside of every partition.
    pub(super) fn time(&self, rng: &mut StdRng) -> i64 {
        let now_us = self.around_ms * 1_000;
        match rng.random_range(0..200) {
            0 => now_us - 300 * DAY_US - rng.random_range(0..DAY_US),
            1 => now_us + 2 * DAY_US + rng.random_range(0..DAY_US),
            2..6 => now_us - rng.random_range(DAY_US..3 * DAY_US),
            _ => now_us - rng.random_range(0..10 * MINUTE_US),
        }
    }
}

impl Event {
    /// The event as it is posted.
    pub fn json(&self) -> Value {
        let mut event = Map::new();
        let is_stamped = self.kind != EventKind::Ordered || self.version > Version::First;
        let timestamp = self.time_us.filter(|_| is_stamped).map(rfc3339);
        let fields = [
            ("id", self.id.clone().map(Value::from)),
            ("name", Some(self.name.clone().into())),
            ("timestamp", timestamp.map(Value::from)),
            ("subject", self.subject.clone().map(Value::from)),
            ("properties", Some(self.properties.clone())),
            ("context", self.context.clone()),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                event.insert(name.to_owned(), value);
            }
        }
        event.into()
    }
}

pub(super) fn properties(number: u64, rng: &mut StdRng) -> Value {
    let words = ["caf\u{e9}", "\u{65e5}\u{672c}", "a\tb", "\"quoted\"", "plain", "\u{1f980}"];
    let note =
        (0..rng.random_range(0..12)).map(|_| words[rng.random_range(0..words.len())]).collect::<Vec<_>>();
    // Rarely a large value, which fills a good part of a request.
    let bulk = if rng.random_range(0..500) == 0 { "x".repeat(64 << 10) } else { String::new() };
    json!({
        "n": number,
        "amount": f64::from(rng.random_range(0..100_000)) / 4.0,
        "large": rng.random::<i64>(),
        "note": note.join(" "),
        "list": [true, null, {"deep": [[], {}]}],
        "bulk": bulk,
    })
}

pub(super) fn rfc3339(us: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000);
    time.expect("the time is in range").format(&Rfc3339).expect("the year has four digits")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_number_always_yields_the_same_event_and_no_other() {
        let source = EventSource::new(7, 1_795_000_000_000);
        let texts: HashSet<_> = (0..2_000).map(|n| source.event(n).json().to_string()).collect();
        assert_eq!(texts.len(), 2_000);
        assert!((0..2_000).all(|n| texts.contains(&source.event(n).json().to_string())));
    }

    #[test]
    fn a_source_has_events_of_every_kind() {
        let source = EventSource::new(7, 1_795_000_000_000);
        for kind in [
            EventKind::Dated,
            EventKind::Named,
            EventKind::Ordered,
            EventKind::Undated,
            EventKind::TimeOnly,
            EventKind::Anonymous,
        ] {
            assert!((0..500).any(|n| source.event(n).kind == kind), "{kind:?}");
        }
    }
}
