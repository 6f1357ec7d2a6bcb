//! Which programs the servers of tests are. By default they are those of this machine; variables choose
//! others, so that the same tests run on several versions.
//!
//! | variable | meaning |
//! |---|---|
//! | `TESTKIT_POSTGRES_BIN` | folder with `postgres` and `initdb` |
//! | `TESTKIT_POSTGRES_VERSION` | what the version of every PostgreSQL must begin with, such as `17` |
//! | `TESTKIT_REDIS_SERVER` | path of `redis-server` |
//! | `TESTKIT_REDIS_VERSION` | what the version of every Redis must begin with, such as `8.2` |
//!
//! This module must never choose another program when the one that a variable names is missing.

use std::path::PathBuf;

use crate::process::find_program;

const POSTGRES_BIN: &str = "TESTKIT_POSTGRES_BIN";
const POSTGRES_VERSION: &str = "TESTKIT_POSTGRES_VERSION";
const REDIS_SERVER: &str = "TESTKIT_REDIS_SERVER";
const REDIS_VERSION: &str = "TESTKIT_REDIS_VERSION";
/// The programs that decide which version a server has.
const SERVER_PROGRAMS: [&str; 2] = ["postgres", "initdb"];
const INSTALL_REDIS: &str = "install Redis 7 or newer (Debian: apt-get install redis-server)";
const INSTALL_POSTGRES: &str = "install PostgreSQL 15 or newer (Debian: apt-get install postgresql)";

/// The program `redis-server`.
///
/// # Panics
/// When there is none.
pub(crate) fn redis_server() -> PathBuf {
    match variable(REDIS_SERVER) {
        Some(path) => existing(REDIS_SERVER, PathBuf::from(path)),
        None => find_program("redis-server", &[], INSTALL_REDIS),
    }
}

/// One of PostgreSQL's programs. The server itself and `initdb` are those in the folder that the variable
/// names; others may be missing there. Without the variable, all are searched in `folders` and on the path.
///
/// # Panics
/// When there is none.
pub(crate) fn postgres_program(name: &str, folders: &[PathBuf]) -> PathBuf {
    match variable(POSTGRES_BIN) {
        Some(folder) if SERVER_PROGRAMS.contains(&name) => {
            existing(POSTGRES_BIN, PathBuf::from(folder).join(name))
        }
        _ => find_program(name, folders, INSTALL_POSTGRES),
    }
}

/// Checks the version of a running PostgreSQL.
///
/// # Panics
/// When it is not the one that the variable asks for.
pub(crate) fn check_postgres(found: &str) {
    check("PostgreSQL", POSTGRES_VERSION, variable(POSTGRES_VERSION).as_deref(), found);
}

/// Checks the version of a running Redis.
///
/// # Panics
/// When it is not the one that the variable asks for.
pub(crate) fn check_redis(found: &str) {
    check("Redis", REDIS_VERSION, variable(REDIS_VERSION).as_deref(), found);
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn existing(variable: &str, file: PathBuf) -> PathBuf {
    assert!(file.is_file(), "{variable}: there is no file {}", file.display());
    file
}

fn check(server: &str, variable: &str, wanted: Option<&str>, found: &str) {
    let Some(wanted) = wanted else { return };
    assert!(
        is_version(wanted, found),
        "{variable}={wanted}, but the {server} that was started is {found}; correct the path of its programs"
    );
}

/// Whether the version begins with the numbers that are wanted: 17.10 is a 17 and a 17.10, and no 1 or 17.1.
fn is_version(wanted: &str, found: &str) -> bool {
    found.strip_prefix(wanted).is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_begins_with_whole_numbers() {
        assert!(
            is_version("17", "17.10")
                && is_version("17.10", "17.10")
                && is_version("15", "15.18 (Debian 15.18-0)")
        );
        assert!(!is_version("1", "17.10") && !is_version("17.1", "17.10") && !is_version("18", "17.10"));
    }

    #[test]
    #[should_panic(expected = "TESTKIT_REDIS_VERSION=8, but the Redis that was started is 7.0.15")]
    fn a_server_of_another_version_fails_the_test() {
        check("Redis", REDIS_VERSION, Some("8"), "7.0.15");
    }
}
