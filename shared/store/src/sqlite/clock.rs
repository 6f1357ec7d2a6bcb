//! Times as the tables store them: whole microseconds since 1970, UTC.

use std::time::SystemTime;

use time::OffsetDateTime;

pub(super) const HOUR_US: i64 = 3_600_000_000;
pub(super) const DAY_US: i64 = 24 * HOUR_US;

pub(super) fn now_us() -> i64 {
    let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(age.as_micros()).unwrap_or(i64::MAX)
}

pub(super) fn micros(moment: OffsetDateTime) -> i64 {
    i64::try_from(moment.unix_timestamp_nanos().div_euclid(1_000)).expect("years up to 9999 fit")
}

pub(super) fn moment(us: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

pub(super) fn day_start(us: i64) -> i64 {
    us.div_euclid(DAY_US) * DAY_US
}
