//! The headers `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers): structured-field
//! lists with one member for each limit of the plan. `q` is the quota, `w` its window in seconds, `r` the
//! remaining amount, `t` the seconds until the whole quota is available again.

use std::fmt::Write;

use hyper::header::HeaderValue;
use millrace_event::plan::{LimitState, Plan, next_month_us, this_month_us};

/// The name of the limit on requests per minute.
pub const MINUTE: &str = "minute";
/// The name of the limit on events per month.
pub const MONTH: &str = "month";

/// The values of the two headers for a project.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fields {
    /// The value of `RateLimit-Policy`.
    pub policy: HeaderValue,
    /// The value of `RateLimit`.
    pub state: HeaderValue,
}

impl Fields {
    pub fn new(plan: &Plan, limit_state: &LimitState) -> Self {
        let mut policy = String::with_capacity(64);
        let mut state = String::with_capacity(64);
        let infallible = "writing to a String does not fail";
        write!(policy, "\"{MINUTE}\";q={};w=60", plan.requests_per_minute).expect(infallible);
        let (left, reset_s) = (limit_state.requests_left(plan), limit_state.rate_reset_s());
        write!(state, "\"{MINUTE}\";r={left};t={reset_s}").expect(infallible);
        if let (Some(quota), Some(left)) = (plan.events_per_month, limit_state.events_left(plan)) {
            let month_us = next_month_us(limit_state.now_us) - this_month_us(limit_state.now_us);
            write!(policy, ", \"{MONTH}\";q={quota};w={}", month_us / 1_000_000).expect(infallible);
            write!(state, ", \"{MONTH}\";r={left};t={}", limit_state.quota_reset_s()).expect(infallible);
        }
        let value = |text: String| HeaderValue::try_from(text).expect("digits and quotes are valid");
        Self { policy: value(policy), state: value(state) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(events_per_month: Option<u64>) -> Plan {
        let name = "test".into();
        Plan { name, requests_per_minute: 100, burst: 100, events_per_month, events_per_batch: 10 }
    }

    #[test]
    fn a_plan_with_a_quota_shows_both_limits() {
        let now_us = 1_795_219_200_000_000; // 2026-11-21T00:00:00Z
        let limit_state = LimitState { now_us, tat_us: now_us + 1_200_000, used: 40 };
        let fields = Fields::new(&plan(Some(1_000)), &limit_state);
        assert_eq!(fields.policy, r#""minute";q=100;w=60, "month";q=1000;w=2592000"#);
        assert_eq!(fields.state, r#""minute";r=98;t=2, "month";r=960;t=864000"#);
    }

    #[test]
    fn a_plan_without_a_quota_leaves_the_month_out() {
        let fields = Fields::new(&plan(None), &LimitState { now_us: 5, tat_us: 0, used: 9 });
        assert_eq!(fields.policy, r#""minute";q=100;w=60"#);
        assert_eq!(fields.state, r#""minute";r=100;t=0"#);
    }
}
