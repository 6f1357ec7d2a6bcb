//! The arithmetic of plans: the rate limit, the quota, and the calendar.

use millrace_event::plan::{LimitState, Plan, Refusal, month_of, next_month_us, this_month_us};

const DAY_US: u64 = 86_400_000_000;
const SECOND_US: u64 = 1_000_000;

fn plan(requests_per_minute: u32, burst: u32, events_per_month: Option<u64>) -> Plan {
    Plan { name: "test".to_owned(), requests_per_minute, burst, events_per_month, events_per_batch: 1_000 }
}

#[test]
fn a_burst_passes_and_then_one_request_per_interval() {
    let plan = plan(60, 3, None);
    let mut state = LimitState { now_us: DAY_US, ..LimitState::default() };
    for left in [2, 1, 0] {
        state = state.charge(&plan, 1).unwrap();
        assert_eq!(state.requests_left(&plan), left);
    }
    assert_eq!(state.charge(&plan, 1), Err(Refusal::Rate { wait_us: SECOND_US }));
    state.now_us += SECOND_US - 1;
    assert_eq!(state.charge(&plan, 1), Err(Refusal::Rate { wait_us: 1 }));
    state.now_us += 1;
    state = state.charge(&plan, 1).unwrap();
    assert_eq!(state.rate_reset_s(), 3, "the whole burst is available after three intervals");
}

#[test]
fn an_interval_is_rounded_up_so_that_rounding_never_admits_more_requests() {
    assert_eq!(plan(7, 1, None).interval_us(), 8_571_429);
    assert_eq!(plan(60_000_001, 1, None).interval_us(), 1);
}

#[test]
fn a_batch_larger_than_the_rest_of_the_month_is_refused_and_not_charged() {
    let plan = plan(60, 10, Some(100));
    let state = LimitState { now_us: DAY_US, tat_us: 0, used: 95 };
    assert_eq!(state.charge(&plan, 6), Err(Refusal::Quota));
    let charged = state.charge(&plan, 5).unwrap();
    assert_eq!((charged.used, charged.events_left(&plan)), (100, Some(0)));
    assert_eq!(plan.batch_events_max(), 100);
}

#[test]
fn a_month_is_the_calendar_month_in_utc() {
    assert_eq!(month_of(0), 197_001);
    assert_eq!(month_of(1_795_229_507_143_999), 202_611);
    assert_eq!(this_month_us(1_795_229_507_143_999), 1_793_491_200_000_000, "2026-11-01T00:00:00Z");
    assert_eq!(next_month_us(1_795_229_507_143_999), 1_796_083_200_000_000, "2026-12-01T00:00:00Z");
    assert_eq!(month_of(951_782_400_000_000), 200_002, "2000-02-29 exists");
    assert_eq!(LimitState { now_us: 30 * DAY_US + 1, ..LimitState::default() }.quota_reset_s(), 86_400);
}

#[test]
fn months_follow_each_other_without_a_gap_for_60_000_days() {
    let mut month = (month_of(0), this_month_us(0), next_month_us(0));
    for day in 0..60_000 {
        for now_us in [day * DAY_US, (day + 1) * DAY_US - 1] {
            if now_us == month.1.max(month.2) {
                let (year, number) = (month.0 / 100, month.0 % 100);
                let expected = if number == 12 { (year + 1) * 100 + 1 } else { month.0 + 1 };
                assert_eq!((month_of(now_us), this_month_us(now_us)), (expected, now_us));
                month = (expected, now_us, next_month_us(now_us));
                let days = (month.2 - month.1) / DAY_US;
                assert!((28..=31).contains(&days), "{expected} has {days} days");
            }
            assert_eq!((month_of(now_us), this_month_us(now_us), next_month_us(now_us)), month, "day {day}");
        }
    }
    assert_eq!(month.0, 213_404, "60,000 days end in April 2134");
}

#[test]
fn a_moment_after_the_last_year_of_the_calendar_does_not_panic() {
    assert_eq!(month_of(u64::MAX), 999_912);
    assert!(next_month_us(u64::MAX) >= this_month_us(u64::MAX));
}
