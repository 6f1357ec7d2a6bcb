//! Words for a TLS handshake that failed: who refused whom, why, and what to do.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError, InvalidMessage};

/// The names of settings, for advice.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeNames {
    /// `Redis` or `PostgreSQL`.
    pub server: &'static str,
    /// The setting with the CA.
    pub ca: &'static str,
    /// The settings with the certificate of this program and its key.
    pub client: &'static str,
    /// The setting with the address.
    pub address: &'static str,
}

impl HandshakeNames {
    pub const REDIS: Self = Self {
        server: "Redis",
        ca: "REDIS_TLS_CA",
        client: "REDIS_TLS_CERT and REDIS_TLS_KEY",
        address: "REDIS_URL",
    };
    pub const POSTGRES: Self = Self {
        server: "PostgreSQL",
        ca: "sslrootcert",
        client: "sslcert and sslkey",
        address: "DATABASE_URL",
    };
}

/// The error of TLS that is the cause of this error, if one is.
pub fn handshake_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(found) = current.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // Neither an I/O error nor a shared error names the error in it as its source.
        cause = if let Some(inner) = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner)
        } else if let Some(shared) = current.downcast_ref::<Arc<dyn Error + Send + Sync>>() {
            Some(&**shared)
        } else {
            current.source()
        };
    }
    None
}

/// Whether the answer to the handshake was none of TLS: the server speaks something else.
pub fn is_no_tls(error: &rustls::Error) -> bool {
    use InvalidMessage::{InvalidContentType, UnknownProtocolVersion};
    matches!(error, rustls::Error::InvalidMessage(InvalidContentType | UnknownProtocolVersion))
}

/// What the error means, and what to do. Names no address.
pub fn describe_handshake(error: &rustls::Error, names: HandshakeNames) -> String {
    let HandshakeNames { server, ca, client, address } = names;
    let of_server = |rest: String| format!("the certificate of {server} {rest}");
    match error {
        rustls::Error::InvalidCertificate(fault) => of_server(match fault {
            // A CA of the same name has another key.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                format!("is not signed by a CA that is trusted: set {ca} to the file of its CA")
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired".to_owned(),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "is not valid yet: compare the clocks".to_owned()
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                format!("is for another name than the host of {address}: use a name in its subjectAltName")
            }
            CertificateError::Other(other) if other.to_string().contains("CaUsedAsEndEntity") => {
                "is a CA: make one for the server, signed by it and without CA:TRUE".to_owned()
            }
            other => format!("cannot be used: {other}"),
        }),
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::HandshakeFailure => format!(
                "{server} refused the TLS handshake ({alert:?}): it may demand a certificate of this program; \
                 check {client}"
            ),
            other => format!("{server} refused the TLS handshake ({other:?})"),
        },
        error if is_no_tls(error) => format!("{server} does not speak TLS on this port"),
        other => format!("no TLS connection to {server}: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_tls_is_found_inside_others_and_described_with_the_setting_to_change() {
        let inner = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let outer = io::Error::other(io::Error::other(inner));
        let found = handshake_error(&outer).unwrap();
        assert!(describe_handshake(found, HandshakeNames::REDIS).contains("set REDIS_TLS_CA"));
        assert!(describe_handshake(found, HandshakeNames::POSTGRES).contains("set sslrootcert"));
        let shared: Arc<dyn Error + Send + Sync> = Arc::new(outer);
        assert!(handshake_error(&shared).is_some());
        assert!(handshake_error(&io::Error::other("closed")).is_none());
    }
}
