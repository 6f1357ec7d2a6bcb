//! Parsers for the values of settings. Every error begins with "expected", and says which values are right.

use std::ffi::OsStr;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::builder::{PossibleValue, TypedValueParser};

/// A parser for a whole number in this range.
pub fn number<T>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + Display + Clone + Send + Sync + 'static,
{
    move |text| {
        let number = text.trim().parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("expected a whole number from {} to {}", range.start(), range.end()))
    }
}

/// A parser for a duration, written as a whole number of milliseconds.
pub fn milliseconds(
    range: RangeInclusive<u64>,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync + 'static {
    let milliseconds = number(range);
    move |text| milliseconds(text).map(Duration::from_millis)
}

/// Parses an address to listen on.
///
/// # Errors
/// When it is not an IP address and a port.
pub fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.trim().parse().map_err(|_| "expected ADDRESS:PORT, such as 127.0.0.1:8080 or [::1]:8080")
}

/// Parses the path of a folder, which need not exist.
///
/// # Errors
/// When it is empty.
pub fn path(text: &str) -> Result<PathBuf, &'static str> {
    if text.is_empty() { Err("expected the path of a folder") } else { Ok(PathBuf::from(text)) }
}

/// Parses the path of a file, which is read later.
///
/// # Errors
/// When it is empty.
pub fn file(text: &str) -> Result<PathBuf, &'static str> {
    if text.is_empty() { Err("expected the path of a file") } else { Ok(PathBuf::from(text)) }
}

/// A parser for one of a few words. `--help` and shell completions list them.
#[derive(Clone, Copy, Debug)]
pub struct OneOf<T: 'static>(pub &'static [(&'static str, T)]);

impl<T: Copy + Send + Sync + 'static> TypedValueParser for OneOf<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<T, clap::Error> {
        let words = self.0;
        let parse = move |text: &str| {
            let found = words.iter().find(|(word, _)| *word == text.trim());
            let names = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
            found.map(|(_, value)| *value).ok_or_else(|| format!("expected one of: {}", names()))
        };
        parse.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(|(word, _)| PossibleValue::new(*word))))
    }
}
