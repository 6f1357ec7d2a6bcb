//! What the page is told once a second, as JSON. Every list in it is bounded, every name clipped.

use millrace_store::DeadLetter;
use serde::Serialize;

use super::refusals::Refused;
use super::today::Today;

/// Longest name or message that is told, in bytes.
const TEXT_BYTES_MAX: usize = 300;

/// One state of the installation.
#[derive(Serialize, Debug)]
pub struct Snapshot<'a> {
    /// When, by this server's clock.
    pub at_ms: u64,
    /// Ours.
    pub version: &'static str,
    /// Why nothing would be accepted now; empty when it would.
    pub unready: &'a [&'static str],
    /// Events a second since the last state; `None` when the stream cannot be asked, and the first time.
    pub rates: Option<Rates>,
    /// What waits; `None` when the stream cannot be asked.
    pub backlog: Option<Waiting>,
    /// Usage; `None` before the store has answered.
    pub today: Option<Today>,
    /// The last dead letters, the newest first; `None` before the store has answered.
    pub letters: Option<&'a [Letter]>,
    /// What this process refused.
    pub refused: Refused,
}

/// Events a second, over all projects.
#[derive(Clone, Copy, Serialize, Debug)]
pub struct Rates {
    /// Let into the stream.
    pub accepted: f64,
    /// Put into the store.
    pub stored: f64,
}

/// What waits to be stored.
#[derive(Clone, Copy, Serialize, Debug)]
pub struct Waiting {
    /// Events.
    pub events: u64,
    /// Their bytes, packed.
    pub bytes: u64,
    /// Age of the oldest.
    pub oldest_age_ms: u64,
}

/// A dead letter.
#[derive(Serialize, Debug)]
pub struct Letter {
    at_ms: i64,
    project: Option<String>,
    events: u64,
    reason: String,
}

impl From<DeadLetter> for Letter {
    fn from(letter: DeadLetter) -> Self {
        Self {
            at_ms: letter.created_at.unix_timestamp() * 1_000,
            project: letter.project_name.map(|name| clip(&name).to_owned()),
            events: letter.event_count,
            reason: clip(&letter.reason).to_owned(),
        }
    }
}

/// The beginning of a text, as much of it as is told.
pub fn clip(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
