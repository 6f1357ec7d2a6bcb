//! The subjects: four ways to take events over HTTP and store them in a table. Each runs as real processes,
//! on its own real, durable servers.
//!
//! Must never: favor a subject. All receive the same requests on the same route and store into the same
//! table, and each has the machine to itself while it is measured.

mod copy_in_request;
mod direct_insert;
mod embedded;
mod millrace;
mod name;
mod servers;
mod start;
mod subject;
mod table;

pub use self::copy_in_request::serve as serve_copy;
pub use self::name::SubjectName;
pub use self::servers::{POSTGRES_SETTINGS, REDIS_SETTINGS, postgres, prepare_database, redis};
pub use self::start::start;
pub use self::subject::Subject;
pub use self::table::EventsTable;
