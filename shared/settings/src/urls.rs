//! The URLs of Redis and PostgreSQL: which parts Millrace supports, and the name of each that it does not.
//!
//! The libraries refuse a URL without a word about the part that is wrong, or ignore a part that they do not
//! know. This module must never repeat a part of a URL that may be a password.

use std::error::Error;

use millrace_address::{is_name, query_pairs};
use millrace_stream::redis::RedisAddress;

const POSTGRES_FORM: &str = "expected postgres://USER:PASSWORD@HOST:PORT/DATABASE";
const NO_TLS_TO_POSTGRES: &str = "TLS to PostgreSQL is not supported; use a private network or a tunnel";
const ESCAPE: &str =
    "write special characters in the password as percent codes, such as %40 for @ and %3F for ?";

/// Checks the URL of a Redis server.
///
/// # Errors
/// When it has a part that is not supported; see [`RedisAddress::parse`].
pub fn redis_url(text: &str) -> Result<String, String> {
    RedisAddress::parse(text).map(|_| text.to_owned())
}

/// Parses the URL of a PostgreSQL database, or the same as `name=value` pairs.
///
/// # Errors
/// When the PostgreSQL client does not understand it, it names no host, or it has a parameter that is not
/// supported.
pub fn database_url(text: &str) -> Result<tokio_postgres::Config, String> {
    let form = |fault: &str| format!("{POSTGRES_FORM}{fault}");
    let faults: Vec<String> =
        parameters(text)?.iter().filter_map(|(name, value)| parameter_fault(name, value)).collect();
    if !faults.is_empty() {
        return Err(form(&format!(", {}", faults.join("; "))));
    }
    let config: tokio_postgres::Config =
        text.parse().map_err(|error: tokio_postgres::Error| form(&format!(": {}", with_cause(&error))))?;
    // An empty text parses, to a configuration that cannot connect to anything.
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(form(": it names no host"));
    }
    Ok(config)
}

/// The parameters of the URL.
fn parameters(text: &str) -> Result<Vec<(String, String)>, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Ok(pairs_of_words(text));
    };
    if !matches!(scheme, "postgres" | "postgresql") {
        return Err(format!("{POSTGRES_FORM}: it does not begin with postgres://"));
    }
    let after_user = rest.split_once('@').map_or(rest, |(_, after)| after);
    let query = after_user.split_once('?').map_or("", |(_, query)| query);
    if query.contains('@') {
        return Err(format!("{POSTGRES_FORM}: {ESCAPE}"));
    }
    Ok(query_pairs(query).collect())
}

/// What is wrong with a parameter; `None` when it is supported.
fn parameter_fault(name: &str, value: &str) -> Option<String> {
    let without = |why: &str| Some(format!("without {name}: {why}"));
    match name {
        "sslmode" => match value {
            "disable" | "prefer" => None,
            "allow" | "require" | "verify-ca" | "verify-full" => {
                Some(format!("without sslmode={value}: {NO_TLS_TO_POSTGRES}"))
            }
            _ => Some("with sslmode=disable or sslmode=prefer, or without sslmode".to_owned()),
        },
        "sslnegotiation" if value == "postgres" => None,
        "channel_binding" => match value {
            "disable" | "prefer" => None,
            "require" => Some(format!("without channel_binding=require, which needs TLS: {NO_TLS_TO_POSTGRES}")),
            _ => Some("with channel_binding=disable or channel_binding=prefer, or without it".to_owned()),
        },
        "target_session_attrs" => match value {
            "any" | "read-write" => None,
            _ => Some("with target_session_attrs=read-write, or without it: Millrace needs a server that takes writes".to_owned()),
        },
        "options" if value.contains("search_path") => {
            without("search_path in it has no effect, because the tables are in the schema public")
        }
        "schema" | "currentSchema" | "current_schema" | "search_path" => {
            without("the tables are always in the schema public")
        }
        "pgbouncer" => without("nothing needs to be set for PgBouncer but pool_mode=session"),
        "connection_limit" | "pool_timeout" | "pool_size" | "max_connections" | "statement_cache_size" => {
            without("Millrace sizes its own pools")
        }
        _ if name.starts_with("ssl") => without(NO_TLS_TO_POSTGRES),
        _ if SUPPORTED.contains(&name) => None,
        _ => without("it is not supported"),
    }
}

/// Parameters of every value.
const SUPPORTED: [&str; 15] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "load_balance_hosts",
];

/// `name=value name='value'`.
fn pairs_of_words(text: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let after = after.trim_start();
        let (value, left) = match after.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').unwrap_or((quoted, "")),
            None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
        };
        if is_name(name.trim()) {
            pairs.push((name.trim().to_owned(), value.to_owned()));
        }
        rest = left.trim_start();
    }
    pairs
}

fn with_cause(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_parameter_of_a_database_url_that_is_not_supported_is_named() {
        for (parameters, expected) in [
            ("sslmode=require", &["without sslmode=require: TLS to PostgreSQL"][..]),
            ("sslmode=verify-full&sslrootcert=/ca.pem", &["sslmode=verify-full", "sslrootcert", "TLS"]),
            ("sslcert=a&sslkey=b&ssl=true", &["without sslcert", "without sslkey", "without ssl:"]),
            ("sslmode=maybe", &["sslmode=disable or sslmode=prefer"]),
            ("sslnegotiation=direct", &["without sslnegotiation"]),
            (
                "schema=app&pgbouncer=true",
                &["without schema", "public", "without pgbouncer", "pool_mode=session"],
            ),
            ("connection_limit=5&pool_timeout=3", &["connection_limit", "pool_timeout"]),
            ("channel_binding=require", &["channel_binding=require, which needs TLS"]),
            ("channel_binding=never", &["channel_binding=disable"]),
            ("target_session_attrs=read-only", &["target_session_attrs=read-write"]),
            ("options=-csearch_path%3Dapp", &["without options", "search_path"]),
            ("service=x&passfile=y&anything=z", &["without service", "without passfile", "without anything"]),
            ("port=many", &["option `port`"]),
        ] {
            for text in [
                format!("postgres://u:hunter2@h/d?{parameters}"),
                format!(
                    "host=h user=u password='hunter2 or so' {}",
                    parameters.replace('&', " ").replace("%3D", "=")
                ),
            ] {
                let refused = database_url(&text).expect_err(&text);
                assert!(refused.starts_with("expected postgres://"), "{refused}");
                assert!(expected.iter().all(|part| refused.contains(part)), "{text}: {refused}");
                assert!(!refused.contains("hunter2"), "{refused}");
            }
        }
    }

    #[test]
    fn supported_parameters_of_a_database_url_are_taken() {
        for text in [
            "postgres://u:p@h/d",
            "postgresql://u:p@h:5433/d?sslmode=prefer&connect_timeout=3&application_name=x",
            "postgres://u:p@h1,h2/d?target_session_attrs=read-write&channel_binding=prefer&options=-cjit%3Doff",
            "host=/run/postgresql user=u dbname=d keepalives_idle=5",
        ] {
            database_url(text).expect(text);
        }
    }

    #[test]
    fn a_part_of_a_password_is_never_taken_for_a_parameter() {
        for text in
            ["postgres://u:p@hunt?er2=x@h/d", "postgres://u:hunt?er2@h:x/d", "hunt://er2:er2@h/d", "er2"]
        {
            let refused = database_url(text).expect_err(text);
            assert!(!refused.contains("er2"), "{refused}");
        }
    }
}
