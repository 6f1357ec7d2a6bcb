//! What the addresses of Redis and PostgreSQL have in common: a URL is given as a value or in a file, its
//! parts are named in errors, and certificates are read from files.
//!
//! This crate must never connect, and never repeat a part of a URL that may be a password, or a part of a
//! private key.

mod handshake;
mod parameters;
mod pem;
mod secret;

pub use self::handshake::{HandshakeNames, describe_handshake, handshake_error, is_no_tls};
pub use self::parameters::{is_name, percent_decoded, query_pairs};
pub use self::pem::{
    ClientCertificate, Pem, install_crypto, read_certificates, read_client, read_roots, system_roots,
};
pub use self::secret::Secret;
