//! The address of a webhook.

use url::{Host, Url};

/// Longest address, in bytes.
const URL_BYTES_MAX: usize = 2_000;

/// Where notifications are sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Whether it is reached with TLS.
    pub is_secure: bool,
    pub host: Host,
    pub port: u16,
    /// Path and query.
    pub target: String,
}

/// Why a text is not the address of a webhook.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EndpointError {
    #[error("it is not an address: {0}")]
    Syntax(#[from] url::ParseError),
    #[error("it has more than {URL_BYTES_MAX} bytes")]
    TooLong,
    #[error("it has a control character; write it percent-encoded")]
    ControlCharacter,
    #[error("it must begin with https:// or http://")]
    Scheme,
    #[error("it must have no user name and no password; the signature shows who sends the notification")]
    Credentials,
    #[error("port 0 cannot be used")]
    Port,
}

impl Endpoint {
    /// # Errors
    /// [`EndpointError`].
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if text.len() > URL_BYTES_MAX {
            return Err(EndpointError::TooLong);
        }
        if text.contains(char::is_control) {
            return Err(EndpointError::ControlCharacter);
        }
        let url = Url::parse(text)?;
        let is_secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(EndpointError::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError::Credentials);
        }
        let host = url.host().ok_or(url::ParseError::EmptyHost)?.to_owned();
        let host = match host {
            Host::Domain(name) => Host::Domain(name.trim_end_matches('.').to_owned()),
            address => address,
        };
        let port = url.port_or_known_default().filter(|port| *port > 0).ok_or(EndpointError::Port)?;
        let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
        Ok(Self { is_secure, host, port, target: format!("{}{query}", url.path()) })
    }

    /// The header `host`.
    pub fn authority(&self) -> String {
        match (self.is_secure, self.port) {
            (true, 443) | (false, 80) => self.host.to_string(),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_is_taken_apart_without_its_fragment() {
        let endpoint = Endpoint::parse("https://Hooks.Example:8443/in?key=1#part").unwrap();
        assert_eq!((endpoint.is_secure, endpoint.port), (true, 8443));
        assert_eq!(endpoint.target, "/in?key=1");
        assert_eq!(endpoint.authority(), "hooks.example:8443");
        assert_eq!(Endpoint::parse("http://hooks.example.").unwrap().authority(), "hooks.example");
    }

    #[test]
    fn every_notation_of_an_address_is_recognized() {
        for text in [
            "http://127.0.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.1/",
            "http://0177.0.0.1",
        ] {
            let host = Endpoint::parse(text).unwrap().host;
            assert_eq!(host, Host::<String>::Ipv4(Ipv4Addr::LOCALHOST), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_of_a_webhook_is_refused() {
        for (text, part) in [
            ("hooks.example/in", "not an address"),
            ("ftp://hooks.example/", "https:// or http://"),
            ("file:///etc/passwd", "https:// or http://"),
            ("gopher://127.0.0.1:6379/_", "https:// or http://"),
            ("https://user:secret@hooks.example/", "no user name"),
            ("https://hooks.example:0/", "port 0"),
            ("https://", "not an address"),
            ("https://hooks.example/\0", "control character"),
        ] {
            let refused = Endpoint::parse(text).unwrap_err().to_string();
            assert!(refused.contains(part) && !refused.contains("secret"), "{text}: {refused}");
        }
        assert_eq!(Endpoint::parse(&format!("https://a/{}", "x".repeat(2_000))), Err(EndpointError::TooLong));
    }
}
