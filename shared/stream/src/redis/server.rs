//! What a server says of itself when a connection to it is new, and whether Millrace can use it.
//!
//! The answer to HELLO is used, and not that to INFO or ROLE, because every user may send it.

use redis::aio::MultiplexedConnection;
use redis::{ConnectionInfo, RedisError, Value};

use super::address::Discovery;
use super::error::describe_new;

/// The oldest version that runs scripts with flags.
const MAJOR_MIN: u32 = 7;

/// Checks that the server answers, is a primary of the kind that the address says, and is new enough.
/// `primary` is how this new connection was made.
///
/// # Errors
/// Why the server cannot be used, in words.
pub(super) async fn check(
    connection: &mut MultiplexedConnection,
    primary: &ConnectionInfo,
    discovery: &Discovery,
) -> Result<(), String> {
    let told = |error: RedisError| describe_new(&error, primary);
    let user = primary.redis_settings();
    if let Some(password) = user.password().filter(|_| user.username().is_none()) {
        // HELLO takes any password for a user that has none. This form refuses it, and so would the other
        // connections of this program.
        redis::cmd("AUTH").arg(password).query_async::<()>(connection).await.map_err(told)?;
    }
    let hello = redis::cmd("HELLO").query_async::<Value>(connection).await.map_err(told)?;
    ServerInfo::of(hello).check(discovery)?;
    redis::cmd("PING").query_async::<()>(connection).await.map_err(told)
}

/// The fields of HELLO that matter; empty when the server does not report them.
#[derive(Default)]
struct ServerInfo {
    name: String,
    version: String,
    mode: String,
    role: String,
}

impl ServerInfo {
    fn of(hello: Value) -> Self {
        let mut info = Self::default();
        for (name, value) in pairs(hello) {
            let field = match name.as_str() {
                "server" => &mut info.name,
                "version" => &mut info.version,
                "mode" => &mut info.mode,
                "role" => &mut info.role,
                _ => continue,
            };
            *field = value;
        }
        info
    }

    fn check(&self, discovery: &Discovery) -> Result<(), String> {
        let Self { name, version, mode, role } = self;
        let wrong_kind = match (mode.as_str(), discovery) {
            ("sentinel", _) => Some("this is a Redis Sentinel: begin REDIS_URL with redis+sentinel:"),
            ("cluster", Discovery::Fixed | Discovery::Sentinel { .. }) => {
                Some("this Redis is a node of a cluster: begin REDIS_URL with redis+cluster:")
            }
            ("standalone", Discovery::Cluster) => {
                Some("this Redis is not a node of a cluster: begin REDIS_URL with redis: or redis+sentinel:")
            }
            // A proxy may hide what it leads to.
            _ => None,
        };
        if let Some(wrong_kind) = wrong_kind {
            return Err(wrong_kind.to_owned());
        }
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        // Forks count their versions on their own.
        if name == "redis" && major.is_some_and(|major| major < MAJOR_MIN) {
            return Err(format!(
                "this is Redis {version}, which is too old: Millrace needs Redis 7.0 or newer"
            ));
        }
        if !role.is_empty() && role != "master" {
            return Err(format!("this Redis is a replica, not the primary (its role is {role})"));
        }
        Ok(())
    }
}

/// The texts of a map, or of a list of names and values.
fn pairs(hello: Value) -> Vec<(String, String)> {
    let text = |value: Value| match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::SimpleString(text) => text,
        Value::VerbatimString { text, .. } => text,
        _ => String::new(),
    };
    match hello {
        Value::Map(fields) => fields.into_iter().map(|(name, value)| (text(name), text(value))).collect(),
        Value::Array(items) => {
            let mut items = items.into_iter();
            std::iter::from_fn(|| Some((text(items.next()?), text(items.next()?)))).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(fields: &[(&str, &str)]) -> Result<(), String> {
        checked_as(&Discovery::Fixed, fields)
    }

    fn checked_as(discovery: &Discovery, fields: &[(&str, &str)]) -> Result<(), String> {
        let text = |text: &str| Value::BulkString(text.into());
        ServerInfo::of(Value::Map(fields.iter().map(|(name, value)| (text(name), text(value))).collect()))
            .check(discovery)
    }

    #[test]
    fn a_server_of_another_kind_than_the_address_says_is_refused_with_the_right_beginning() {
        let sentinel = Discovery::Sentinel { name: "m".to_owned() };
        for (discovery, mode, expected) in [
            (&Discovery::Fixed, "cluster", "begin REDIS_URL with redis+cluster:"),
            (&sentinel, "cluster", "begin REDIS_URL with redis+cluster:"),
            (&Discovery::Fixed, "sentinel", "begin REDIS_URL with redis+sentinel:"),
            (&Discovery::Cluster, "standalone", "not a node of a cluster"),
        ] {
            let refused = checked_as(discovery, &[("mode", mode)]).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
        assert_eq!(checked_as(&Discovery::Cluster, &[("mode", "cluster"), ("role", "master")]), Ok(()));
        assert_eq!(checked_as(&sentinel, &[("mode", "standalone"), ("role", "master")]), Ok(()));
    }

    #[test]
    fn a_server_that_is_too_old_or_not_a_primary_is_refused_and_the_reason_says_which() {
        let primary =
            [("server", "redis"), ("version", "7.0.15"), ("mode", "standalone"), ("role", "master")];
        assert_eq!(checked(&primary), Ok(()));
        assert_eq!(checked(&[("server", "valkey"), ("version", "8.0.1"), ("role", "master")]), Ok(()));
        assert_eq!(checked(&[]), Ok(()), "a proxy may hide what it leads to");
        for (fields, expected) in [
            ([("server", "redis"), ("version", "6.2.14")], "this is Redis 6.2.14, which is too old"),
            ([("version", "7.2.0"), ("role", "slave")], "this Redis is a replica"),
            ([("version", "7.2.0"), ("mode", "sentinel")], "this is a Redis Sentinel"),
        ] {
            let refused = checked(&fields).unwrap_err();
            assert!(refused.contains(expected), "{refused}");
        }
    }
}
