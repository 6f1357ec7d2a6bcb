//! Reads flags and environment variables, and turns a bad value into an error that names its variable.

use std::error::Error;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, Parser};

use millrace_telemetry::process;

use crate::error::ConfigError;
use crate::policy;

/// Shown instead of a value that may hold a password.
pub(crate) const HIDDEN: &str = "…";

/// The settings of this process. A variable that is empty, or holds only spaces, counts as not set. Ends the
/// program for `--help`, `--version` and unknown flags, as clap does. Arms the failpoints of a build for
/// drills.
///
/// # Errors
/// The first setting with a bad value, `RUST_LOG` included.
pub fn parse<S: Parser>() -> Result<S, ConfigError> {
    let matches = matches(S::command(), std::env::args_os())?;
    check_log_levels()?;
    Ok(S::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()))
}

/// Checks `RUST_LOG`, for a program that logs.
///
/// # Errors
/// When it is not a list of levels.
pub fn check_log_levels() -> Result<(), ConfigError> {
    let levels = std::env::var(process::LOG_LEVELS).unwrap_or_default();
    process::check_log_levels(&levels).map_err(|reason| ConfigError {
        variable: process::LOG_LEVELS.to_owned(),
        value: Some(levels),
        reason,
    })
}

/// Environments such as a compose file can only set a variable to nothing where they mean not to set it.
fn without_empty_variables(command: Command) -> Command {
    let is_empty = |arg: &Arg| {
        let value = arg.get_env().and_then(std::env::var_os);
        value.is_some_and(|value| value.to_string_lossy().trim().is_empty())
    };
    command
        .mut_args(|arg| if is_empty(&arg) { arg.env(None::<&'static str>) } else { arg })
        .mut_subcommands(without_empty_variables)
}

/// As [`parse`], for a command that was changed after its declaration. The first argument is the program's
/// name.
///
/// # Errors
/// The first setting with a bad value.
pub fn matches(
    command: Command,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<ArgMatches, ConfigError> {
    let mut command = without_empty_variables(command);
    let parsed = command.try_get_matches_from_mut(arguments);
    let matches = parsed.map_err(|error| bad_setting(&command, &error).unwrap_or_else(|| error.exit()))?;
    policy::check(&matches)?;
    millrace_failpoint::arm()?;
    Ok(matches)
}

/// Whether the setting of this name was set, by a flag or a variable, and does not have its default.
pub fn is_given(matches: &ArgMatches, id: &str) -> bool {
    matches!(matches.value_source(id), Some(ValueSource::CommandLine | ValueSource::EnvVariable))
}

/// `None` when the error is about something that is not a setting.
fn bad_setting(command: &Command, error: &clap::Error) -> Option<ConfigError> {
    if error.kind() != ErrorKind::ValueValidation {
        return None;
    }
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    };
    let flag = text(ContextKind::InvalidArg)?;
    let setting = command.get_arguments().find(|arg| arg.to_string() == *flag)?;
    let variable = setting.get_env()?.to_string_lossy().into_owned();
    let value = match setting.is_hide_env_values_set() {
        true => HIDDEN.to_owned(),
        false => text(ContextKind::InvalidValue)?.clone(),
    };
    Some(ConfigError { variable, value: Some(value), reason: error.source()?.to_string() })
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;
    use crate::{Durability, Policy, Servers};

    fn read(arguments: &[&str]) -> Result<ArgMatches, ConfigError> {
        let command = Policy::augment_args(Servers::augment_args(Command::new("program")));
        matches(command, ["program"].iter().chain(arguments).map(OsString::from))
    }

    #[test]
    fn a_bad_value_is_refused_with_its_variable_and_what_would_be_right() {
        for (flag, expected) in [
            ("--stream-shards=0", r#"STREAM_SHARDS="0": expected a whole number from 1 to 256"#),
            ("--stream-shards=two", r#"STREAM_SHARDS="two": expected a whole number from 1 to 256"#),
            ("--durability=maybe", r#"DURABILITY="maybe": expected one of: strict, replicated, relaxed"#),
            ("--durability-replicas=0", r#"DURABILITY_REPLICAS="0": expected a whole number from 1 to 16"#),
            ("--log-format=", r#"LOG_FORMAT="": expected one of: text, json"#),
        ] {
            assert_eq!(read(&[flag]).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn a_number_of_replicas_is_refused_unless_replicas_are_demanded() {
        let policy = |arguments: &[&str]| {
            read(arguments).map(|matches| Policy::from_arg_matches(&matches).unwrap().durability())
        };
        let two = "--durability-replicas=2";
        assert_eq!(policy(&[]).unwrap(), Durability::Strict);
        assert_eq!(policy(&["--durability=strict", "--durability-replicas=1"]).unwrap(), Durability::Strict);
        assert_eq!(policy(&["--durability=replicated"]).unwrap(), Durability::Replicated { replicas: 1 });
        assert_eq!(
            policy(&["--durability=replicated", two]).unwrap(),
            Durability::Replicated { replicas: 2 }
        );
        for mode in ["strict", "relaxed"] {
            let refused = policy(&[&format!("--durability={mode}"), two]).unwrap_err().to_string();
            assert!(
                refused.starts_with(r#"DURABILITY_REPLICAS="2": it needs DURABILITY=replicated"#),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_bad_url_is_refused_without_its_password() {
        for url in ["http://millrace:hunter2@127.0.0.1/0", "redis://:hunter2@127.0.0.1:port"] {
            let error = read(&[&format!("--redis-url={url}")]).unwrap_err().to_string();
            assert!(error.starts_with(r#"REDIS_URL="…": expected redis://"#), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        for url in ["", "postgres://u:hunter2@127.0.0.1:port/x", "http://u:hunter2@127.0.0.1/x"] {
            let error = read(&[&format!("--database-url={url}")]).unwrap_err().to_string();
            assert!(error.starts_with(r#"DATABASE_URL="…": expected postgres://"#), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_default_does_not_count_as_given() {
        let matches = read(&["--stream-shards= 2 "]).unwrap();
        assert!(is_given(&matches, "stream_shards") && !is_given(&matches, "log_format"));
        assert_eq!(matches.get_one::<u16>("stream_shards"), Some(&2), "spaces around a value are ignored");
    }
}
