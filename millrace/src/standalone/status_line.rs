//! One line with events per second, backlog, and stored events. At a terminal it is updated in place;
//! otherwise a new line is printed when a number has changed, a few times a minute.

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ingest_api::metrics::ADMITTED_EVENTS;
use millrace_store::SharedStore;
use millrace_stream::SharedStream;
use stream_worker::metrics::STORED_EVENTS;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing_subscriber::fmt::MakeWriter;

use crate::output::grouped;

const UPDATE_EVERY: Duration = Duration::from_secs(1);
/// Updates between two lines when lines are not overwritten.
const UPDATES_PER_LINE: u32 = 5;
/// Moves to the start of the line, and clears it.
const CLEAR: &str = "\r\x1b[K";

/// The line, and the log above it.
#[derive(Clone)]
pub(super) struct StatusLine {
    /// The text on the screen.
    text: Arc<Mutex<String>>,
    in_place: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Status {
    events_per_s: u64,
    /// `None` while the stream does not answer.
    backlog: Option<u64>,
    stored: u64,
}

impl StatusLine {
    pub(super) fn new() -> Self {
        let in_place = io::stdout().is_terminal() && io::stderr().is_terminal();
        Self { text: Arc::default(), in_place }
    }

    /// A writer for logs, which appear above the line.
    pub(super) fn log_writer(&self) -> LogWriter {
        LogWriter(self.clone())
    }

    /// Updates the line until `stopped` is true, and leaves the last one on the screen.
    pub(super) async fn update(
        self,
        stream: SharedStream,
        store: SharedStore,
        mut stopped: watch::Receiver<bool>,
    ) {
        let totals = store.totals(false).await.unwrap_or_default();
        let stored_before = totals.iter().map(|totals| totals.stored).sum::<u64>();
        let stored_before = stored_before.saturating_sub(STORED_EVENTS.total());
        let mut printed = None;
        let mut updates_since_printed = UPDATES_PER_LINE;
        let mut last = (Instant::now(), ADMITTED_EVENTS.total());
        loop {
            let now = (Instant::now(), ADMITTED_EVENTS.total());
            let status = Status {
                events_per_s: per_second(now.1 - last.1, now.0 - last.0),
                backlog: stream.backlog().await.ok().map(|backlog| backlog.events),
                stored: stored_before + STORED_EVENTS.total(),
            };
            last = now;
            updates_since_printed += 1;
            if printed != Some(status) && (self.in_place || updates_since_printed > UPDATES_PER_LINE) {
                self.print(&status.to_string());
                (printed, updates_since_printed) = (Some(status), 0);
            }
            if *stopped.borrow() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(UPDATE_EVERY) => {}
                _ = stopped.wait_for(|stopped| *stopped) => {}
            }
        }
        if self.in_place {
            println!();
        }
    }

    fn print(&self, text: &str) {
        let mut shown = self.text.lock().expect("no writer of a line panics");
        text.clone_into(&mut shown);
        let written = if self.in_place {
            write!(io::stdout(), "{CLEAR}{text}").and_then(|()| io::stdout().flush())
        } else {
            writeln!(io::stdout(), "{text}")
        };
        // A closed standard output is no reason to stop serving.
        written.ok();
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |number: u64| grouped(number.into());
        let Self { events_per_s, backlog, stored } = *self;
        let backlog = backlog.map_or_else(|| "unknown".to_owned(), number);
        let (events_per_s, stored) = (number(events_per_s), number(stored));
        write!(f, "{events_per_s} events/s · backlog {backlog} · stored {stored}")
    }
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
        let shown = self.0.text.lock().expect("no writer of a line panics");
        let mut log = io::stderr().lock();
        if !self.0.in_place || shown.is_empty() {
            return log.write(bytes);
        }
        log.write_all(CLEAR.as_bytes())?;
        log.write_all(bytes)?;
        log.write_all(shown.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
