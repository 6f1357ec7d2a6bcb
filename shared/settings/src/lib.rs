//! Settings that more than one program reads, and how all programs read theirs.
//!
//! Each setting is an environment variable and a flag. A program declares its settings once, as a clap
//! struct: the types are checked while clap parses, and `--help` and `docs/configuration.md` are made from
//! the same declaration. A bad value must end the program before it opens a port, and no message may contain
//! a password.

mod error;
mod parse;
mod policy;
mod servers;
mod urls;
mod values;

pub use millrace_reconcile::health::Durability;

pub use self::error::ConfigError;
pub use self::parse::{check_log_levels, is_given, matches, parse};
pub use self::policy::Policy;
pub use self::servers::Servers;
pub use self::urls::{database_url, redis_url};
pub use self::values::{OneOf, address, milliseconds, number, path};
