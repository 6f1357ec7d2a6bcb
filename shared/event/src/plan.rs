//! What a project may do, and the arithmetic that decides it.
//!
//! The functions here are the reference model: pure, in integers, with the time as an argument. `admit.lua` does
//! the same arithmetic beside the data; a property test holds the two together. No I/O in this room.

use std::fmt;
use std::sync::Arc;

use time::OffsetDateTime;

/// Microseconds in a minute, the window of every rate limit.
const MINUTE_US: u64 = 60_000_000;

/// Most requests a minute, and most at once, that a plan may allow. In microseconds the largest burst at the lowest rate
/// is 19 years, which together with any time of ours stays below 2^53: scripts in Redis count in doubles.
pub const REQUESTS_MAX: u32 = 10_000_000;
/// The largest quota that is not unlimited; below 2^53 for the same reason.
pub const EVENTS_PER_MONTH_MAX: u64 = 1_000_000_000_000_000;
/// Most events in one batch that a plan may allow.
pub const EVENTS_PER_BATCH_MAX: u32 = 1_000;

/// A project's number, as PostgreSQL gave it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ProjectId(pub i64);

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ProjectId {
    /// The shard on which everything of this project lives. Fixed for the life of an installation.
    pub fn shard(self, shards: u16) -> u16 {
        u16::try_from(self.0.rem_euclid(i64::from(shards.max(1)))).unwrap_or(0)
    }
}

/// What a project has paid for: a row of the table `plans`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The name operators use: `free`, `pro`, `enterprise` or one of their own.
    pub name: String,
    /// Requests a minute, in the long run. At least 1.
    pub requests_per_minute: u32,
    /// Requests that may arrive at once after a quiet minute. At least 1.
    pub burst: u32,
    /// Events a calendar month (UTC, on the stream's clock); `None` is unlimited.
    pub events_per_month: Option<u64>,
    /// Events in one batch.
    pub events_per_batch: u32,
}

impl Plan {
    /// Microseconds between two requests at the full rate, rounded up, so that rounding never admits more.
    pub fn interval_us(&self) -> u64 {
        MINUTE_US.div_ceil(u64::from(self.requests_per_minute.max(1)))
    }

    /// How far ahead of the clock the theoretical arrival time may run: the whole burst.
    pub fn tolerance_us(&self) -> u64 {
        self.interval_us() * u64::from(self.burst.max(1))
    }

    /// The largest batch that could ever pass, whatever the state of the quota.
    pub fn batch_events_max(&self) -> u64 {
        u64::from(self.events_per_batch).min(self.events_per_month.unwrap_or(u64::MAX))
    }
}

/// What one key opens: the project, its plan, and how its requests must be signed.
#[derive(Clone, Debug)]
pub struct Account {
    /// The project that is charged.
    pub project: ProjectId,
    /// Its name, for messages and logs.
    pub project_name: Arc<str>,
    /// The key's own number, for last-used times and logs. Never the key.
    pub key_id: i64,
    /// SHA-256 of the key.
    pub key_hash: [u8; 32],
    /// The plan in force.
    pub plan: Arc<Plan>,
    /// The moment from which on the key is refused, when it was rotated.
    pub expires_at: Option<OffsetDateTime>,
    /// When not empty, every request must carry a Standard Webhooks signature by one of these secrets (the newest
    /// first; the older ones are being rotated out).
    pub signing_secrets: Vec<Vec<u8>>,
}

/// What the stream knows of a project at one moment of its own clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LimitState {
    /// The moment, in microseconds since 1970, on the stream's clock.
    pub now_us: u64,
    /// GCRA's theoretical arrival time, same unit; in the past when the project is quiet.
    pub tat_us: u64,
    /// Events charged to the current month.
    pub used: u64,
}

/// Why a plan refuses a batch, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Too many requests; nothing can pass for this many microseconds.
    Rate {
        /// Microseconds until one request could pass.
        wait_us: u64,
    },
    /// The batch does not fit into what is left of the month.
    Quota,
}

impl LimitState {
    /// The reference model of admission: what becomes of one batch of `count` events now.
    ///
    /// GCRA (generic cell rate algorithm, ITU-T I.371, "virtual scheduling"): a request at `now` moves the
    /// theoretical arrival time to `max(tat, now) + interval`; it passes when that is at most `now + tolerance`.
    ///
    /// # Errors
    /// [`Refusal`]; the limit_state is then unchanged.
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

    /// Requests that would pass right now.
    pub fn requests_left(&self, plan: &Plan) -> u64 {
        let ahead_us = self.tat_us.saturating_sub(self.now_us);
        plan.tolerance_us().saturating_sub(ahead_us) / plan.interval_us()
    }

    /// Whole seconds, rounded up, until the full burst is there again.
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
    let (year, month) = civil_month(now_us);
    year * 100 + month
}

/// The first moment of the month after the one that holds `now_us`.
pub fn next_month_us(now_us: u64) -> u64 {
    let (year, month) = civil_month(now_us);
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    month_start_us(next_year, next_month)
}

/// The first moment of the month that holds `now_us`.
pub fn this_month_us(now_us: u64) -> u64 {
    let (year, month) = civil_month(now_us);
    month_start_us(year, month)
}

const DAY_US: u64 = 86_400_000_000;

/// Year and month from microseconds since 1970: Howard Hinnant's `civil_from_days`, for days after 1970 only.
fn civil_month(now_us: u64) -> (u32, u32) {
    let shifted_days = now_us / DAY_US + 719_468;
    let era = shifted_days / 146_097;
    let day_of_era = shifted_days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (u32::try_from(year).unwrap_or(u32::MAX), u32::try_from(month).unwrap_or(1))
}

/// Microseconds since 1970 at the first moment of a month: Howard Hinnant's `days_from_civil` with day 1.
fn month_start_us(year: u32, month: u32) -> u64 {
    let shifted_year = u64::from(year) - u64::from(month <= 2);
    let era = shifted_year / 400;
    let year_of_era = shifted_year % 400;
    let shifted_month = u64::from(if month > 2 { month - 3 } else { month + 9 });
    let day_of_year = (153 * shifted_month + 2) / 5;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era - 719_468) * DAY_US
}
