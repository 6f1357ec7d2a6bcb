//! What clients that cancel events were answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

/// The events of a project that were to be cancelled, and the answers.
#[derive(Default, Debug)]
pub struct CancelLog(Mutex<BTreeMap<u64, Answers>>);

#[derive(Clone, Default, Debug)]
struct Answers {
    /// How often an answer said that it has cancelled the event.
    cancelled: u64,
    /// Whether an answer said that the event is cancelled now.
    is_certain: bool,
    /// The last status that an answer gave.
    status: String,
}

impl CancelLog {
    /// The events that some request named.
    pub fn asked(&self) -> BTreeSet<u64> {
        self.lock().keys().copied().collect()
    }

    /// The events that must be cancelled.
    pub fn certain(&self) -> Vec<u64> {
        self.lock().iter().filter(|(_, answers)| answers.is_certain).map(|(number, _)| *number).collect()
    }

    /// Events that more than one answer claims to have cancelled.
    pub fn repeated(&self) -> Vec<(u64, u64)> {
        let log = self.lock();
        let repeated = log.iter().filter(|(_, answers)| answers.cancelled > 1);
        repeated.map(|(number, answers)| (*number, answers.cancelled)).collect()
    }

    pub(super) fn uncertain(&self) -> Vec<u64> {
        self.lock().iter().filter(|(_, answers)| !answers.is_certain).map(|(number, _)| *number).collect()
    }

    /// The last answer about each event that is not certain.
    pub(super) fn uncertain_statuses(&self) -> Vec<(u64, String)> {
        let log = self.lock();
        let uncertain = log.iter().filter(|(_, answers)| !answers.is_certain);
        uncertain.map(|(number, answers)| (*number, answers.status.clone())).collect()
    }

    pub(super) fn ask(&self, numbers: &[u64]) {
        let mut log = self.lock();
        for number in numbers {
            log.entry(*number).or_default();
        }
    }

    pub(super) fn answer(&self, number: u64, status: &str) {
        let mut log = self.lock();
        let answers = log.entry(number).or_default();
        answers.cancelled += u64::from(status == "cancelled");
        answers.status = status.to_owned();
        answers.is_certain |= matches!(status, "cancelled" | "already_cancelled");
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Answers>> {
        self.0.lock().expect("no thread panics while it holds the log")
    }
}
