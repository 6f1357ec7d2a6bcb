//! Decides when a periodic task is due.

use std::time::{Duration, Instant};

/// A task that is due once in each period.
pub(super) struct Schedule {
    period: Duration,
    next: Instant,
}

impl Schedule {
    /// `first` is the time until the task is due for the first time.
    pub(super) fn new(period: Duration, first: Duration) -> Self {
        Self { period, next: Instant::now() + first }
    }

    /// Whether the task is due; if so, the next period begins now.
    pub(super) fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = now >= self.next;
        if due {
            self.next = now + self.period;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_due_after_the_first_pause_and_then_once_a_period() {
        let mut schedule = Schedule::new(Duration::from_secs(3_600), Duration::ZERO);
        assert!(schedule.is_due());
        assert!(!schedule.is_due());
        assert!(!Schedule::new(Duration::ZERO, Duration::from_secs(3_600)).is_due());
    }
}
