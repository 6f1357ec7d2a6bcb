//! The URLs of Redis and PostgreSQL as values of settings, checked without a connection.

use millrace_address::Secret;
use millrace_store::postgres::check_url;
use millrace_stream::redis::RedisAddress;

/// Checks the URL of Redis.
///
/// # Errors
/// When it has a part that is not supported; see [`RedisAddress::parse`].
pub fn redis_url(text: &str) -> Result<Secret, String> {
    RedisAddress::parse(text).map(|_| Secret::from(text))
}

/// Checks the URL of a PostgreSQL database, or the same as `name=value` pairs.
///
/// # Errors
/// When it has a part that is not supported; see [`check_url`].
pub fn database_url(text: &str) -> Result<Secret, String> {
    check_url(text).map(|()| Secret::from(text))
}
