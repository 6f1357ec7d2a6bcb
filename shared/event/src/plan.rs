//! Plans: how much a project may send, and the arithmetic that decides it.
//!
//! The functions are the reference model of admission: pure, in integers, with the time as an argument.
//! `admit.lua` does the same arithmetic inside Redis, and a property test compares the two.

use std::fmt;
use std::sync::Arc;

use time::{Date, Month, OffsetDateTime};

use crate::policy::{KeyScope, ProjectPolicy};

/// Microseconds in a minute, the window of every rate limit.
const MINUTE_US: u64 = 60_000_000;

/// The highest rate per minute and the largest burst that a plan may allow. In microseconds, the largest
/// burst at the lowest rate is 19 years. Added to the current time that stays below 2^53, because scripts in
/// Redis use doubles.
pub const REQUESTS_MAX: u32 = 10_000_000;
/// The largest quota that is not unlimited; below 2^53 for the same reason.
pub const EVENTS_PER_MONTH_MAX: u64 = 1_000_000_000_000_000;
/// The largest batch that a plan may allow, in events.
pub const EVENTS_PER_BATCH_MAX: u32 = 1_000;

/// A project's number in the store.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ProjectId(pub i64);

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ProjectId {
    /// The shard that holds all keys of this project. `shards` must never change during the life of an
    /// installation.
    pub fn shard(self, shards: u16) -> u16 {
        u16::try_from(self.0.rem_euclid(i64::from(shards.max(1)))).unwrap_or(0)
    }
}

/// The limits of a project: a row of the table `plans`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// `free`, `pro`, `enterprise`, or a name that an operator chose.
    pub name: String,
    /// Long-term rate of requests per minute. At least 1.
    pub requests_per_minute: u32,
    /// Requests that may arrive together after a quiet period. At least 1.
    pub burst: u32,
    /// Events per calendar month (UTC, by the stream's clock); `None` is unlimited.
    pub events_per_month: Option<u64>,
    /// Events in one batch.
    pub events_per_batch: u32,
}

impl Plan {
    /// Microseconds between two requests at the full rate, rounded up, so that rounding never admits more
    /// requests.
    pub fn interval_us(&self) -> u64 {
        MINUTE_US.div_ceil(u64::from(self.requests_per_minute.max(1)))
    }

    /// Microseconds by which the theoretical arrival time may be ahead of the clock: the whole burst.
    pub fn tolerance_us(&self) -> u64 {
        self.interval_us() * u64::from(self.burst.max(1))
    }

    /// The largest batch that can pass with an unused quota.
    pub fn batch_events_max(&self) -> u64 {
        u64::from(self.events_per_batch).min(self.events_per_month.unwrap_or(u64::MAX))
    }
}

/// The project that an API key belongs to, with its plan and its signing secrets.
#[derive(Clone, Debug)]
pub struct Account {
    pub project: ProjectId,
    /// For messages and logs.
    pub project_name: Arc<str>,
    /// The key's number in the store, for last-used times and logs.
    pub key_id: i64,
    /// The SHA-256 of the key.
    pub key_hash: [u8; 32],
    pub plan: Arc<Plan>,
    pub policy: ProjectPolicy,
    pub scope: KeyScope,
    /// Origins of pages that may use the key, as browsers send them; empty allows every client.
    pub allowed_origins: Vec<String>,
    /// When the key stops working, if it was rotated.
    pub expires_at: Option<OffsetDateTime>,
    /// Unless empty, every request must carry a Standard Webhooks signature by one of these secrets. The
    /// newest comes first; older ones are being rotated out.
    pub signing_secrets: Vec<Vec<u8>>,
}

/// How much of its limits a project has used, at one moment of the stream's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LimitState {
    /// The moment, in microseconds since 1970.
    pub now_us: u64,
    /// GCRA's theoretical arrival time, in microseconds since 1970. It is in the past while the project is
    /// quiet.
    pub tat_us: u64,
    /// Events charged to the current month.
    pub used: u64,
}

/// Why a plan refuses a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Too many requests.
    Rate {
        /// Microseconds until the next request can pass.
        wait_us: u64,
    },
    /// The batch is larger than the rest of the month's quota.
    Quota,
}

impl LimitState {
    /// Charges one batch of `count` events, and returns the new state.
    ///
    /// GCRA (generic cell rate algorithm, ITU-T I.371, "virtual scheduling"): a request at `now` moves the
    /// theoretical arrival time to `max(tat, now) + interval`, and passes if that is at most `now +
    /// tolerance`.
    ///
    /// # Errors
    /// [`Refusal`] when the batch must not pass; nothing is charged then.
    pub fn charge(self, plan: &Plan, count: u64) -> Result<LimitState, Refusal> {
        let tat_us = self.tat_us.max(self.now_us) + plan.interval_us();
        let latest_us = self.now_us + plan.tolerance_us();
        if tat_us > latest_us {
            return Err(Refusal::Rate { wait_us: tat_us - latest_us });
        }
        if plan.events_per_month.is_some_and(|quota| self.used + count > quota) {
            return Err(Refusal::Quota);
        }
        Ok(LimitState { tat_us, used: self.used + count, ..self })
    }

    /// Requests that would pass now.
    pub fn requests_left(&self, plan: &Plan) -> u64 {
        let ahead_us = self.tat_us.saturating_sub(self.now_us);
        plan.tolerance_us().saturating_sub(ahead_us) / plan.interval_us()
    }

    /// Whole seconds, rounded up, until the full burst is available.
    pub fn rate_reset_s(&self) -> u64 {
        self.tat_us.saturating_sub(self.now_us).div_ceil(1_000_000)
    }

    /// Events left this month; `None` is unlimited.
    pub fn events_left(&self, plan: &Plan) -> Option<u64> {
        plan.events_per_month.map(|quota| quota.saturating_sub(self.used))
    }

    /// Whole seconds, rounded up, until the next month begins.
    pub fn quota_reset_s(&self) -> u64 {
        next_month_us(self.now_us).saturating_sub(self.now_us).div_ceil(1_000_000)
    }
}

/// The calendar month (UTC) of a moment, as `year * 100 + month`: 202611 is November 2026.
pub fn month_of(now_us: u64) -> u32 {
    let date = date_of(now_us);
    date.year().unsigned_abs() * 100 + u32::from(u8::from(date.month()))
}

/// The first moment of the month after the one that contains `now_us`, in microseconds since 1970.
pub fn next_month_us(now_us: u64) -> u64 {
    let date = date_of(now_us);
    let year = date.year() + i32::from(date.month() == Month::December);
    month_start_us(year, date.month().next())
}

/// The first moment of the month that contains `now_us`, in microseconds since 1970.
pub fn this_month_us(now_us: u64) -> u64 {
    let date = date_of(now_us);
    month_start_us(date.year(), date.month())
}

/// Moments after the year 9999 count as its last day.
fn date_of(now_us: u64) -> Date {
    let seconds = i64::try_from(now_us / 1_000_000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).map_or(Date::MAX, OffsetDateTime::date)
}

fn month_start_us(year: i32, month: Month) -> u64 {
    let first = Date::from_calendar_date(year, month, 1).unwrap_or(Date::MAX);
    first.midnight().assume_utc().unix_timestamp().unsigned_abs() * 1_000_000
}
