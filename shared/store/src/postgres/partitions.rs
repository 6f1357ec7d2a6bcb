//! Day partitions of `events` and of the ledger: their names, and how they are created without blocking
//! writers.
//!
//! A partition is created as a separate table and then attached, which takes no lock that a COPY waits for.
//! Only `events_default` is locked, to move the rows of these days out of it. A row is deleted there and
//! inserted into its day in one transaction, so every snapshot has it exactly once.
//!
//! This module must never lock a partition before `events` itself: retention locks them in that order.

use std::fmt;

use tokio_postgres::{Client, Error, Transaction};

use super::distribution;
use millrace_failpoint::{self as failpoint, Point};

const DAY_US: i64 = 86_400_000_000;
/// The Julian day number of 1970-01-01.
const JULIAN_1970: i32 = 2_440_588;
/// The advisory lock of the process that creates partitions ("part").
const LOCK_ID: i64 = 0x7061_7274;
/// How long a transaction that creates partitions waits for a lock, unless its caller can wait less.
pub(super) const LOCK_WAIT: &str = "2s";
/// Storage parameters of a partition that is only inserted into: vacuum early and freeze immediately, so that
/// there is never much to do, and nothing after the day is over.
const INSERTED_ONLY: &str = "autovacuum_vacuum_insert_threshold = 500000, autovacuum_vacuum_insert_scale_factor = 0.1,
    autovacuum_freeze_min_age = 0, autovacuum_analyze_threshold = 100000, autovacuum_analyze_scale_factor = 0.1";

/// A day, UTC, counted from 1970-01-01.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Day(i32);

impl Day {
    /// 1970-01-01.
    pub(super) const FIRST: Self = Self(0);

    /// The day with this number, counted from 1970-01-01.
    pub(super) fn number(days: i32) -> Self {
        Self(days)
    }

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

    pub(super) fn minus(self, days: u32) -> Self {
        self.plus(-i32::try_from(days).unwrap_or(i32::MAX).min(1_000_000))
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
    let transaction = begin_locked(client, LOCK_WAIT).await?;
    // Retention changes this row, so it waits until this transaction ends.
    let watermark = "SELECT first_day <= $1::text::date FROM ledger_watermark FOR SHARE";
    let is_kept: bool = transaction.query_one(watermark, &[&day.to_string()]).await?.get(0);
    if !is_kept {
        return Ok(DayPartition::Retired);
    }
    let name = name("batches", day);
    if !table_is_missing(&transaction, &name).await? {
        return Ok(DayPartition::Existing);
    }
    let statements = format!("{}; {}", create("batches", day), attach("batches", day));
    transaction.batch_execute(&statements).await?;
    failpoint::reach(Point::PartitionMade);
    transaction.commit().await?;
    Ok(DayPartition::Created)
}

/// What [`make_events_days`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct MadeDays {
    /// Partitions created.
    pub(super) created: u64,
    /// Rows moved out of the default partition.
    pub(super) moved: u64,
}

/// Creates the partitions of events of these days, as far as they are missing, and moves the rows of these
/// days from the default partition into them. All or nothing.
///
/// # Errors
/// Also when a lock is not available within `lock_wait`, a value of `lock_timeout`.
pub(super) async fn make_events_days(
    client: &mut Client,
    days: &[Day],
    lock_wait: &str,
) -> Result<MadeDays, Error> {
    let transaction = begin_locked(client, lock_wait).await?;
    let is_distributed = distribution::is_distributed(transaction.client()).await?;
    let mut missing = Vec::with_capacity(days.len());
    for &day in days {
        if table_is_missing(&transaction, &name("events", day)).await? {
            missing.push(day);
        }
    }
    if missing.is_empty() {
        return Ok(MadeDays::default());
    }
    if is_distributed {
        distribution::limit_waits(&transaction, lock_wait).await?;
    }
    // Locked before any row is read: a COPY that was routing such a row to the default partition is then
    // refused. Its next attempt finds the new partition.
    let mut locked = String::from(
        "LOCK TABLE ONLY events IN SHARE UPDATE EXCLUSIVE MODE;
         LOCK TABLE events_default IN ACCESS EXCLUSIVE MODE;",
    );
    missing.iter().for_each(|&day| locked.push_str(&create("events", day)));
    transaction.batch_execute(&locked).await?;
    let moved = if is_distributed {
        let attached: String = missing.iter().map(|&day| attach("events", day)).collect();
        distribution::move_rows(&transaction, &is_of_any(&missing), &attached).await?
    } else {
        let moved: i64 = transaction.query_one(&move_rows(&missing), &[]).await?.get(0);
        transaction.batch_execute(&attach_events(&missing)).await?;
        moved.unsigned_abs()
    };
    failpoint::reach(Point::PartitionMade);
    transaction.commit().await?;
    Ok(MadeDays { created: missing.len() as u64, moved })
}

/// Begins a transaction in which no other process creates partitions, and which gives up rather than block
/// writers.
async fn begin_locked<'c>(client: &'c mut Client, lock_wait: &str) -> Result<Transaction<'c>, Error> {
    let transaction = client.transaction().await?;
    let lock = format!("SET LOCAL lock_timeout = '{lock_wait}'; SELECT pg_advisory_xact_lock({LOCK_ID})");
    transaction.batch_execute(&lock).await?;
    Ok(transaction)
}

async fn table_is_missing(transaction: &Transaction<'_>, name: &str) -> Result<bool, Error> {
    Ok(transaction.query_one("SELECT to_regclass($1) IS NULL", &[&name]).await?.get(0))
}

fn create(parent: &str, day: Day) -> String {
    format!("CREATE TABLE {} (LIKE {parent} INCLUDING ALL) WITH ({INSERTED_ONLY});", name(parent, day))
}

fn attach(parent: &str, day: Day) -> String {
    let (start, end) = bounds(day);
    format!(
        "ALTER TABLE {parent} ATTACH PARTITION {} FOR VALUES FROM ({start}) TO ({end});",
        name(parent, day)
    )
}

/// The first moment of a day and of the next one, in SQL.
fn bounds(day: Day) -> (String, String) {
    (format!("'{day} 00:00:00+00'"), format!("'{} 00:00:00+00'", day.plus(1)))
}

/// The condition of the rows of a day.
fn is_of(day: Day) -> String {
    let (start, end) = bounds(day);
    format!("timestamp >= {start} AND timestamp < {end}")
}

/// The condition of the rows of all these days.
fn is_of_any(days: &[Day]) -> String {
    days.iter().map(|&day| is_of(day)).collect::<Vec<_>>().join(" OR ")
}

/// One statement that reads the default partition once, moves the rows of all these days, and returns their
/// number.
fn move_rows(days: &[Day]) -> String {
    let any = is_of_any(days);
    let mut statement = format!("WITH moved AS (DELETE FROM events_default WHERE {any} RETURNING *)");
    for &day in days {
        let (name, rows) = (name("events", day), is_of(day));
        statement.push_str(&format!(", to_{name} AS (INSERT INTO {name} SELECT * FROM moved WHERE {rows})"));
    }
    statement.push_str(" SELECT count(*) FROM moved");
    statement
}

/// Attaches these days. PostgreSQL reads the whole default partition for each of them, unless a constraint
/// proves that it has no row of the day. So there are constraints for all days, checked in a single pass.
fn attach_events(days: &[Day]) -> String {
    let attached: String = days.iter().map(|&day| attach("events", day)).collect();
    if days.len() == 1 {
        return attached;
    }
    let add = |&day: &Day| {
        let (start, end) = bounds(day);
        let constraint = name("not", day);
        format!("ADD CONSTRAINT {constraint} CHECK (timestamp < {start} OR timestamp >= {end})")
    };
    let drop = |&day: &Day| format!("DROP CONSTRAINT {}", name("not", day));
    let added = days.iter().map(add).collect::<Vec<_>>().join(", ");
    let dropped = days.iter().map(drop).collect::<Vec<_>>().join(", ");
    format!("ALTER TABLE events_default {added}; {attached} ALTER TABLE events_default {dropped};")
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
