//! Day partitions of `events` and of the ledger: their names, and how they are created without blocking
//! writers.
//!
//! A partition is created as a separate table and then attached, which takes no lock that a COPY waits for.
//! Only `events_default` is locked, to move the rows of that day out of it.

use std::fmt;

use tokio_postgres::{Client, Error, Transaction};

use millrace_failpoint::{self as failpoint, Point};

const DAY_US: i64 = 86_400_000_000;
/// The Julian day number of 1970-01-01.
const JULIAN_1970: i32 = 2_440_588;
/// The advisory lock of the process that creates partitions ("part").
const LOCK_ID: i64 = 0x7061_7274;
/// Storage parameters of a partition that is only inserted into: vacuum early and freeze immediately, so that
/// there is never much to do, and nothing after the day is over.
const INSERTED_ONLY: &str = "autovacuum_vacuum_insert_threshold = 500000, autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_freeze_min_age = 0, autovacuum_analyze_threshold = 100000, autovacuum_analyze_scale_factor = 0.1";

/// A day, UTC, counted from 1970-01-01.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Day(i32);

impl Day {
    /// The day of a time, microseconds since 1970.
    pub(super) fn of(moment_us: i64) -> Self {
        Self(
            i32::try_from(moment_us.div_euclid(DAY_US))
                .expect("times in the store are within a million years"),
        )
    }

    pub(super) fn plus(self, days: i32) -> Self {
        Self(self.0.saturating_add(days))
    }

    /// Microseconds since 1970.
    pub(super) fn start_us(self) -> i64 {
        i64::from(self.0) * DAY_US
    }

    /// The end of a partition's name: `20261121`.
    fn suffix(self) -> String {
        self.to_string().replace('-', "")
    }

    /// Parses a partition's name.
    pub(super) fn of_partition(name: &str) -> Option<Self> {
        let digits = name.rsplit_once('_')?.1;
        if digits.len() != 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let month = time::Month::try_from(digits[4..6].parse::<u8>().ok()?).ok()?;
        let date =
            time::Date::from_calendar_date(digits[..4].parse().ok()?, month, digits[6..].parse().ok()?)
                .ok()?;
        Some(Self(date.to_julian_day() - JULIAN_1970))
    }
}

impl fmt::Display for Day {
    /// As in SQL: `2026-11-21`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let date = time::Date::from_julian_day(self.0.saturating_add(JULIAN_1970)).unwrap_or(time::Date::MAX);
        write!(f, "{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day())
    }
}

/// The partition of a day after an attempt to create it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DayPartition {
    Created,
    Existing,
    /// There is none and there will be none: retention has removed the day.
    Retired,
}

/// Creates the ledger's partition of a day, unless the day is retired.
pub(super) async fn make_ledger_day(client: &mut Client, day: Day) -> Result<DayPartition, Error> {
    let transaction = begin_locked(client).await?;
    // Retention changes this row, so it waits until this transaction ends.
    let watermark = "SELECT first_day <= $1::text::date FROM ledger_watermark FOR SHARE";
    let is_kept: bool = transaction.query_one(watermark, &[&day.to_string()]).await?.get(0);
    if !is_kept {
        return Ok(DayPartition::Retired);
    }
    let made = make_day(&transaction, "batches", day).await?;
    transaction.commit().await?;
    Ok(made)
}

/// Creates the partition of events of a day, and moves the rows of that day from the default partition into
/// it.
pub(super) async fn make_events_day(client: &mut Client, day: Day) -> Result<DayPartition, Error> {
    let transaction = begin_locked(client).await?;
    let made = make_day(&transaction, "events", day).await?;
    transaction.commit().await?;
    Ok(made)
}

/// Begins a transaction in which no other process creates partitions, and which gives up rather than block
/// writers.
async fn begin_locked(client: &mut Client) -> Result<Transaction<'_>, Error> {
    let transaction = client.transaction().await?;
    let lock = format!("SET LOCAL lock_timeout = '2s'; SELECT pg_advisory_xact_lock({LOCK_ID})");
    transaction.batch_execute(&lock).await?;
    Ok(transaction)
}

async fn make_day(transaction: &Transaction<'_>, parent: &str, day: Day) -> Result<DayPartition, Error> {
    let name = name(parent, day);
    let exists = "SELECT to_regclass($1) IS NOT NULL";
    if transaction.query_one(exists, &[&name]).await?.get(0) {
        return Ok(DayPartition::Existing);
    }
    let (start, end) = (format!("'{day} 00:00:00+00'"), format!("'{} 00:00:00+00'", day.plus(1)));
    let mut statements = format!("CREATE TABLE {name} (LIKE {parent} INCLUDING ALL) WITH ({INSERTED_ONLY});");
    if parent == "events" {
        // Locked before any row is read: a COPY that was routing such a row to the default partition is then
        // refused. Its next attempt finds the new partition.
        statements.push_str(&format!(
            "LOCK TABLE events_default IN ACCESS EXCLUSIVE MODE;
             WITH moved AS (
                 DELETE FROM events_default WHERE timestamp >= {start} AND timestamp < {end} RETURNING *)
             INSERT INTO {name} SELECT * FROM moved;"
        ));
    }
    statements.push_str(&format!(
        "ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({end});"
    ));
    transaction.batch_execute(&statements).await?;
    failpoint::reach(Point::PartitionMade);
    Ok(DayPartition::Created)
}

/// The days that have a partition, oldest first.
pub(super) async fn days(client: &Client, parent: &str) -> Result<Vec<Day>, Error> {
    let children = "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                     WHERE i.inhparent = to_regclass($1)";
    let rows = client.query(children, &[&parent]).await?;
    let mut days: Vec<_> = rows.iter().filter_map(|row| Day::of_partition(row.get(0))).collect();
    days.sort_unstable();
    Ok(days)
}

/// The name of the partition of a day.
pub(super) fn name(parent: &str, day: Day) -> String {
    format!("{parent}_{}", day.suffix())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_survives_formatting_and_parsing() {
        for (us, text) in [(0, "1970-01-01"), (-1, "1969-12-31"), (1_795_219_200_000_000, "2026-11-21")] {
            let day = Day::of(us);
            assert_eq!(day.to_string(), text);
            assert_eq!(Day::of_partition(&name("events", day)), Some(day));
        }
        assert_eq!(Day::of_partition("events_default"), None);
    }
}
