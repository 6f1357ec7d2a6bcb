//! The address of Redis: how the primary of a shard is found, and the parts of a URL that Millrace supports.
//!
//! | URL | the primary |
//! |---|---|
//! | `redis://HOST:PORT/DB`, `redis+unix:///PATH` | is that server |
//! | `redis+sentinel://HOST:PORT,HOST:PORT/NAME/DB` | is the one that the Sentinels call NAME |
//! | `redis+cluster://HOST:PORT,HOST:PORT` | of a shard is the one that holds its slot |
//!
//! `rediss` in place of `redis` uses TLS. The redis library refuses a URL without a word about the part that
//! is wrong, or ignores a part that it does not know. This module must never repeat a part of a URL that may
//! be a password.

use std::fmt;

use millrace_address::{install_crypto, is_name, query_pairs};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, RedisError,
    TlsCertificates,
};

const FORM: &str = "expected redis://USER:PASSWORD@HOST:PORT/DB, redis+unix:///PATH, \
                    redis+sentinel://HOST:PORT,HOST:PORT/NAME or redis+cluster://HOST:PORT,HOST:PORT";
const SENTINEL_PORT: u16 = 26_379;
const REDIS_PORT: u16 = 6_379;

/// How the primary is found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Discovery {
    /// It is the server of the address.
    Fixed,
    /// The Sentinels know it under this name.
    Sentinel { name: String },
    /// The nodes of the cluster know which of them holds a slot.
    Cluster,
}

/// A parsed address.
#[derive(Clone)]
pub struct RedisAddress {
    pub(super) discovery: Discovery,
    /// The servers of the URL: the only one, the Sentinels, or nodes of the cluster.
    pub(super) seeds: Vec<ConnectionInfo>,
    /// How to connect to a primary: user, password, database and TLS. Its address is that of the first seed.
    primary: ConnectionInfo,
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("RedisAddress").field("discovery", &self.discovery).finish_non_exhaustive()
    }
}

impl RedisAddress {
    /// Parses the URL of a Redis server, of Sentinels or of a cluster.
    ///
    /// # Errors
    /// When it has a part that is not supported. The text names every such part, and begins with "expected".
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = Parts::of(text).map_err(|fault| format!("{FORM}: {fault}"))?;
        let faults = parts.faults();
        if !faults.is_empty() {
            return Err(format!("{FORM}: {}", faults.join("; ")));
        }
        parts.address().ok_or_else(|| FORM.to_owned())
    }

    pub(super) fn uses_tls(&self) -> bool {
        matches!(self.primary.addr(), ConnectionAddr::TcpTls { .. })
    }

    /// The same address, whose connections use these certificates.
    pub(super) fn with_certificates(self, certificates: &TlsCertificates) -> Result<Self, RedisError> {
        install_crypto();
        let with = |info: ConnectionInfo| {
            let client = Client::build_with_tls(info, certificates.clone());
            client.map(|client| client.get_connection_info().clone())
        };
        let seeds: Result<Vec<_>, _> = self.seeds.into_iter().map(with).collect();
        Ok(Self { discovery: self.discovery, seeds: seeds?, primary: with(self.primary)? })
    }

    /// How to connect to the primary at this place.
    pub(super) fn primary_at(&self, host: &str, port: u16) -> ConnectionInfo {
        let (host, place) = (host.to_owned(), self.primary.addr().clone());
        self.primary.clone().set_addr(match place {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure, tls_params }
            }
            _ => ConnectionAddr::Tcp(host, port),
        })
    }

    /// How to connect to the only server of a fixed address.
    pub(super) fn fixed(&self) -> &ConnectionInfo {
        &self.primary
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Unix,
    Sentinel,
    Cluster,
}

/// A URL in pieces.
struct Parts<'a> {
    text: &'a str,
    kind: Kind,
    tls: bool,
    /// `USER:PASSWORD@`, or nothing.
    user: &'a str,
    hosts: Vec<&'a str>,
    /// Between the hosts and the query, without slashes at its ends.
    path: &'a str,
    query: Vec<(String, String)>,
    fragment: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once(':').filter(|(scheme, _)| is_name(scheme)) else {
            return Err("it does not begin with redis:".to_owned());
        };
        let (kind, tls) = match scheme {
            "redis" | "valkey" => (Kind::Tcp, false),
            "rediss" | "valkeys" => (Kind::Tcp, true),
            "redis+unix" | "valkey+unix" | "unix" => (Kind::Unix, false),
            "redis+sentinel" | "redis-sentinel" | "valkey+sentinel" => (Kind::Sentinel, false),
            "rediss+sentinel" | "rediss-sentinel" | "valkeys+sentinel" => (Kind::Sentinel, true),
            "redis+cluster" | "redis-cluster" | "valkey+cluster" => (Kind::Cluster, false),
            "rediss+cluster" | "rediss-cluster" | "valkeys+cluster" => (Kind::Cluster, true),
            _ => return Err(format!("the scheme {scheme} is not supported")),
        };
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let rest = rest.trim_start_matches('/');
        let (user, after_user) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (place, query) = after_user.split_once('?').unwrap_or((after_user, ""));
        let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
        Ok(Self {
            text,
            kind,
            tls,
            user,
            hosts: hosts.split(',').map(str::trim).filter(|host| !host.is_empty()).collect(),
            path: path.trim_matches('/'),
            query: query_pairs(query).collect(),
            fragment,
        })
    }

    /// Everything that is not supported.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if !self.fragment.is_empty() {
            faults.push("without a part after #: certificates are always checked".to_owned());
        }
        if self.kind != Kind::Unix && self.hosts.is_empty() {
            faults.push("it names no host".to_owned());
        }
        if self.kind == Kind::Tcp && self.hosts.len() > 1 {
            faults.push("several hosts need redis+sentinel: or redis+cluster:".to_owned());
        }
        if self.kind == Kind::Sentinel && self.master_name().is_empty() {
            faults.push("the name of the primary is missing after the hosts, as in /mymaster".to_owned());
        }
        let database = self.database();
        if self.kind != Kind::Unix && !database.is_empty() && database.parse::<u32>().is_err() {
            faults.push("DB must be a whole number, such as 0".to_owned());
        } else if self.kind == Kind::Cluster && !matches!(database, "" | "0") {
            faults.push("a cluster has the database 0 only: remove the part after the hosts".to_owned());
        }
        let named = self.query.iter().map(|(name, _)| name.as_str());
        faults.extend(named.filter_map(|name| self.parameter_fault(name)));
        faults
    }

    fn parameter_fault(&self, name: &str) -> Option<String> {
        let supported: &[&str] = match self.kind {
            Kind::Unix => &["db", "user", "pass", "protocol"],
            Kind::Sentinel => &["protocol", "sentinel_user", "sentinel_password"],
            Kind::Tcp | Kind::Cluster => &["protocol"],
        };
        if supported.contains(&name) {
            return None;
        }
        Some(match name {
            "db" => "the parameter db is not supported: write the number after the port, as in /0".to_owned(),
            "password" | "username" | "user" | "pass" => {
                format!("the parameter {name} is not supported: write USER:PASSWORD@ before the host")
            }
            _ if name.starts_with("ssl") || name.starts_with("tls") => format!(
                "the parameter {name} is not supported: begin with rediss:, and set REDIS_TLS_CA, REDIS_TLS_CERT and \
                 REDIS_TLS_KEY to files"
            ),
            _ => format!("the parameter {name} is not supported: remove it"),
        })
    }

    fn master_name(&self) -> &'a str {
        self.path.split('/').next().unwrap_or_default()
    }

    fn database(&self) -> &'a str {
        match self.kind {
            Kind::Sentinel => self.path.split_once('/').map_or("", |(_, database)| database),
            _ => self.path,
        }
    }

    /// `None` when the library does not understand a part.
    fn address(&self) -> Option<RedisAddress> {
        if self.kind == Kind::Unix {
            let primary = self.text.into_connection_info().ok()?;
            return Some(RedisAddress { discovery: Discovery::Fixed, seeds: vec![primary.clone()], primary });
        }
        let primaries: Option<Vec<_>> = self.hosts.iter().map(|host| self.server(host)).collect();
        let mut seeds = primaries?;
        let primary = seeds.first()?.clone();
        let discovery = match self.kind {
            Kind::Sentinel => Discovery::Sentinel { name: self.master_name().to_owned() },
            Kind::Cluster => Discovery::Cluster,
            Kind::Tcp | Kind::Unix => Discovery::Fixed,
        };
        if self.kind == Kind::Sentinel {
            // The user before the hosts is that of the primary.
            let settings = self.sentinel_settings()?;
            seeds = seeds.into_iter().map(|seed| seed.set_redis_settings(settings.clone())).collect();
        }
        Some(RedisAddress { discovery, seeds, primary })
    }

    /// One host of the URL as the library reads it.
    fn server(&self, host: &str) -> Option<ConnectionInfo> {
        let scheme = if self.tls { "rediss" } else { "redis" };
        let at = if self.user.is_empty() { "" } else { "@" };
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
        let port = match (has_port, self.kind) {
            (true, _) => String::new(),
            (false, Kind::Sentinel) => format!(":{SENTINEL_PORT}"),
            (false, _) => format!(":{REDIS_PORT}"),
        };
        let protocol = self.query.iter().find(|(name, _)| name == "protocol");
        let query = protocol.map_or_else(String::new, |(name, value)| format!("?{name}={value}"));
        let (user, database) = (self.user, self.database());
        format!("{scheme}://{user}{at}{host}{port}/{database}{query}").into_connection_info().ok()
    }

    fn sentinel_settings(&self) -> Option<RedisConnectionInfo> {
        let value = |wanted: &str| self.query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        let mut settings = RedisConnectionInfo::default();
        if let Some(password) = value("sentinel_password") {
            settings = settings.set_password(password);
        }
        if let Some(user) = value("sentinel_user") {
            settings = settings.set_username(user);
        }
        Some(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        RedisAddress::parse(text).map(|_| ()).expect_err(text)
    }

    #[test]
    fn every_part_of_a_redis_url_that_is_not_supported_is_named() {
        for (text, expected) in [
            ("http://h", "the scheme http is not supported"),
            ("h", "it does not begin with redis:"),
            ("redis://a:1,b:2/0", "several hosts need redis+sentinel: or redis+cluster:"),
            ("redis://h/zero", "DB must be a whole number"),
            ("rediss://h/0#insecure", "without a part after #: certificates are always checked"),
            ("redis://h/0?timeout=5", "the parameter timeout is not supported"),
            ("redis://h?db=2", "write the number after the port"),
            ("redis://h/0?ssl_cert_reqs=none", "set REDIS_TLS_CA"),
            ("redis://h/0?password=hunter2", "write USER:PASSWORD@ before the host"),
            ("redis+unix:///r.sock?timeout=1", "the parameter timeout is not supported"),
            ("redis+sentinel://h:26379", "the name of the primary is missing"),
            ("redis+sentinel://h/name/zero", "DB must be a whole number"),
            ("redis+cluster://a,b/3", "a cluster has the database 0 only"),
            ("redis+cluster://", "it names no host"),
        ] {
            let refused = refused(text);
            assert!(refused.starts_with("expected redis://") && refused.contains(expected), "{refused}");
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn supported_redis_urls_are_taken_with_every_host() {
        for (text, seeds) in [
            ("redis://h", 1),
            ("redis://u:p%40w@h:7/3", 1),
            ("redis://[::1]:6379/0", 1),
            ("redis://h/0?protocol=resp3", 1),
            ("redis+unix:///r.sock?db=2&pass=x", 1),
            ("unix:///r.sock", 1),
            ("valkey://h/1", 1),
            ("rediss://h/0", 1),
            ("redis+sentinel://u:p@a:1,b,[::1]/mymaster/2?sentinel_password=s", 3),
            ("rediss+cluster://u:p@a:1,b:2,c:3", 3),
        ] {
            assert_eq!(RedisAddress::parse(text).expect(text).seeds.len(), seeds, "{text}");
        }
    }

    #[test]
    fn sentinels_get_their_own_password_and_the_primary_that_of_the_url() {
        let text = "redis+sentinel://app:word%21@a,b:7/mymaster/2?sentinel_password=other";
        let address = RedisAddress::parse(text).unwrap();
        assert_eq!(address.discovery, Discovery::Sentinel { name: "mymaster".to_owned() });
        let at = |info: &ConnectionInfo| info.addr().to_string();
        assert_eq!(address.seeds.iter().map(at).collect::<Vec<_>>(), ["a:26379", "b:7"]);
        assert_eq!(address.seeds[0].redis_settings().password(), Some("other"));
        let primary = address.primary_at("c", 9);
        assert_eq!((at(&primary).as_str(), primary.redis_settings().password()), ("c:9", Some("word!")));
        assert_eq!(primary.redis_settings().db(), 2);
    }

    #[test]
    fn a_part_of_a_password_is_never_repeated() {
        for text in
            ["redis://:hunt?er2@h:x/0", "redis://u:er2@h/er2/0x", "er2@h:6379", "redis://:er2&er2@h/x"]
        {
            assert!(!refused(text).contains("er2"), "{text}");
        }
    }
}
