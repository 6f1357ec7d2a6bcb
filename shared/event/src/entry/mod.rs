//! An entry of the stream: the batches that were admitted together, in a versioned format. Encoding and
//! decoding are in this folder.
//!
//! Fields of an entry, version 2, for programs that read the stream with their own consumer group:
//!
//! | field | value |
//! |---|---|
//! | `v` | `2` |
//! | `a` | which batches were admitted: one character for each batch, `1` if it was, otherwise `0` |
//! | `t` | the batches, 32 bytes each, see below |
//! | `r` | zstd frames with checksum, one after the other, of the rows of all batches in the order of `t` |
//! | `l` | only if a batch was charged to limits: the charges, see [`crate::limit::encode_charges`] |
//!
//! Of a batch, `t` has its id (16 bytes), the project id (8), the number of events (4), and the bytes of its
//! rows before compression (4). Numbers are big-endian. Rows are in the format of [`crate::row`].
//!
//! The batches of an entry were sent together, and the stream decided on each of them. Rows of a batch that
//! was not admitted are in the entry and must be skipped.
//!
//! Version 1, which release 0.1 wrote, has one batch:
//!
//! | field | value |
//! |---|---|
//! | `v` | `1` |
//! | `b` | batch id, 16 bytes |
//! | `p` | project id, decimal |
//! | `n` | number of events, decimal |
//! | `u` | bytes of `d` before compression, decimal |
//! | `d` | one zstd frame with checksum, of `n` rows |
//!
//! No name of a field is used by both versions for the same purpose, so that a program which knows only
//! version 1 does not take the fields of version 2 for its own.
//!
//! An entry has no field for the receive time: it is the milliseconds of the entry's id.

mod bounds;
mod damage;
mod entry_id;
mod fields;
mod frame;
mod new_batch;
mod packed_entry;
mod rows;

pub use self::bounds::{BATCHES_MAX, ROWS_BYTES_MAX};
pub use self::damage::Damage;
pub use self::entry_id::{EntryId, id_of_damaged};
pub use self::fields::{VERSION, batches_of_table, fields_of_version_1};
pub use self::frame::pack_rows;
pub use self::new_batch::NewBatch;
pub use self::packed_entry::{EntryBatch, PackedEntry, size_shares};
pub use self::rows::{unpack_any, unpack_dead};
