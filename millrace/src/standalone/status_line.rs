//! The one quiet line: events a second, backlog, stored. At a terminal it is written over and over in its place; anywhere
//! else a line is written when something has changed, and not often.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use millrace_store::SharedStore;
use millrace_stream::SharedStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

use crate::output::grouped;

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks between two lines where lines are not overwritten.
const LOOKS_PER_LINE: u32 = 5;
/// To the beginning of the line, and nothing right of it.
const CLEAR: &str = "\r\x1b[K";

/// The line, and what is logged above it.
#[derive(Clone)]
pub(super) struct StatusLine {
    shown: Arc<Mutex<String>>,
    in_place: bool,
}

/// What the line tells.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Facts {
    events_per_s: u64,
    backlog: u64,
    stored: u64,
}

impl StatusLine {
    pub(super) fn new() -> Self {
        let in_place = io::stdout().is_terminal() && io::stderr().is_terminal();
        Self { shown: Arc::default(), in_place }
    }

    /// Where logs go: above the line.
    pub(super) fn log_writer(&self) -> LogWriter {
        LogWriter(self.clone())
    }

    /// Keeps the line until `stopped` is true, and leaves the last one limit_state.
    pub(super) async fn keep(
        self,
        stream: SharedStream,
        store: SharedStore,
        handle: PrometheusHandle,
        mut stopped: watch::Receiver<bool>,
    ) {
        let before =
            store.totals(false).await.unwrap_or_default().iter().map(|totals| totals.stored).sum::<u64>();
        let mut told = None;
        let mut looks_since_told = LOOKS_PER_LINE;
        let mut last = (Instant::now(), counter(&handle, "millrace_admitted_events_total"));
        loop {
            let now = (Instant::now(), counter(&handle, "millrace_admitted_events_total"));
            let facts = Facts {
                events_per_s: per_second(now.1 - last.1, now.0 - last.0),
                backlog: stream.backlog().await.unwrap_or_default().events,
                stored: before + counter(&handle, "millrace_stored_events_total"),
            };
            last = now;
            looks_since_told += 1;
            if told != Some(facts) && (self.in_place || looks_since_told > LOOKS_PER_LINE) {
                self.show(&facts.to_string());
                (told, looks_since_told) = (Some(facts), 0);
            }
            if *stopped.borrow() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        }
        if self.in_place {
            println!();
        }
    }

    fn show(&self, text: &str) {
        let mut shown = self.shown.lock().expect("nobody panics while writing a line");
        text.clone_into(&mut shown);
        let written = if self.in_place {
            write!(io::stdout(), "{CLEAR}{text}").and_then(|()| io::stdout().flush())
        } else {
            writeln!(io::stdout(), "{text}")
        };
        // Whoever has closed our standard output wants no line.
        written.ok();
    }
}

impl std::fmt::Display for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |number: u64| grouped(number.into());
        let Self { events_per_s, backlog, stored } = *self;
        write!(
            f,
            "{} events/s · backlog {} · stored {}",
            number(events_per_s),
            number(backlog),
            number(stored)
        )
    }
}

/// What one of our own counters says, as Prometheus would read it.
fn counter(handle: &PrometheusHandle, name: &str) -> u64 {
    let text = handle.render();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or_default()
}

fn per_second(count: u64, elapsed: Duration) -> u64 {
    let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
    (count * 1_000).checked_div(elapsed_ms).unwrap_or_default()
}

/// Writes log lines above the status line.
#[derive(Clone)]
pub(super) struct LogWriter(StatusLine);

impl<'writer> MakeWriter<'writer> for LogWriter {
    type Writer = Self;

    fn make_writer(&'writer self) -> Self {
        self.clone()
    }
}

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let shown = self.0.shown.lock().expect("nobody panics while writing a line");
        let mut to = io::stderr().lock();
        if !self.0.in_place || shown.is_empty() {
            return to.write(bytes);
        }
        to.write_all(CLEAR.as_bytes())?;
        to.write_all(bytes)?;
        to.write_all(shown.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
