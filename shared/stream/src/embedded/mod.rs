//! The stream in one SQLite file, for a process that is both API and worker. It has one shard.
//!
//! | table of `stream.db` | rows |
//! |---|---|
//! | `entries` | the admitted batches in order, those of one transaction in one row |
//! | `markers` | the known batch ids with a key: while the batch is pending, and then until `expires_ms` |
//! | `projects` | rate, quota and sums of each project |
//! | `limit_counters` | what customers have used of limits, see `limits` |
//! | `shard` | one row: epoch and fence, the last entry that was ever appended, sums of the backlog |
//!
//! One thread writes (`writer`): all requests that wait for it become one transaction with one fsync, and are
//! then answered. All other threads only read, on their own connections (`read_pool`). Which consumer has
//! which entry is kept in memory (`deliveries`): consumers end with the process, and the next process
//! delivers every entry that is not settled.
//!
//! | modules | purpose |
//! |---|---|
//! | `stream` | [`EmbeddedStream`], which runs each call as a write or a read |
//! | `admit`, `settle`, `rebuild`, `limits`, `trial` | the steps of a write transaction |
//! | `queries` | the queries of a read |
//! | `reader`, `dispatch`, `deliveries`, `recent` | delivery to the lanes of this process |
//! | `core`, `writer`, `transaction`, `read_pool`, `maintenance` | threads and connections |
//! | `schema`, `counters`, `markers`, `group`, `position`, `error` | the file and its tables |
//! | `memory_markers`, `load` | the known batch ids without a key, which are in memory only |
//!
//! This module must never answer before COMMIT has returned, keep a counter in memory that a failed
//! transaction changed, overwrite a file that is not an intact stream, or block a thread of the runtime with
//! disk access.

mod admit;
mod core;
mod counters;
mod deliveries;
mod dispatch;
mod error;
mod group;
mod limits;
mod load;
mod maintenance;
mod markers;
mod memory_markers;
mod position;
mod queries;
mod read_pool;
mod reader;
mod rebuild;
mod recent;
mod schema;
mod settle;
mod stream;
mod transaction;
mod trial;
mod writer;

pub use self::error::FILE as FILE_NAME;
pub use self::stream::{EmbeddedOptions, EmbeddedStream};
