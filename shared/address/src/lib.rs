//! What the addresses of Redis and PostgreSQL have in common: a URL is given as a value or in a file, and its
//! parts are named in errors.
//!
//! This crate must never connect, and never repeat a part of a URL that may be a password.

mod parameters;
mod secret;

pub use self::parameters::{is_name, query_pairs};
pub use self::secret::Secret;
