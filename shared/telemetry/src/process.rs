//! Starts logging, and waits for the signal to stop.

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The format of log lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// The variable with the levels of the log.
pub const LOG_LEVELS: &str = "RUST_LOG";
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Checks the levels in `RUST_LOG`, which the log would ignore when they are wrong. Empty levels count as not
/// set.
///
/// # Errors
/// What would be right. A single word that is no level is refused, too: as the name of a module it would
/// switch off the log of every other module.
pub fn check_log_levels(levels: &str) -> Result<(), String> {
    let expected = |fault: String| {
        format!(
            "expected levels such as info or warn,ingest_api=debug: {fault}; levels are {}",
            LEVELS.join(", ")
        )
    };
    let names_no_level = |text: &&str| !text.contains('=') && !text.contains('[') && !text.contains("::");
    for word in levels.split(',').map(str::trim).filter(|word| !word.is_empty()).filter(names_no_level) {
        if !LEVELS.contains(&word.to_ascii_lowercase().as_str()) {
            return Err(expected(format!("{word} is not a level; for a module write {word}=debug")));
        }
    }
    if levels.trim().is_empty() {
        return Ok(());
    }
    EnvFilter::try_new(levels).map(drop).map_err(|error| expected(error.to_string()))
}

/// Starts logging to standard error, at the level `info` or the levels in `RUST_LOG`. A second call has no
/// effect.
pub fn start_logging(format: LogFormat) {
    start_logging_to(std::io::stderr, format, "info");
}

/// Starts logging to `writer`, at `level` or the levels in `RUST_LOG`. A second call has no effect.
pub fn start_logging_to<W>(writer: W, format: LogFormat, level: &str)
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    // The pool of connections to PostgreSQL reports a lost connection as "db error". The callers that
    // use the pool report the reason.
    let level = format!("{level},deadpool=off");
    let levels = std::env::var(LOG_LEVELS).ok().filter(|levels| !levels.trim().is_empty());
    let filter =
        EnvFilter::try_new(levels.as_deref().unwrap_or(&level)).unwrap_or_else(|_| EnvFilter::new(&level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was already started");
    }
}

/// Is ready when the process was asked to stop since this call: SIGTERM or SIGINT. Call it before the first
/// work, because an earlier signal ends the process at once, or is lost where the parent has it ignored.
///
/// # Panics
/// When the operating system refuses to install a signal handler.
pub fn stop_requested() -> impl Future<Output = ()> {
    let mut terminate = signal(SignalKind::terminate()).expect("a handler for SIGTERM");
    let mut interrupt = signal(SignalKind::interrupt()).expect("a handler for SIGINT");
    async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_log_levels_are_refused_and_right_ones_are_not() {
        for levels in [
            "",
            " ",
            "info",
            "WARN",
            "off",
            "warn,ingest_api=debug",
            "millrace_stream::redis=trace",
            "[span]",
        ] {
            check_log_levels(levels).expect(levels);
        }
        for levels in ["loud", "info,ingest_api", "ingest_api=loud", "info,a=b=c", "warn;info", "=debug,=x"] {
            let refused = check_log_levels(levels).expect_err(levels);
            assert!(refused.starts_with("expected levels such as info"), "{refused}");
        }
    }
}
