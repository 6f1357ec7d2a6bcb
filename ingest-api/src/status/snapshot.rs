//! The state that the page receives once a second, as JSON. Every list in it is bounded, and every name is
//! cut to a maximum length.

use millrace_event::printable::printable;
use millrace_store::DeadLetter;
use serde::Serialize;

use super::rejected::Rejected;
use super::today::Today;
use crate::text::clip;

/// The state of the installation at one moment.
#[derive(Serialize, Debug)]
pub struct Snapshot<'a> {
    /// Milliseconds since 1970, by this server's clock.
    pub at_ms: u64,
    pub version: &'static str,
    /// The reasons why no batch is accepted now. Empty when the server is ready.
    pub unready: &'a [String],
    /// `None` in the first state, and when the stream cannot be reached.
    pub rates: Option<Rates>,
    /// `None` when the stream cannot be reached.
    pub backlog: Option<BacklogSize>,
    /// `None` before the store has answered.
    pub today: Option<Today>,
    /// The latest dead letters, the newest first. `None` before the store has answered.
    pub letters: Option<&'a [Letter]>,
    /// What was refused by all API processes.
    pub rejected: Rejected,
}

/// Events per second over all projects, since the previous state.
#[derive(Clone, Copy, Serialize, Debug)]
pub struct Rates {
    pub accepted: f64,
    pub stored: f64,
}

/// The events that wait to be stored.
#[derive(Clone, Copy, Serialize, Debug)]
pub struct BacklogSize {
    pub events: u64,
    pub bytes: u64,
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
            reason: printable(clip(&letter.reason)),
        }
    }
}
