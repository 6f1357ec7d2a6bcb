//! Classifies failed calls to Redis: whether the call may have taken effect, whether the connection is
//! usable, and what the operator has to know.
//!
//! The code and the message of Redis are kept in every error: they are often the only hint at a wrong
//! setting. This module must never put an address or a password into a text, because `/readyz` shows it to
//! anyone.

use millrace_address::{HandshakeNames, describe_handshake, handshake_error, is_no_tls};
use redis::{ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, ServerErrorKind};

use crate::StreamError;

/// The health of a connection after an error on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum ConnectionHealth {
    /// The server answered.
    Usable,
    /// This connection is broken.
    Broken,
    /// The server is silent: no connection to it is usable.
    Silent,
    /// The server is not the primary of the shard (any more): no connection to it is usable, however well it
    /// answers.
    Demoted,
}

pub(super) fn connection_health(error: &RedisError) -> ConnectionHealth {
    if error.is_timeout() {
        ConnectionHealth::Silent
    } else if matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse) || error.is_unrecoverable_error() {
        ConnectionHealth::Broken
    } else if is_demoted(error) {
        ConnectionHealth::Demoted
    } else {
        ConnectionHealth::Usable
    }
}

fn is_demoted(error: &RedisError) -> bool {
    let kinds = [
        ServerErrorKind::ReadOnly,
        ServerErrorKind::MasterDown,
        ServerErrorKind::Moved,
        ServerErrorKind::ClusterDown,
    ];
    // While a slot moves (ASK, TRYAGAIN), its primary is still this server.
    kinds.into_iter().any(|kind| error.kind() == ErrorKind::Server(kind))
        // To a blocked reader, when the server has become a replica.
        || error.code() == Some("UNBLOCKED")
}

/// The error of a command that was sent, in the terms of the stream.
pub(super) fn classify(error: &RedisError) -> StreamError {
    let text = describe(error);
    match error.kind() {
        ErrorKind::Io | ErrorKind::Parse => StreamError::Unknown(text),
        ErrorKind::Client | ErrorKind::AuthenticationFailed => StreamError::Unavailable(text),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::TryAgain
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::NoScript,
        ) => StreamError::Unavailable(text),
        ErrorKind::Server(ServerErrorKind::ReadOnly) => StreamError::ReadOnly(text),
        _ => match error.code() {
            Some("OOM" | "MISCONF") => StreamError::Full(text),
            Some("BUSY" | "UNBLOCKED" | "NOREPLICAS" | "NOAUTH" | "WRONGPASS") => {
                StreamError::Unavailable(text)
            }
            _ => StreamError::Refused(text),
        },
    }
}

/// The failure of a connection that could not be made.
pub(super) fn unreachable(error: &RedisError) -> StreamError {
    StreamError::Unavailable(describe(error))
}

/// What is wrong in words, followed by the code and the message of Redis.
pub(super) fn describe(error: &RedisError) -> String {
    let (code, message) = (error.code(), error.detail().unwrap_or_default().trim());
    let Some(code) = code else { return describe_client_error(error) };
    let told = match code {
        // The message is the address of another node.
        "MOVED" | "ASK" => code.to_owned(),
        _ => format!("{code} {message}").trim_end().to_owned(),
    };
    match meaning(code, message) {
        Some(meaning) => format!("{meaning} ({told})"),
        None => format!("Redis answered {told}"),
    }
}

/// Why a new connection to this server failed, and what to change when only one side may speak TLS.
pub(super) fn describe_new(error: &RedisError, server: &ConnectionInfo) -> String {
    let text = describe(error);
    let fails_without_words = error.code().is_none() && (error.is_timeout() || error.is_connection_dropped());
    // A server without TLS waits for the end of a command, and one with TLS ends the connection.
    let may_differ = match uses_tls(server) {
        true => fails_without_words || handshake_error(error).is_some_and(is_no_tls),
        false => !error.is_timeout() && (fails_without_words || error.kind() == ErrorKind::Parse),
    };
    if may_differ { format!("{text}; {}", advice_on_tls(server)) } else { text }
}

/// What to say of a server that did not answer a new connection in time.
pub(super) fn describe_silence(server: &ConnectionInfo) -> String {
    let text = "it did not answer in time";
    if uses_tls(server) { format!("{text}; {}", advice_on_tls(server)) } else { text.to_owned() }
}

fn advice_on_tls(server: &ConnectionInfo) -> &'static str {
    match uses_tls(server) {
        true => "if this port does not speak TLS, begin REDIS_URL with redis in place of rediss",
        false => "if this port speaks TLS, begin REDIS_URL with rediss in place of redis",
    }
}

fn uses_tls(server: &ConnectionInfo) -> bool {
    matches!(server.addr(), ConnectionAddr::TcpTls { .. })
}

/// What an answer of Redis means for Millrace. `None` when its own message says enough.
fn meaning(code: &str, message: &str) -> Option<&'static str> {
    Some(match code {
        "WRONGPASS" => "Redis refused the user or the password of REDIS_URL",
        "NOAUTH" => "Redis demands a password, and REDIS_URL has none",
        "ERR" if message.contains("without any password configured") => {
            "REDIS_URL has a password, and this Redis has none: remove it from REDIS_URL, or set requirepass"
        }
        "ERR" if message.contains("compiling script") => {
            "this Redis cannot run the scripts of Millrace, which needs Redis 7.0 or newer"
        }
        "ERR" if message.contains("DB index") => "this Redis does not have the database of REDIS_URL",
        "NOPERM" => "the user of REDIS_URL lacks a right in Redis",
        "MOVED" => "this node of the cluster does not hold the shard (any more)",
        "ASK" | "TRYAGAIN" => "the shard is being moved to another node of the cluster",
        "CLUSTERDOWN" => "the cluster does not serve the slot of the shard",
        "UNBLOCKED" if message.contains("no longer exists") => {
            "the stream of the shard was removed from Redis"
        }
        "UNBLOCKED" => "this Redis has just become a replica",
        "LOADING" => "Redis is loading its data and is not ready yet",
        "BUSY" => "Redis is busy with a script",
        "OOM" => "the memory of Redis is full",
        "MISCONF" => "Redis cannot write to its disk",
        "READONLY" => "this Redis is a replica, not the primary",
        "MASTERDOWN" => "this Redis is a replica that has lost its primary",
        "NOREPLICAS" => "Redis has fewer replicas than its min-replicas-to-write",
        "NOSCRIPT" => "Redis has lost a script that was just loaded",
        _ => return None,
    })
}

/// An error without an answer of Redis.
fn describe_client_error(error: &RedisError) -> String {
    if let Some(failed) = handshake_error(error) {
        return describe_handshake(failed, HandshakeNames::REDIS);
    }
    match error.kind() {
        ErrorKind::RESP3NotSupported => {
            "this Redis is older than 6.0 and cannot be used: Millrace needs Redis 7.0 or newer".to_owned()
        }
        ErrorKind::AuthenticationFailed => "Redis refused the user or the password of REDIS_URL".to_owned(),
        _ if error.is_timeout() => "Redis did not answer in time".to_owned(),
        ErrorKind::Io => format!("no connection to Redis: {error}"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;

    /// The error that the client makes of this answer of Redis.
    fn answered(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("an error reply");
        match value {
            Value::ServerError(error) => error.into(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_answer_of_redis_is_described_with_its_code_and_told_apart_from_a_full_backlog() {
        let kind = |error: &StreamError| <&'static str>::from(error);
        for (line, expected_kind, expected) in [
            ("WRONGPASS invalid username-password pair or user is disabled.", "unavailable", "the password"),
            ("NOAUTH Authentication required.", "unavailable", "demands a password"),
            ("NOPERM User a has no permissions to run the 'evalsha' command", "refused", "'evalsha' command"),
            ("MOVED 3999 10.1.2.3:6381", "unavailable", "does not hold the shard"),
            ("ASK 3999 10.1.2.3:6381", "unavailable", "is being moved"),
            ("TRYAGAIN Multiple keys request during rehashing of slot", "unavailable", "is being moved"),
            ("CLUSTERDOWN Hash slot not served", "unavailable", "does not serve the slot"),
            ("UNBLOCKED force unblock from blocking operation", "unavailable", "become a replica"),
            ("UNBLOCKED the stream key no longer exists", "unavailable", "was removed"),
            ("LOADING Redis is loading the dataset in memory", "unavailable", "is loading"),
            ("BUSY Redis is busy running a script.", "unavailable", "busy with a script"),
            ("OOM command not allowed when used memory > 'maxmemory'.", "full", "memory of Redis is full"),
            ("MISCONF Errors writing to the AOF file: No space left on device", "full", "No space left"),
            ("READONLY You can't write against a read only replica.", "read_only", "a replica"),
            ("MASTERDOWN Link with MASTER is down", "unavailable", "lost its primary"),
            ("NOREPLICAS Not enough good replicas to write.", "unavailable", "fewer replicas"),
            ("ERR AUTH <password> called without any password configured", "refused", "this Redis has none"),
            ("ERR Error compiling script (new function)", "refused", "needs Redis 7.0 or newer"),
            ("STRANGE things", "refused", "Redis answered STRANGE things"),
        ] {
            let error = classify(&answered(line));
            let (code, _) = line.split_once(' ').expect("a code and a message");
            assert_eq!(kind(&error), expected_kind, "{line}");
            let text = error.to_string();
            assert!(text.contains(expected) && text.contains(code), "{text}");
            assert!(!text.contains("10.1.2.3"), "{text}");
        }
    }

    #[test]
    fn connections_to_a_server_that_lost_the_shard_are_given_up_and_those_to_a_full_one_are_not() {
        let health = |line| connection_health(&answered(line));
        for line in [
            "READONLY You can't write",
            "MASTERDOWN Link with MASTER is down",
            "MOVED 3999 10.1.2.3:6381",
            "CLUSTERDOWN The cluster is down",
            "UNBLOCKED force unblock from blocking operation, instance state changed",
        ] {
            assert_eq!(health(line), ConnectionHealth::Demoted, "{line}");
        }
        for line in ["OOM full", "MISCONF disk", "NOPERM no", "BUSY script", "ASK 1 h:1", "TRYAGAIN later"] {
            assert_eq!(health(line), ConnectionHealth::Usable, "{line}");
        }
    }
}
