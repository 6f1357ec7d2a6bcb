//! What an event is: its limits, its identity, and what is said of one that is refused. No I/O in this room.
//!
//! Identity is (project, event id, timestamp). A client's `id` that is a UUID is kept; any other is mapped to a UUIDv8
//! by hash, and an event without one gets its id from its batch and its place there. So the same event sent again is
//! the same row, whatever batch it arrives in.

use std::borrow::Cow;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::plan::ProjectId;

/// A batch's name: UUIDv7 made by the API, or UUIDv8 derived from the project and the `Idempotency-Key`.
pub type BatchId = Uuid;

/// Longest `id`, in bytes.
pub const ID_BYTES_MAX: usize = 200;
/// Longest `name`, in characters.
pub const NAME_CHARS_MAX: usize = 200;
/// Longest `subject`, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 200;
/// Deepest nesting of `properties` and of `context`; the object itself is level 1.
pub const DEPTH_MAX: usize = 64;
/// Most digits in a number. PostgreSQL keeps every one of them.
pub const NUMBER_DIGITS_MAX: usize = 40;
/// Largest power of ten in a number, either way. jsonb writes exponents out: `1e131071` takes 131,072 bytes.
pub const NUMBER_EXPONENT_MAX: u32 = 308;
/// Largest sum of the exponents in one object: what all its numbers together may grow by when they are written out.
pub const EXPONENTS_SUM_MAX: u32 = 100_000;
/// Longest `Idempotency-Key`, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// Why an event was rejected: the code in answers and in the metric of rejected events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, strum::IntoStaticStr, strum::VariantNames)]
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

/// One event that is not in the batch, and why.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Rejection {
    /// Its place in the request, from 0.
    pub index: usize,
    /// Stable: clients decide by it.
    pub code: RejectionCode,
    /// The field to mend, when it is one field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<Cow<'static, str>>,
    /// What is wrong and what would be right.
    pub message: String,
}

/// The valid events of one request, as rows, and what was said of the others.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Batch {
    /// The rows, as [`crate::row`] writes them.
    pub rows: Vec<u8>,
    /// How many.
    pub count: u32,
    /// The events that are not among them.
    pub rejected: Vec<Rejection>,
}

/// Where a batch comes from; what identities are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Origin {
    /// Whose events they are.
    pub project: ProjectId,
    /// The batch's own name.
    pub batch_id: BatchId,
}

/// The UUIDv8 (RFC 9562, section 5.8) that a client's own id is known by: 122 bits of its SHA-256.
pub fn uuid_of_client_id(id: &str) -> Uuid {
    derived_uuid(&[b"client id", id.as_bytes()])
}

/// The id of an event that came without one.
pub fn uuid_of_place(batch_id: BatchId, index: usize) -> Uuid {
    derived_uuid(&[b"place in batch", batch_id.as_bytes(), &(index as u64).to_be_bytes()])
}

/// The batch id that stands for an `Idempotency-Key` of a project.
pub fn batch_id_of_key(project: ProjectId, idempotency_key: &str) -> BatchId {
    derived_uuid(&[b"idempotency key", &project.0.to_be_bytes(), idempotency_key.as_bytes()])
}

/// A UUIDv8 from the SHA-256 of the parts, each with its length before it.
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
