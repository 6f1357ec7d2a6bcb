//! A fault that lasts: its reason, and which lines of the log it has already caused.
//!
//! What fails is tried again and again. Its reason must be in the log once when it begins, once for every
//! other reason that it turns out to have, and never once for every attempt.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// After this time a reason that comes back is logged again, also without an end in between.
const REPEAT_AFTER: Duration = Duration::from_secs(60);
/// Reasons remembered. When there are more, the oldest is forgotten.
const REASONS_MAX: usize = 16;

/// The current fault of one thing.
#[derive(Debug, Default)]
pub struct Incident {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// `None` while there is no fault.
    reason: Option<String>,
    logged: Vec<(String, Instant)>,
}

impl Incident {
    /// The reason of the current fault.
    pub fn reason(&self) -> Option<String> {
        self.state().reason.clone()
    }

    /// A check failed for this reason: there is a fault until [`Incident::end`]. Returns whether the reason
    /// is new and must be logged.
    pub fn begin(&self, reason: &str) -> bool {
        let mut state = self.state();
        if state.reason.as_deref() == Some(reason) {
            return false;
        }
        state.reason = Some(reason.to_owned());
        state.remember(reason)
    }

    /// A single attempt failed for this reason, which a check may or may not confirm. Returns whether the
    /// reason is new and must be logged.
    pub fn note(&self, reason: &str) -> bool {
        self.state().remember(reason)
    }

    /// A check passed. Returns whether that ended a fault.
    pub fn end(&self) -> bool {
        let mut state = self.state();
        let ended = state.reason.take().is_some();
        if ended {
            state.logged.clear();
        }
        ended
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns whether the reason was not logged yet.
    fn remember(&mut self, reason: &str) -> bool {
        self.logged.retain(|(_, logged_at)| logged_at.elapsed() < REPEAT_AFTER);
        if self.logged.iter().any(|(logged, _)| logged == reason) {
            return false;
        }
        if self.logged.len() == REASONS_MAX {
            self.logged.remove(0);
        }
        self.logged.push((reason.to_owned(), Instant::now()));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_logged_once_until_the_fault_has_ended() {
        let incident = Incident::default();
        assert!(incident.begin("away") && !incident.begin("away"));
        assert!(incident.begin("loading"), "another reason is another line");
        assert!(!incident.begin("away"), "reasons that take turns are not logged at every turn");
        assert_eq!(incident.reason().as_deref(), Some("away"));
        assert!(incident.end() && !incident.end());
        assert_eq!(incident.reason(), None);
        assert!(incident.begin("away"), "a new fault is logged again");
    }

    #[test]
    fn single_failures_that_no_check_confirms_are_no_fault_and_are_logged_once() {
        let incident = Incident::default();
        assert!(incident.note("refused"));
        assert!(!incident.end(), "there was no fault");
        assert!(!incident.note("refused"));
        assert_eq!(incident.reason(), None);
        assert!(!incident.begin("refused"), "the failure and the check after it are one line");
    }
}
