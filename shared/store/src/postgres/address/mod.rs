//! The address of PostgreSQL: a URL with libpq's parameters, and libpq's environment for what it leaves out.
//!
//! `source` is what was set, and `settings` what that means. `conninfo` reads the URL, `options` is the table
//! of all parameters, `passfile` finds passwords, and `tls` is `sslmode`. This module must never connect, and
//! never repeat a part of a URL that may be a password.

mod conninfo;
mod environment;
mod options;
mod passfile;
mod settings;
mod source;
mod tls;

pub use self::environment::Environment;
pub(super) use self::settings::Address;
pub use self::settings::{SourceError, check_url};
pub use self::source::PostgresSource;
pub(super) use self::tls::Mode;
