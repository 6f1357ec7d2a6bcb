//! Names who gives a command, for the records that commands leave. It must never decide what is allowed.

/// The user and the host of this command line, as records of cancellations and erasures have them.
pub(crate) fn of_this_command() -> String {
    let unknown = |_| "unknown".to_owned();
    let user = whoami::username().unwrap_or_else(unknown);
    let host = whoami::hostname().unwrap_or_else(unknown);
    format!("command line: {user}@{host}")
}
