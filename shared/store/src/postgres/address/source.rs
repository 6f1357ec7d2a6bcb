//! Where PostgreSQL is, as it was set.

use millrace_address::Secret;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::environment::Environment;
use super::settings::{Address, Settings, SourceError, URL};
use super::tls::{self, Mode};

/// Where PostgreSQL is. Read again for every connection.
#[derive(Clone, Debug)]
pub enum PostgresSource {
    Settings {
        /// `None`: libpq's environment, and 127.0.0.1:5432/millrace for what it leaves out.
        url: Option<Secret>,
        environment: Environment,
    },
    /// A configuration of the client library, used without TLS unless it requires TLS.
    Config(Box<Config>),
}

impl From<Config> for PostgresSource {
    fn from(config: Config) -> Self {
        Self::Config(Box::new(config))
    }
}

/// A URL alone, without libpq's environment.
impl From<&str> for PostgresSource {
    fn from(url: &str) -> Self {
        Self::Settings { url: Some(Secret::from(url)), environment: Environment::default() }
    }
}

impl PostgresSource {
    /// Checks the settings and the files that they name.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn check(&self) -> Result<(), SourceError> {
        self.read().map(drop)
    }

    pub(in crate::postgres) fn read(&self) -> Result<Address, SourceError> {
        match self {
            Self::Config(config) => of_config(config),
            Self::Settings { url, environment } => {
                Settings::read(url.as_ref(), environment)?.address(environment)
            }
        }
    }
}

fn of_config(config: &Config) -> Result<Address, SourceError> {
    let fault = |reason| SourceError { setting: URL, reason };
    let mode = if config.get_ssl_mode() == SslMode::Require { Mode::Require } else { Mode::Disable };
    let tls = tls::client_config(mode, None, None).map_err(fault)?;
    Ok(Address { hosts: vec![config.clone()], mode, tls })
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::Host;

    use super::super::settings::check_url;
    use super::*;

    #[test]
    fn every_parameter_of_a_url_that_is_not_supported_is_named() {
        for (parameters, expected) in [
            ("sslmode=maybe", &["without sslmode=maybe: use disable"][..]),
            ("sslnegotiation=direct", &["without sslnegotiation=direct"]),
            (
                "sslcrl=/crl&sslpassword=hunter2&ssl=true",
                &["without sslcrl", "without sslpassword", "without ssl="],
            ),
            (
                "schema=app&pgbouncer=true",
                &["without schema=app", "without pgbouncer=true", "pool_mode=session"],
            ),
            ("connection_limit=5&pool_timeout=3", &["connection_limit", "pool_timeout"]),
            ("channel_binding=never", &["use disable, prefer or require"]),
            ("target_session_attrs=read-only", &["read-write or primary"]),
            ("options=-csearch_path%3Dapp", &["without options", "search_path"]),
            (
                "service=x&gssencmode=require&anything=z",
                &["service", "GSSAPI", "without anything: it is not"],
            ),
            ("port=many", &["option `port`"]),
        ] {
            let text = format!("postgres://u:hunter2@h/d?{parameters}");
            let refused = check_url(&text).expect_err(&text);
            assert!(refused.starts_with("expected postgres://"), "{refused}");
            assert!(expected.iter().all(|part| refused.contains(part)), "{text}: {refused}");
            assert!(!refused.contains("hunter2"), "{refused}");
        }
        for text in [
            "postgres://u:p@h/d",
            "postgresql://u:p@h1,h2:5433/d?sslmode=verify-full&sslrootcert=/ca&target_session_attrs=primary",
            "host=/run/postgresql user=u dbname=d keepalives_idle=5",
        ] {
            check_url(text).expect(text);
        }
    }

    fn read(url: Option<&str>, variables: &[(&'static str, &str)]) -> Result<Address, SourceError> {
        let environment = variables.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        PostgresSource::Settings { url: url.map(Secret::from), environment }.read()
    }

    #[test]
    fn the_environment_of_libpq_fills_in_what_the_url_leaves_out() {
        let first = |url, variables: &[(&'static str, &str)]| read(url, variables).unwrap().hosts.remove(0);
        let variables = [("PGHOST", "db"), ("PGPORT", "7"), ("PGUSER", "app"), ("PGPASSWORD", "secret")];
        let from_variables = first(None, &variables);
        assert_eq!(from_variables.get_hosts(), [Host::Tcp("db".to_owned())]);
        assert_eq!((from_variables.get_ports(), from_variables.get_dbname()), (&[7][..], Some("millrace")));
        assert_eq!(
            (from_variables.get_user(), from_variables.get_password()),
            (Some("app"), Some(&b"secret"[..]))
        );
        let of_url = first(Some("postgres://u:p@h/d"), &variables);
        assert_eq!(of_url.get_hosts(), [Host::Tcp("h".to_owned())]);
        assert_eq!(
            (of_url.get_ports(), of_url.get_dbname(), of_url.get_user()),
            (&[7][..], Some("d"), Some("u"))
        );
        let bare = first(None, &[]);
        assert_eq!(
            (bare.get_hosts(), bare.get_ports()),
            (&[Host::Tcp("127.0.0.1".to_owned())][..], &[5432][..])
        );
        let both = read(Some("postgres://h1:1,h2:2/d"), &[("PGSSLMODE", "require")]).unwrap();
        assert_eq!((both.hosts.len(), both.mode), (2, Mode::Require));
    }

    #[test]
    fn a_variable_that_cannot_be_used_is_named() {
        for (variable, value, expected) in [
            ("PGSERVICE", "x", "service files are not read"),
            ("PGSSLMODE", "maybe", "use disable"),
            ("PGSSLCRL", "/crl", "revoked"),
            ("PGGSSENCMODE", "require", "GSSAPI"),
            ("PGPORT", "many", "port"),
            ("PGSSLKEY", "/key", "needs sslcert"),
        ] {
            let refused = read(Some("postgres://h/d"), &[(variable, value)]).err().expect(variable);
            assert!(refused.setting == variable && refused.reason.contains(expected), "{refused}");
        }
        let refused = read(Some("postgres://h/d?sslrootcert=system&sslmode=require"), &[]).err().unwrap();
        assert!(refused.reason.contains("needs sslmode=verify-full"), "{refused}");
        let refused = read(Some("postgres:///d"), &[]).err().unwrap();
        assert!(refused.reason.contains("it names no host"), "{refused}");
    }
}
