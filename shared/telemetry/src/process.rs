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
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was already started");
    }
}

/// Returns when the process is asked to stop: SIGTERM or SIGINT.
///
/// # Panics
/// When the operating system refuses to install a signal handler.
pub async fn stop_requested() {
    let mut terminate = signal(SignalKind::terminate()).expect("a handler for SIGTERM");
    let mut interrupt = signal(SignalKind::interrupt()).expect("a handler for SIGINT");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
