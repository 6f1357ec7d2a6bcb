//! The subjects: Millrace, its variants, and other ways to take events over HTTP and store them in a table.
//! Each runs as real processes, on its own real, durable servers.
//!
//! Must never: favor a subject. All receive the same requests on the same route and store into the same
//! table, and each has the machine to itself while it is measured.

mod copy_in_request;
mod data;
mod direct_insert;
mod embedded;
mod millrace;
mod name;
mod outbox;
mod peer;
mod servers;
mod start;
mod subject;
mod table;
mod unnest_in_request;

pub use self::data::Data;
pub use self::name::SubjectName;
pub use self::outbox::drain as drain_outbox;
pub use self::peer::{Storing, serve as serve_peer};
pub use self::servers::{
    POSTGRES_SETTINGS, REDIS_SETTINGS, postgres, prepare_database, prepare_projects, redis,
};
pub use self::start::start;
pub use self::subject::Subject;
pub use self::table::EventsTable;
