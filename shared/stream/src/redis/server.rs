//! What a server says of itself when a connection to it is new, and whether Millrace can use it.
//!
//! The answer to HELLO is used, and not that to INFO or ROLE, because every user may send it.

use redis::aio::MultiplexedConnection;
use redis::{RedisError, Value};

use super::error::describe;

/// The oldest version that runs scripts with flags.
const MAJOR_MIN: u32 = 7;

/// Checks that the server answers, is a primary and is new enough. `sole_password` is that of a URL with a
/// password and no user.
///
/// # Errors
/// Why the server cannot be used, in words.
pub(super) async fn check(
    connection: &mut MultiplexedConnection,
    sole_password: Option<&str>,
) -> Result<(), String> {
    let told = |error: RedisError| describe(&error);
    if let Some(password) = sole_password {
        // HELLO takes any password for a user that has none. This form refuses it, and so would the other
        // connections of this program.
        redis::cmd("AUTH").arg(password).query_async::<()>(connection).await.map_err(told)?;
    }
    let hello = redis::cmd("HELLO").query_async::<Value>(connection).await.map_err(told)?;
    ServerInfo::of(hello).check()?;
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

    fn check(&self) -> Result<(), String> {
        let Self { name, version, mode, role } = self;
        if mode == "sentinel" {
            return Err(
                "this is a Redis Sentinel, not a Redis: REDIS_URL must lead to the primary".to_owned()
            );
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
        let text = |text: &str| Value::BulkString(text.into());
        ServerInfo::of(Value::Map(fields.iter().map(|(name, value)| (text(name), text(value))).collect()))
            .check()
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
