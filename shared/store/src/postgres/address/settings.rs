//! The parameters from the URL and from the environment, and what they mean now.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

use millrace_address::{Secret, read_client, read_roots, system_roots};
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use super::conninfo::{self, FORM};
use super::environment::Environment;
use super::options::{self, OPTIONS};
use super::passfile::{self, Wanted};
use super::tls::{self, Mode};

/// Without a URL, what the environment leaves out.
const DEFAULTS: [(&str, &str); 2] = [("host", "127.0.0.1"), ("dbname", "millrace")];
const DEFAULT_PORT: u16 = 5432;
pub(super) const URL: &str = "DATABASE_URL";

/// A setting that cannot be used. Names no password.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{setting}: {reason}")]
pub struct SourceError {
    /// The variable, such as `DATABASE_URL` or `PGSSLMODE`.
    pub setting: &'static str,
    pub reason: String,
}

/// What the source means now.
pub(in crate::postgres) struct Address {
    /// One configuration for each host, in the order of the setting.
    pub(in crate::postgres) hosts: Vec<Config>,
    pub(in crate::postgres) mode: Mode,
    pub(in crate::postgres) tls: ClientConfig,
}

/// Checks a URL, or `name=value` pairs, without the files that it names and without the environment.
///
/// # Errors
/// When it has a part that is not supported. The text names every such part, and begins with "expected".
pub fn check_url(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err(FORM.to_owned());
    }
    let mut settings = Settings { url: URL, given: BTreeMap::new() };
    settings.take_url(text).and_then(|()| settings.config(|_| true)).map(drop).map_err(|error| error.reason)
}

struct Given {
    value: String,
    setting: &'static str,
}

/// All parameters, with the setting that each comes from.
pub(super) struct Settings {
    /// The setting of the URL.
    url: &'static str,
    given: BTreeMap<&'static str, Given>,
}

impl Settings {
    pub(super) fn read(url: Option<&Secret>, environment: &Environment) -> Result<Self, SourceError> {
        let setting = match url {
            Some(Secret::File(_)) => "DATABASE_URL_FILE",
            _ => URL,
        };
        let mut settings = Self { url: setting, given: BTreeMap::new() };
        if let Some(url) = url {
            let text = url.read().map_err(|reason| SourceError { setting, reason })?;
            settings.take_url(&text)?;
        }
        settings.take_environment(environment)?;
        if url.is_none() {
            for (name, value) in DEFAULTS {
                let given = Given { value: value.to_owned(), setting };
                settings.given.entry(name).or_insert(given);
            }
        }
        if ["host", "hostaddr"].iter().all(|name| settings.value(name).is_none()) {
            return Err(SourceError { setting, reason: format!("{FORM}: it names no host") });
        }
        Ok(settings)
    }

    fn take_url(&mut self, text: &str) -> Result<(), SourceError> {
        let setting = self.url;
        let refused = |reason: String| SourceError { setting, reason };
        let mut faults = Vec::new();
        for (name, value) in conninfo::parse(text).map_err(refused)? {
            let Some(row) = options::find(&name) else {
                faults.push(format!("without {name}: it is not supported"));
                continue;
            };
            match row.fault(&value) {
                Some(advice) => faults.push(format!("without {name}={}: {advice}", shown(row.name, &value))),
                None => drop(self.given.insert(row.name, Given { value, setting })),
            }
        }
        match faults.is_empty() {
            true => Ok(()),
            false => Err(refused(format!("{FORM}, {}", faults.join("; ")))),
        }
    }

    fn take_environment(&mut self, environment: &Environment) -> Result<(), SourceError> {
        for row in OPTIONS {
            let Some(value) = environment.get(row.variable) else { continue };
            if self.given.contains_key(row.name) {
                continue;
            }
            if let Some(advice) = row.fault(value) {
                let reason = format!("{:?} is not supported; unset it, or: {advice}", shown(row.name, value));
                return Err(SourceError { setting: row.variable, reason });
            }
            self.given.insert(row.name, Given { value: value.to_owned(), setting: row.variable });
        }
        Ok(())
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.given.get(name).map(|given| given.value.as_str()).filter(|value| !value.is_empty())
    }

    /// An error about one parameter.
    fn fault(&self, name: &str, reason: impl fmt::Display) -> SourceError {
        match self.given.get(name) {
            Some(given) if given.setting != self.url => {
                SourceError { setting: given.setting, reason: reason.to_string() }
            }
            _ => SourceError { setting: self.url, reason: format!("{name}: {reason}") },
        }
    }

    pub(super) fn address(&self, environment: &Environment) -> Result<Address, SourceError> {
        let full = self.config(|_| true)?;
        let base = self.config(|name| !matches!(name, "host" | "hostaddr" | "port"))?;
        let (hosts, addresses, ports) = (full.get_hosts(), full.get_hostaddrs(), full.get_ports());
        let count = hosts.len().max(addresses.len());
        if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
            return Err(self.fault("hostaddr", "it needs as many addresses as there are hosts"));
        }
        if ports.len() > 1 && ports.len() != count {
            return Err(self.fault("port", "it needs one port, or as many as there are hosts"));
        }
        let mut places = Vec::new();
        for at in 0..count {
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(DEFAULT_PORT);
            let mut place = base.clone();
            place.port(port);
            // TLS needs a name to check, and an address is one.
            let host = match (hosts.get(at), addresses.get(at)) {
                (Some(Host::Unix(path)), _) => path.display().to_string(),
                (Some(Host::Tcp(host)), _) => host.clone(),
                (None, address) => address.map(ToString::to_string).unwrap_or_default(),
            };
            place.host(&host);
            if let Some(address) = addresses.get(at) {
                place.hostaddr(*address);
            }
            if place.get_password().is_none()
                && let Some(password) = self.password(environment, &host, port)
            {
                place.password(password);
            }
            places.push(place);
        }
        let (mode, tls) = self.tls(environment)?;
        Ok(Address { hosts: places, mode, tls })
    }

    /// The configuration of the client library, from these parameters.
    fn config(&self, is_wanted: impl Fn(&str) -> bool) -> Result<Config, SourceError> {
        let own = |name: &str| {
            matches!(name, "passfile" | "sslmode" | "sslrootcert" | "sslcert" | "sslkey" | "gssencmode")
                || name.starts_with("ssl")
        };
        let pairs = self.given.iter().filter(|(name, given)| {
            is_wanted(name)
                && !own(name)
                && !given.value.is_empty()
                && options::find(name).is_some_and(options::OptionRow::is_used)
        });
        let pairs = pairs.map(|(name, given)| match (*name, given.value.as_str()) {
            ("target_session_attrs", "primary") => (*name, "read-write"),
            pair => pair,
        });
        let parsed: Result<Config, _> = conninfo::to_words(pairs).parse();
        parsed.map_err(|error: tokio_postgres::Error| {
            let cause =
                std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            let bad = self.given.iter().find(|(name, _)| cause.contains(&format!("`{name}`")));
            match bad {
                Some((_, given)) if given.setting != self.url => {
                    SourceError { setting: given.setting, reason: cause }
                }
                _ => SourceError { setting: self.url, reason: format!("{FORM}: {cause}") },
            }
        })
    }

    fn password(&self, environment: &Environment, host: &str, port: u16) -> Option<String> {
        let path = match self.value("passfile") {
            Some(path) => PathBuf::from(path),
            None => environment.home(".pgpass")?,
        };
        let system_user = environment.get("USER").unwrap_or_default();
        let user = self.value("user").unwrap_or(system_user);
        let database = self.value("dbname").unwrap_or(user);
        passfile::password(&path, Wanted { host, port, database, user })
    }

    /// The mode, and the settings of TLS for it.
    fn tls(&self, environment: &Environment) -> Result<(Mode, ClientConfig), SourceError> {
        let root = self.value("sslrootcert");
        let default = if root == Some("system") { Mode::VerifyFull } else { Mode::Prefer };
        let mode = self.value("sslmode").and_then(Mode::parse).unwrap_or(default);
        if mode == Mode::Disable {
            if self.value("channel_binding") == Some("require") {
                return Err(self.fault("channel_binding", "require needs TLS, and sslmode is disable"));
            }
            let plain = tls::client_config(mode, None, None);
            return plain.map(|tls| (mode, tls)).map_err(|reason| self.fault("sslmode", reason));
        }
        if root == Some("system") && mode != Mode::VerifyFull {
            return Err(self.fault("sslmode", "sslrootcert=system needs sslmode=verify-full"));
        }
        let roots = self.roots(environment, mode)?;
        let client = match self.client_files(environment)? {
            None => None,
            Some((certificate, key)) => {
                Some(read_client(&certificate, &key).map_err(|reason| self.fault("sslcert", reason))?)
            }
        };
        // As in libpq, a file with a CA makes `require` check the chain.
        let mode = if mode == Mode::Require && roots.is_some() { Mode::VerifyCa } else { mode };
        let config = tls::client_config(mode, roots, client);
        config.map(|tls| (mode, tls)).map_err(|reason| self.fault("sslmode", reason))
    }

    /// The certificates to check that of the server with. `None`: it is not checked.
    fn roots(&self, environment: &Environment, mode: Mode) -> Result<Option<RootCertStore>, SourceError> {
        if mode < Mode::Require {
            return Ok(None);
        }
        let refused = |reason: String| self.fault("sslrootcert", reason);
        let home = || environment.home(".postgresql/root.crt").filter(|path| path.exists());
        let path = match self.value("sslrootcert") {
            Some("system") => return trusted_by_system().map(Some).map_err(refused),
            Some(path) => Some(PathBuf::from(path)),
            None => home(),
        };
        match path {
            Some(path) => read_roots(&path).map(|roots| Some(roots.parsed)).map_err(refused),
            None if mode == Mode::Require => Ok(None),
            None => Err(self.fault(
                "sslmode",
                "verify-ca and verify-full need sslrootcert: the file with the CA of the server, or system",
            )),
        }
    }

    /// The files with the certificate of this program and its key.
    fn client_files(&self, environment: &Environment) -> Result<Option<(PathBuf, PathBuf)>, SourceError> {
        let file = |name: &str, usual: &str| match self.value(name) {
            Some(path) => Some(PathBuf::from(path)),
            None => environment.home(usual).filter(|path| path.exists()),
        };
        let certificate = file("sslcert", ".postgresql/postgresql.crt");
        match (certificate, file("sslkey", ".postgresql/postgresql.key")) {
            (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
            (Some(_), None) => {
                Err(self
                    .fault("sslcert", "it needs sslkey, the file with the private key of the certificate"))
            }
            (None, Some(_)) if self.value("sslkey").is_some() => {
                Err(self.fault("sslkey", "it needs sslcert, the file with the certificate of the key"))
            }
            (None, _) => Ok(None),
        }
    }
}

/// Read once, because it takes milliseconds.
fn trusted_by_system() -> Result<RootCertStore, String> {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(roots.clone());
    }
    let roots = system_roots()?;
    Ok(ROOTS.get_or_init(|| roots).clone())
}

/// The value of a parameter, for an error. Those that can be a password never have a fault.
fn shown(name: &str, value: &str) -> String {
    let is_secret = name.contains("password") || value.len() > 40 || value.contains(['@', ':']);
    if is_secret { "…".to_owned() } else { value.to_owned() }
}
