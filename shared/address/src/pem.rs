//! Certificates and private keys in PEM files, and the cryptography that TLS uses.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Makes ring the cryptography of every TLS connection of this process. Safe to repeat.
pub fn install_crypto() {
    // An error says that a provider is installed already, and this process has no other.
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// The content of a PEM file that was checked.
#[derive(Clone)]
pub struct Pem<T> {
    /// As in the file.
    pub text: Vec<u8>,
    pub parsed: T,
}

/// The certificate of this program and its private key. It has no `Debug`, so no key can be shown.
pub struct ClientCertificate {
    pub chain: Pem<Vec<CertificateDer<'static>>>,
    pub key: Pem<PrivateKeyDer<'static>>,
}

/// The certificates of a file; at least one.
///
/// # Errors
/// When the file cannot be read or has no certificate; names the file.
pub fn read_certificates(path: &Path) -> Result<Pem<Vec<CertificateDer<'static>>>, String> {
    let text = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let shown = path.display();
    let parsed = certificates.map_err(|error| format!("the file {shown} is not valid PEM: {error}"))?;
    if parsed.is_empty() {
        return Err(format!("the file {shown} has no certificate in PEM (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(Pem { text, parsed })
}

/// The certificates of a file, as those that sign the certificates of servers.
///
/// # Errors
/// As [`read_certificates`], and when one cannot be parsed.
pub fn read_roots(path: &Path) -> Result<Pem<RootCertStore>, String> {
    let Pem { text, parsed } = read_certificates(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in parsed {
        roots.add(certificate).map_err(|error| {
            format!("the file {} has a certificate that cannot be used: {error}", path.display())
        })?;
    }
    Ok(Pem { text, parsed: roots })
}

/// The certificates that the operating system trusts.
///
/// # Errors
/// When it has none.
pub fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    match roots.is_empty() {
        false => Ok(roots),
        true => Err("this system trusts no certificates: install the package ca-certificates, \
                     or name the file with the CA of the server"
            .to_owned()),
    }
}

/// The certificate of this program with its key.
///
/// # Errors
/// When a file cannot be read, is not PEM, or the key does not belong to the certificate; names the file.
pub fn read_client(certificate: &Path, key: &Path) -> Result<ClientCertificate, String> {
    let chain = read_certificates(certificate)?;
    let text = read(key)?;
    let parsed = PrivateKeyDer::from_pem_slice(&text).map_err(|error| key_fault(key, &text, &error))?;
    install_crypto();
    let pair = rustls::ClientConfig::builder()
        .with_root_certificates(RootCertStore::empty())
        .with_client_auth_cert(chain.parsed.clone(), parsed.clone_key());
    pair.map_err(|error| {
        let (key, certificate) = (key.display(), certificate.display());
        format!("the key in {key} cannot be used with the certificate in {certificate}: {error}")
    })?;
    Ok(ClientCertificate { chain, key: Pem { text, parsed } })
}

fn key_fault(path: &Path, text: &[u8], error: &pem::Error) -> String {
    let shown = path.display();
    if String::from_utf8_lossy(text).contains("ENCRYPTED") {
        return format!(
            "the private key in {shown} is encrypted, which is not supported: decrypt it with `openssl pkey`, and let \
             only the user of the service read the file"
        );
    }
    match error {
        pem::Error::NoItemsFound => {
            format!("the file {shown} has no private key in PEM (-----BEGIN PRIVATE KEY-----)")
        }
        error => format!("the file {shown} is not valid PEM: {error}"),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("the file {} cannot be read: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_not_what_it_should_be_is_named_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let empty = file("empty.pem", "nothing\n");
        let broken =
            file("broken.pem", "-----BEGIN CERTIFICATE-----\nbm90IERFUg==\n-----END CERTIFICATE-----\n");
        let encrypted = file(
            "key.pem",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        );
        let refusals = [
            (read_roots(&folder.path().join("none.pem")).err(), "none.pem cannot be read"),
            (read_roots(&empty).err(), "empty.pem has no certificate in PEM"),
            (read_roots(&broken).err(), "broken.pem has a certificate that cannot be used"),
            (read_client(&broken, &empty).err(), "empty.pem has no private key in PEM"),
            (read_client(&broken, &encrypted).err(), "key.pem is encrypted, which is not supported"),
        ];
        for (refused, expected) in refusals {
            let refused = refused.unwrap();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
