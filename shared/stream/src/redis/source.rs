//! Where Redis is, as it was set: the URL, and the files with certificates.
//!
//! This module must never repeat a part of a URL that may be a password.

use std::path::PathBuf;

use millrace_address::{Secret, read_client, read_roots};
use redis::{ClientTlsConfig, TlsCertificates};

use super::address::RedisAddress;

/// Where Redis is and how to prove who is who, as it was set. Read again for every connection.
#[derive(Clone, Debug)]
pub struct RedisSource {
    pub url: Secret,
    pub tls: RedisTls,
}

/// Files with certificates in PEM, for a URL that uses TLS.
#[derive(Clone, Default, Debug)]
pub struct RedisTls {
    /// The certificates that sign those of the servers. `None`: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// The certificate of this program, and its private key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl RedisTls {
    /// For a URL without TLS.
    fn must_be_empty(&self) -> Result<(), (&'static str, String)> {
        let setting = match self {
            Self { ca: Some(_), .. } => "REDIS_TLS_CA",
            Self { client: Some(_), .. } => "REDIS_TLS_CERT",
            _ => return Ok(()),
        };
        Err((setting, "the URL does not use TLS: begin it with rediss: in place of redis:".to_owned()))
    }

    /// The content of the files.
    fn read(&self) -> Result<TlsCertificates, (&'static str, String)> {
        let root_cert = match &self.ca {
            Some(path) => Some(read_roots(path).map_err(|reason| ("REDIS_TLS_CA", reason))?.text),
            None => None,
        };
        let client_tls = match &self.client {
            Some((certificate, key)) => {
                let client = read_client(certificate, key).map_err(|reason| ("REDIS_TLS_CERT", reason))?;
                Some(ClientTlsConfig { client_cert: client.chain.text, client_key: client.key.text })
            }
            None => None,
        };
        Ok(TlsCertificates { client_tls, root_cert })
    }
}

impl From<&str> for RedisSource {
    fn from(url: &str) -> Self {
        Self { url: Secret::from(url), tls: RedisTls::default() }
    }
}

impl From<String> for RedisSource {
    fn from(url: String) -> Self {
        Self::from(url.as_str())
    }
}

impl RedisSource {
    /// The address now.
    ///
    /// # Errors
    /// When a file cannot be read, or the URL has a part that is not supported. Names no password.
    pub fn read(&self) -> Result<RedisAddress, String> {
        self.try_read().map_err(|(setting, reason)| format!("{setting}: {reason}"))
    }

    /// Checks the settings and the files that they name.
    ///
    /// # Errors
    /// The name of the first setting that cannot be used, and why.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        self.try_read().map(drop)
    }

    fn try_read(&self) -> Result<RedisAddress, (&'static str, String)> {
        let setting = match self.url {
            Secret::Value(_) => "REDIS_URL",
            Secret::File(_) => "REDIS_URL_FILE",
        };
        let in_url = |reason| (setting, reason);
        let text = self.url.read().map_err(in_url)?;
        let address = RedisAddress::parse(&text).map_err(in_url)?;
        match address.uses_tls() {
            true => {
                let secured = address.with_certificates(&self.tls.read()?);
                secured.map_err(|error| ("REDIS_TLS_CA", error.to_string()))
            }
            false => self.tls.must_be_empty().map(|()| address),
        }
    }
}
