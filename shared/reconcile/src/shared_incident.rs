//! The fault of one shard, which many shards may have at the same time. A server that is lost is one line of
//! the log and not one for each of its shards.

use std::sync::{Arc, Mutex, PoisonError};

use millrace_telemetry::incident::Incident;

/// The faults of one kind, of all shards.
#[derive(Debug, Default)]
struct Shared {
    /// Decides what is logged.
    log: Incident,
    /// The reason of each shard; `None` without a fault.
    reasons: Mutex<Vec<Option<String>>>,
}

/// The fault of one shard.
#[derive(Debug)]
pub(crate) struct SharedIncident {
    shard: usize,
    shared: Arc<Shared>,
}

impl SharedIncident {
    /// One for each shard.
    pub(crate) fn of_shards(shards: u16) -> impl Iterator<Item = Self> {
        let reasons = Mutex::new(vec![None; shards.into()]);
        let shared = Arc::new(Shared { log: Incident::default(), reasons });
        (0..usize::from(shards)).map(move |shard| Self { shard, shared: Arc::clone(&shared) })
    }

    /// As [`Incident::reason`].
    pub(crate) fn reason(&self) -> Option<String> {
        self.with_reasons(|reasons| reasons[self.shard].clone())
    }

    /// As [`Incident::begin`]; not new when another shard has the same reason.
    pub(crate) fn begin(&self, reason: &str) -> bool {
        self.with_reasons(|reasons| {
            let is_known = reasons.iter().any(|known| known.as_deref() == Some(reason));
            reasons[self.shard] = Some(reason.to_owned());
            self.shared.log.begin(reason) && !is_known
        })
    }

    /// As [`Incident::note`].
    pub(crate) fn note(&self, reason: &str) -> bool {
        self.shared.log.note(reason)
    }

    /// A check passed. Returns whether that ended the last fault of all shards.
    pub(crate) fn end(&self) -> bool {
        self.with_reasons(|reasons| {
            let ended = reasons[self.shard].take().is_some();
            ended && reasons.iter().all(Option::is_none) && self.shared.log.end()
        })
    }

    fn with_reasons<T>(&self, work: impl FnOnce(&mut Vec<Option<String>>) -> T) -> T {
        work(&mut self.shared.reasons.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_many_shards_is_logged_once_and_ends_with_the_last() {
        let shards: Vec<_> = SharedIncident::of_shards(3).collect();
        assert!(shards[0].begin("away") && !shards[1].begin("away") && !shards[0].begin("away"));
        assert!(shards[2].begin("full"), "another reason is another line");
        assert_eq!(shards[1].reason().as_deref(), Some("away"));
        assert!(!shards[0].end() && !shards[2].end() && shards[1].end());
        assert_eq!(shards[1].reason(), None);
        assert!(shards[2].begin("full"), "a new fault is logged again");
    }
}
