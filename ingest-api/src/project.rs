//! The state of a project that this process keeps between requests: its last known limits, and the time until
//! which it is over its rate.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use millrace_event::plan::{LimitState, Plan, month_of};

use crate::body::SenderBytes;

/// A project under one plan. A change of plan makes a new one.
#[derive(Debug)]
pub struct Project {
    plan: Arc<Plan>,
    observation: Mutex<Option<Observation>>,
    blocked_until: Mutex<Option<Instant>>,
    /// Memory that its bodies take now.
    pub body_bytes: SenderBytes,
}

/// The stream's last answer about the project, and its time.
#[derive(Clone, Copy, Debug)]
struct Observation {
    limit_state: LimitState,
    at: Instant,
}

impl Project {
    pub fn new(plan: Arc<Plan>) -> Self {
        let body_bytes = SenderBytes::default();
        Self { plan, observation: Mutex::default(), blocked_until: Mutex::default(), body_bytes }
    }

    /// The same project under another plan. The charges are kept. The block is not, because the next request
    /// may pass under the new plan.
    pub fn with_plan(&self, plan: Arc<Plan>) -> Self {
        let observation = *self.observation.lock().expect("no holder panics");
        let (observation, body_bytes) = (Mutex::new(observation), self.body_bytes.clone());
        Self { plan, observation, blocked_until: Mutex::default(), body_bytes }
    }

    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Remembers an answer of the stream. Answers can arrive out of order: the one with the latest time is
    /// kept.
    pub fn observe(&self, limit_state: LimitState) {
        let mut observation = self.observation.lock().expect("no holder panics");
        if observation.is_none_or(|earlier| earlier.limit_state.now_us <= limit_state.now_us) {
            *observation = Some(Observation { limit_state, at: Instant::now() });
        }
    }

    /// The limits now, as far as this process can tell: the stream's last answer, advanced by the local
    /// clock. Before the first answer, the full plan is left.
    pub fn limit_state(&self) -> LimitState {
        let observation = *self.observation.lock().expect("no holder panics");
        match observation {
            Some(Observation { limit_state, at }) => advance(limit_state, at.elapsed()),
            None => {
                let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
                LimitState { now_us: as_us(now), tat_us: 0, used: 0 }
            }
        }
    }

    /// Refuses requests without an idempotency key until then: nothing of the project can pass earlier.
    pub fn block_until(&self, until: Instant) {
        let mut blocked = self.blocked_until.lock().expect("no holder panics");
        if blocked.is_none_or(|earlier| earlier < until) {
            *blocked = Some(until);
        }
    }

    /// How long from `now` nothing of the project can pass. `None` when something may pass.
    pub fn blocked_for(&self, now: Instant) -> Option<Duration> {
        let mut blocked = self.blocked_until.lock().expect("no holder panics");
        let left = (*blocked)?.checked_duration_since(now).filter(|left| !left.is_zero());
        if left.is_none() {
            *blocked = None;
        }
        left
    }
}

/// The limits after a time in which nothing was admitted.
fn advance(limit_state: LimitState, by: Duration) -> LimitState {
    let now_us = limit_state.now_us + as_us(by);
    let same_month = month_of(now_us) == month_of(limit_state.now_us);
    LimitState { now_us, tat_us: limit_state.tat_us, used: if same_month { limit_state.used } else { 0 } }
}

fn as_us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Arc<Plan> {
        Arc::new(Plan {
            name: "test".into(),
            requests_per_minute: 60,
            burst: 60,
            events_per_month: Some(100),
            events_per_batch: 10,
        })
    }

    #[test]
    fn the_used_events_are_0_again_when_the_month_ends() {
        let december_31 = 1_798_761_599_000_000; // 2026-12-31T23:59:59Z
        let limit_state = LimitState { now_us: december_31, tat_us: 0, used: 70 };
        assert_eq!(advance(limit_state, Duration::from_millis(500)).used, 70);
        assert_eq!(advance(limit_state, Duration::from_millis(1_500)).used, 0);
    }

    #[test]
    fn an_older_answer_does_not_replace_a_newer_one() {
        let project = Project::new(plan());
        project.observe(LimitState { now_us: 2_000_000, tat_us: 9, used: 2 });
        project.observe(LimitState { now_us: 1_000_000, tat_us: 8, used: 1 });
        assert_eq!(project.limit_state().used, 2);
    }

    #[test]
    fn a_block_ends_at_its_moment_and_with_the_plan() {
        let project = Project::new(plan());
        let now = Instant::now();
        let second = Duration::from_secs(1);
        project.block_until(now + second);
        assert_eq!(project.blocked_for(now), Some(second));
        assert_eq!(project.with_plan(plan()).blocked_for(now), None);
        assert_eq!(project.blocked_for(now + second), None);
        assert_eq!(project.blocked_for(now), None, "an ended block is forgotten");
    }
}
