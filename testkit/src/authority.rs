//! A CA of the test, made with openssl, and the certificates that it signs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::cluster::give_to_server;
use crate::folder::Folder;
use crate::process::{find_program, mortal, spawn};

const INSTALL: &str = "install openssl (Debian: apt-get install openssl)";
const NEW_KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];

/// A CA. Dropping it removes its files.
#[derive(Debug)]
pub struct Authority {
    folder: Folder,
}

/// The files of a certificate and of its private key.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Authority {
    /// Makes a CA with a new key.
    ///
    /// # Panics
    /// When openssl fails; the message says what to install.
    pub fn create() -> Self {
        let authority = Self { folder: Folder::create_open() };
        let folder = authority.folder.path();
        fs::write(folder.join("index.txt"), "").expect("a new folder is writable");
        let config = format!(
            "[ca]\ndefault_ca=this\n[this]\ndatabase={0}/index.txt\nnew_certs_dir={0}\ncertificate={0}/ca.pem\n\
             private_key={0}/ca.key\nrand_serial=yes\ndefault_md=sha256\npolicy=any\nunique_subject=no\n\
             [any]\ncommonName=supplied\n",
            folder.display()
        );
        fs::write(folder.join("ca.cnf"), config).expect("a new folder is writable");
        let files = ["-keyout", "ca.key", "-out", "ca.pem", "-days", "3650", "-subj", "/CN=test CA"];
        authority.openssl(&[&["req", "-x509"][..], &NEW_KEY, &files].concat());
        authority
    }

    /// The certificate of the CA.
    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Signs a certificate for these names, such as `DNS:localhost,IP:127.0.0.1`.
    ///
    /// # Panics
    /// When openssl fails.
    pub fn sign(&self, file: &str, names: &str) -> Certificate {
        self.sign_for(file, names, ("20250101000000Z", "20991231000000Z"))
    }

    /// Signs a certificate that has expired.
    ///
    /// # Panics
    /// When openssl fails.
    pub fn sign_expired(&self, file: &str, names: &str) -> Certificate {
        self.sign_for(file, names, ("20240101000000Z", "20250101000000Z"))
    }

    fn sign_for(&self, file: &str, names: &str, (start, end): (&str, &str)) -> Certificate {
        let name = |extension: &str| format!("{file}.{extension}");
        let (key, request, certificate, extensions) = (name("key"), name("csr"), name("pem"), name("ext"));
        let folder = self.folder.path();
        fs::write(folder.join(&extensions), format!("subjectAltName={names}\n"))
            .expect("the folder is writable");
        let subject = format!("/CN={file}");
        let files = ["-keyout", &key, "-out", &request, "-subj", &subject];
        self.openssl(&[&["req", "-new"][..], &NEW_KEY, &files].concat());
        self.openssl(&[
            "ca",
            "-batch",
            "-notext",
            "-config",
            "ca.cnf",
            "-in",
            &request,
            "-out",
            &certificate,
            "-extfile",
            &extensions,
            "-startdate",
            start,
            "-enddate",
            end,
        ]);
        // PostgreSQL refuses a key that others own or may read.
        give_to_server(&folder.join(&key));
        Certificate { certificate: folder.join(&certificate), key: folder.join(&key) }
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = mortal(&find_program("openssl", &[], INSTALL));
        command.args(arguments).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output =
            spawn(command).and_then(std::process::Child::wait_with_output).expect("openssl can be run");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments:?} failed: {error}");
    }
}

impl Certificate {
    /// Settings that make a PostgreSQL use this certificate.
    ///
    /// # Panics
    /// When a path is not UTF-8.
    pub fn postgres_settings(&self) -> [(&'static str, &str); 3] {
        [("ssl", "on"), ("ssl_cert_file", text(&self.certificate)), ("ssl_key_file", text(&self.key))]
    }

    /// Settings that make a Redis use this certificate on a second port. `clients` says whether it demands a
    /// certificate of its clients, which `ca` signs.
    ///
    /// # Panics
    /// When a path is not UTF-8.
    pub fn redis_settings<'a>(
        &'a self,
        port: &'a str,
        ca: &'a Path,
        demands: &'a str,
    ) -> [(&'static str, &'a str); 5] {
        [
            ("tls-port", port),
            ("tls-cert-file", text(&self.certificate)),
            ("tls-key-file", text(&self.key)),
            ("tls-ca-cert-file", text(ca)),
            ("tls-auth-clients", demands),
        ]
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}
