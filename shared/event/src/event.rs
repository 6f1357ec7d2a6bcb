//! An event's limits, its identity, and the rejection of an invalid one.
//!
//! Identity is (project, event id, timestamp). A client's `id` that is a UUID is kept; any other is hashed
//! into a UUIDv8. An event without an `id` gets one derived from the batch id and its index in the batch. So
//! an event that is sent again is the same row, whichever batch it arrives in.

use std::borrow::Cow;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::plan::ProjectId;
use crate::policy::ProjectPolicy;

/// Made by the API ([`crate::BatchGroup`]), or derived from the project and the `Idempotency-Key`: a UUIDv8.
/// Release 0.1 made UUIDv7.
pub type BatchId = Uuid;

/// Longest `id`, in bytes.
pub const ID_BYTES_MAX: usize = 200;
/// Longest `name`, in characters.
pub const NAME_CHARS_MAX: usize = 200;
/// Longest `subject`, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 200;
/// Deepest nesting of `properties` and of `context`; the object itself is level 1.
pub const DEPTH_MAX: usize = 64;
/// Times of events, in microseconds since 1970: the years 1 to 9999 in UTC. PostgreSQL also stores years
/// outside of them, and then most readers fail at the whole result: psycopg2, and everything else that is
/// built on Python's `datetime`.
pub const EVENT_TIMES_US: RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;
/// Most digits in a number, without the zeros at both ends. PostgreSQL keeps all of them.
pub const NUMBER_DIGITS_MAX: usize = 40;
/// Most digits in a number with these zeros. A double without an exponent takes at most 342 digits
/// (`0.000…`), as PostgreSQL itself writes it.
pub const NUMBER_LENGTH_MAX: usize = 400;
/// Largest absolute exponent of a number, as it is written. The smallest double, 5e-324, needs -363 when its
/// 40 digits are written as an integer. jsonb writes exponents out: `1e131071` takes 131,072 bytes.
pub const NUMBER_EXPONENT_MAX: u32 = 400;
/// Largest sum of the exponents in one object. PostgreSQL writes its numbers in at most this many bytes more
/// than were sent.
pub const EXPONENTS_SUM_MAX: u32 = 1_000_000;
/// Longest `Idempotency-Key`, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Why an event was rejected. Answers, metric labels and the documentation use the name in snake case, so a
/// variant must never be renamed.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    serde::Serialize,
    strum::AsRefStr,
    strum::Display,
    strum::IntoStaticStr,
    strum::VariantNames,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum RejectionCode {
    InvalidJson,
    InvalidEvent,
    MissingField,
    UnknownField,
    DuplicateField,
    InvalidType,
    InvalidLength,
    InvalidString,
    InvalidNumber,
    InvalidTimestamp,
    TooDeep,
}

/// An invalid event of a batch.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Rejection {
    /// The event's index in the request, from 0.
    pub index: usize,
    pub code: RejectionCode,
    /// The invalid field, if one field is the cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<Cow<'static, str>>,
    /// What is wrong, and what would be valid.
    pub message: String,
}

/// The accepted events of one request, as rows, and what became of the others.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch {
    /// Rows in the format of [`crate::row`]: events, and calls that no event can be made of.
    pub rows: Vec<u8>,
    /// The number of rows.
    pub count: u32,
    /// The invalid events of a dialect that rejects them. They have no rows.
    pub rejected: Vec<Rejection>,
    /// The invalid events of a dialect that dead-letters them. Each has a row, an
    /// [`crate::undeliverable::UndeliverableCall`].
    pub dead: Vec<Rejection>,
}

/// Where an event comes from: its project and batch, from which identities are derived, and what the project
/// wants done with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    pub project: ProjectId,
    pub batch_id: BatchId,
    pub policy: ProjectPolicy,
    /// About when the batch was received, in microseconds since 1970, for the policy's bounds.
    pub received_us: i64,
    /// Of the sender's key, which is masked in the calls that become dead letters.
    pub key_hash: Option<[u8; 32]>,
    /// The client's, for a policy that stores it. `None` if it is not known.
    pub client_address: Option<IpAddr>,
}

impl Origin {
    /// An origin with the policy of a new project, which has no bounds, and of an unknown sender.
    pub fn new(project: ProjectId, batch_id: BatchId) -> Self {
        let policy = ProjectPolicy::default();
        Self { project, batch_id, policy, received_us: 0, key_hash: None, client_address: None }
    }
}

/// Length of a UUID with hyphens. Other notations are treated as ordinary text.
const UUID_CHARS: usize = 36;

/// The identity of an event by what the client says of it: its `id`, and its `timestamp` if it has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientIdentity {
    pub event_id: Uuid,
    /// Whether the client's id is a UUID, and so the event's.
    pub is_uuid: bool,
    /// In microseconds since 1970: the client's, or else the time in a UUIDv7. `None` for an event that takes
    /// the time of its receipt.
    pub timestamp_us: Option<i64>,
}

impl ClientIdentity {
    /// A time outside of [`EVENT_TIMES_US`] counts as absent.
    pub fn of(id: &str, timestamp_us: Option<i64>) -> Self {
        let uuid = (id.len() == UUID_CHARS).then(|| Uuid::try_parse(id).ok()).flatten();
        let is_storable = |time_us: &i64| EVENT_TIMES_US.contains(time_us);
        let time_us = timestamp_us.filter(is_storable).or_else(|| uuid.and_then(time_of_uuid));
        Self {
            event_id: uuid.unwrap_or_else(|| uuid_of_client_id(id)),
            is_uuid: uuid.is_some(),
            timestamp_us: time_us.filter(is_storable),
        }
    }
}

/// Microseconds since 1970 in a UUIDv7 (RFC 9562, section 5.7).
fn time_of_uuid(uuid: Uuid) -> Option<i64> {
    if uuid.get_version_num() != 7 {
        return None;
    }
    let (seconds, nanos) = uuid.get_timestamp()?.to_unix();
    Some(i64::try_from(seconds).ok()? * 1_000_000 + i64::from(nanos / 1_000))
}

/// The event id for a client's id that is not a UUID: a UUIDv8 (RFC 9562, section 5.8) from its SHA-256.
pub fn uuid_of_client_id(id: &str) -> Uuid {
    derived_uuid(&[b"client id", id.as_bytes()])
}

/// The event id of an event that was sent without one.
pub fn uuid_of_index(batch_id: BatchId, index: usize) -> Uuid {
    derived_uuid(&[b"place in batch", batch_id.as_bytes(), &(index as u64).to_be_bytes()])
}

/// The batch id for an `Idempotency-Key` of a project.
pub fn batch_id_of_key(project: ProjectId, idempotency_key: &str) -> BatchId {
    derived_uuid(&[b"idempotency key", &project.0.to_be_bytes(), idempotency_key.as_bytes()])
}

/// A UUIDv8 from the SHA-256 of the parts, each preceded by its length. The first part keeps the uses apart;
/// it must never change, because it is part of stored identities.
pub fn derived_uuid(parts: &[&[u8]]) -> Uuid {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let mut first_half = [0; 16];
    first_half.copy_from_slice(&digest[..16]);
    Uuid::new_v8(first_half)
}
