//! The stream on Redis: one stream and one consumer group for each shard, and Lua scripts that make every
//! operation a single step.
//!
//! The keys of shard 0. All keys of a shard have the same hash tag:
//!
//! | key | type | value |
//! |---|---|---|
//! | `{s0}:events` | stream | the admitted batches, in entries ([`millrace_event::entry`]); group `workers` |
//! | `{s0}:epoch` | string | the epoch, or `rebuilding <epoch>` |
//! | `{s0}:shard` | hash | `clock_ms`, `backlog_events`, `backlog_bytes` |
//! | `{s0}:project:<id>` | hash | `tat` (µs), `month`, `used`, `accepted`, `pending` |
//! | `{s0}:batch:<uuid>` | string | the marker of a batch, see below |
//! | `{s0}:batch:<uuid of a group>:<part>` | string | the markers of 64 places of a group of batches |
//! | `{s0}:limit:<epoch>:<project>:<meter>:<period>:<subject>` | hash | `window`, `units`, `billionths` |
//! | `{s0}:attempts` | hash | entry id → attempts to write it alone that never returned |
//!
//! The marker of a batch with a string of its own is `p flags project count received_ms digest` while the
//! batch is pending. Once it is settled it is `s …`, with the same fields followed by `stored duplicate dead
//! conflict`. A batch whose id names a group has a record with the same numbers in a string of the group
//! (`group_markers.lua`). A marker lives at least as long as the entry, so no retry of a pending batch is
//! admitted twice. After that it is kept for a day for a batch with a key, and otherwise for a minute, in
//! which a client that lost the answer tries again, or waits for the outcome. A batch that has neither a key
//! nor a group, as of an older release, is remembered for 15 seconds unless a client waits.
//!
//! The stream is never trimmed: only `settle.lua` removes entries, so XLEN is the backlog.
//!
//! | modules | purpose |
//! |---|---|
//! | `stream` | [`RedisStream`], which passes each call to the module that does it |
//! | `admit`, `admit_command` | admission, several batches in one call and one entry |
//! | `shard_queue`, `admission_queue` | what waits for admission, and the calls of each thread |
//! | `caller_answers` | answers for callers on another thread |
//! | `replicated` | admission that is answered when replicas have the batches |
//! | `settle`, `state` | the other calls of the hot path |
//! | `marker`, `numbered` | where markers are, and the numbers of keys in a call |
//! | `limits`, `limit_arguments` | the counters of limits of customers |
//! | `writable` | whether a batch could be admitted now |
//! | `shard_witness`, `witness` | whether the server went back in time |
//! | `reader` | delivery, on a connection for each lane |
//! | `admin`, `retire`, `rebuild`, `durability` | operators, audits and upkeep, on a pool |
//! | `core`, `link`, `connection`, `slot`, `keeper` | what leads to the primary of a shard |
//! | `pool`, `server`, `client` | its pool, the checks of a new connection, the settings of a client |
//! | `location`, `route` | where the primary of a shard is now |
//! | `options`, `source`, `address` | settings, and what a URL may say |
//! | `scripts`, `keys`, `reply`, `error` | the base of the other modules |
//!
//! This module must never send a blocking command on a shared connection, or wait for a server that is
//! unreachable.

mod address;
mod admin;
mod admission_queue;
mod admit;
mod admit_command;
mod caller_answers;
mod client;
mod connection;
mod core;
mod durability;
mod error;
mod keeper;
mod keys;
mod limit_arguments;
mod limits;
mod link;
mod location;
mod marker;
mod numbered;
mod options;
mod packed_batches;
mod pool;
mod reader;
mod rebuild;
mod replicated;
mod reply;
mod retire;
mod route;
mod scripts;
mod server;
mod settle;
mod shard_queue;
mod shard_witness;
mod slot;
mod source;
mod state;
mod stream;
mod witness;
mod writable;

pub use self::address::{Discovery, RedisAddress};
pub use self::options::RedisOptions;
pub use self::source::{RedisSource, RedisTls};
pub use self::stream::RedisStream;
