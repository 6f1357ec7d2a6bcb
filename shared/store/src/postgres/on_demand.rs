//! Days of `events` that are made on demand: for an import of history, and for rows of such days that are
//! already in the default partition.
//!
//! A writer makes the days of its rows before it sends them, so that an import never fills the default
//! partition. What it cannot make in time, because of a lock or because no upkeep has told it the retention
//! yet, goes to the default partition, and upkeep makes the day and moves the rows later.
//!
//! This module must never fail a write: a missing day only costs time.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use super::copy;
use super::distribution;
use super::error::Failure;
use super::partitions::{self, Day, MadeDays};
use super::session::Session;
use crate::{UpkeepPolicy, metrics};

/// Partitions are created up to this many days after today, by upkeep and on demand.
pub(super) const DAYS_AHEAD: i32 = 3;
/// Partitions of events, at most. A query without bounds locks each of them twice.
const DAYS_MAX: i32 = 4_000;
/// Days made in one transaction, at most. It holds about five locks for each of them.
const GROUP_DAYS: usize = 16;
/// Rows moved in one transaction, at most, unless a single day has more.
const GROUP_ROWS: i64 = 100_000;
/// A writer leaves the days to upkeep when the default partition is larger: it would read all of it, with
/// other writers waiting.
const WRITER_DEFAULT_BYTES_MAX: i64 = 64 << 20;
/// How long a writer makes days for one write, at most.
const WRITER_TIME_MAX: Duration = Duration::from_secs(5);
/// How long the writers of a process make no days after one of them could not.
const WRITER_PAUSE: Duration = Duration::from_secs(30);
/// How long one round of upkeep moves rows, at most.
const ROUND_TIME_MAX: Duration = Duration::from_secs(5);
/// Every query without bounds reads the default partition, so no process waits long for its lock.
const LOCK_WAIT: &str = "500ms";

/// What the writers of a process know of the days of `events`. Upkeep refreshes it in each round.
#[derive(Default)]
pub(super) struct EventDays {
    known: Mutex<Known>,
    /// Held while days are made, so that the lanes of a process do not compete.
    making: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    /// First and last day that is made on demand. `None` before the first upkeep.
    wanted: Option<(Day, Day)>,
    existing: BTreeSet<Day>,
    /// The first and last of a run of existing days with today in it: rows between them need no closer look.
    usual: Option<(Day, Day)>,
    paused_until: Option<Instant>,
    is_full: bool,
}

impl EventDays {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether rows from the first to the last of these days may need a day to be made. Cheap, and false for
    /// rows of today.
    pub(super) fn may_need(&self, first: Day, last: Day) -> bool {
        let known = self.known();
        let is_usual = known.usual.is_some_and(|(from, to)| from <= first && last <= to);
        !is_usual && known.wanted.is_some_and(|(from, to)| from <= last && first <= to)
    }

    /// Those of these days that should be made now.
    fn missing(&self, days: &[Day]) -> Vec<Day> {
        let known = self.known();
        let Some((from, to)) = known.wanted else { return Vec::new() };
        if known.paused_until.is_some_and(|until| Instant::now() < until) {
            return Vec::new();
        }
        let is_missing = |day: &Day| from <= *day && *day <= to && !known.existing.contains(day);
        days.iter().copied().filter(is_missing).collect()
    }

    /// Makes those of a writer's days that are missing. Must not be called inside a transaction.
    pub(super) async fn make(&self, client: &mut Client, days: &[Day]) {
        if self.missing(days).is_empty() {
            return;
        }
        let _turn = self.making.lock().await;
        let missing = self.missing(days);
        if missing.is_empty() {
            return;
        }
        match make_for_writer(client, &missing).await {
            Ok(made) if made.len() == missing.len() => self.known().existing.extend(made),
            Ok(made) => {
                let mut known = self.known();
                known.existing.extend(made);
                known.paused_until = Some(Instant::now() + WRITER_PAUSE);
            }
            Err(error) => {
                let error = Failure::from(&error).message;
                tracing::debug!(%error, "days of events could not be made; upkeep makes them later");
                self.known().paused_until = Some(Instant::now() + WRITER_PAUSE);
            }
        }
    }

    /// Learns which days exist and which are wanted. `now_us` is the database's clock.
    pub(super) async fn refresh(
        &self,
        session: &Session,
        policy: &UpkeepPolicy,
        now_us: i64,
    ) -> Result<(), Error> {
        let existing: BTreeSet<Day> = partitions::days(session, "events").await?.into_iter().collect();
        // On the coordinator of Citus, the table has no statistics.
        let rows = match distribution::is_distributed(session).await? {
            true => "SELECT count(*) FROM events_default",
            false => "SELECT pg_stat_get_live_tuples('events_default'::regclass)",
        };
        let rows: i64 = session.query_one(rows, &[]).await?.get(0);
        metrics::event_days(existing.len(), rows.unsigned_abs());
        let mut known = self.known();
        known.usual = run_around(&existing, Day::of(now_us));
        known.existing = existing;
        known.wanted = Some(wanted(policy, now_us));
        Ok(())
    }

    /// Remembers whether no more days can be made. Returns whether that is new.
    fn becomes_full(&self, is_full: bool) -> bool {
        let mut known = self.known();
        let was_full = std::mem::replace(&mut known.is_full, is_full);
        is_full && !was_full
    }
}

/// The first and the last day that is made on demand: nothing that retention would drop immediately, nothing
/// before 1970, and nothing beyond the days that upkeep makes ahead.
fn wanted(policy: &UpkeepPolicy, now_us: i64) -> (Day, Day) {
    let today = Day::of(now_us);
    let oldest = policy.retention_days.map_or(Day::FIRST, |days| today.minus(days));
    (oldest.max(Day::FIRST), today.plus(DAYS_AHEAD))
}

/// The first and last of the days around this one without a gap.
fn run_around(days: &BTreeSet<Day>, today: Day) -> Option<(Day, Day)> {
    if !days.contains(&today) {
        return None;
    }
    let run = |step: i32| {
        let mut day = today;
        while days.contains(&day.plus(step)) {
            day = day.plus(step);
        }
        day
    };
    Some((run(-1), run(1)))
}

/// Makes these days while there is time. Returns those that have a partition now.
async fn make_for_writer(client: &mut Client, days: &[Day]) -> Result<Vec<Day>, Error> {
    let began = Instant::now();
    let mut made = Vec::with_capacity(days.len());
    if default_bytes(client).await? > WRITER_DEFAULT_BYTES_MAX {
        return Ok(made);
    }
    // The newest first: they are queried most, and the room may not be enough for all.
    let days: Vec<Day> = days.iter().rev().copied().take(room(client).await?).collect();
    for group in days.chunks(GROUP_DAYS) {
        if began.elapsed() > WRITER_TIME_MAX {
            break;
        }
        let MadeDays { created, moved } = partitions::make_events_days(client, group, LOCK_WAIT).await?;
        metrics::days_made_on_demand(created, moved);
        made.extend_from_slice(group);
    }
    Ok(made)
}

/// Moves rows of the default partition into their days, the newest days first, and makes these days. Does a
/// bounded amount of work. A lock that is not available ends it until the next round. A day whose rows cannot
/// be moved, such as rows that violate a CHECK that an operator added later, stays where it is.
pub(super) async fn move_from_default(
    session: &mut Session,
    days: &EventDays,
    policy: &UpkeepPolicy,
    now_us: i64,
) -> Result<(), Error> {
    let began = Instant::now();
    if default_bytes(session).await? == 0 {
        return Ok(());
    }
    let bounds = wanted(policy, now_us);
    let is_distributed = distribution::is_distributed(session).await?;
    if !is_distributed && !has_days(session, bounds).await? {
        return Ok(());
    }
    let room = room(session).await?;
    if days.becomes_full(room == 0) {
        tracing::warn!("events has as many day partitions as it may have; other days stay in events_default");
    }
    if room == 0 {
        return Ok(());
    }
    let mut waiting = days_in_default(session, bounds).await?;
    waiting.truncate(room);
    let (mut waiting, mut days_max) = (waiting.as_slice(), GROUP_DAYS);
    while !waiting.is_empty() && began.elapsed() < ROUND_TIME_MAX {
        let (group, rest) = waiting.split_at(group_size(waiting, days_max));
        let group: Vec<Day> = group.iter().map(|(day, _)| *day).collect();
        match partitions::make_events_days(session.client_mut(), &group, LOCK_WAIT).await {
            Ok(MadeDays { created, moved }) => metrics::days_made_on_demand(created, moved),
            Err(error) if is_in_use(&error) => {
                tracing::debug!("events_default is in use; its rows are moved in a later round");
                break;
            }
            Err(error) if error.code().is_some() && group.len() > 1 => {
                days_max = 1;
                continue;
            }
            Err(error) if error.code().is_some() => {
                let (day, error) = (group[0], Failure::from(&error).message);
                tracing::warn!(%day, %error, "the rows of a day could not be moved out of events_default");
            }
            Err(error) => return Err(error),
        }
        waiting = rest;
    }
    Ok(())
}

/// The number of days, at least one, that are moved together.
fn group_size(days: &[(Day, i64)], days_max: usize) -> usize {
    let mut rows = 0;
    let fits = |(_, count): &&(Day, i64)| {
        rows += count;
        rows <= GROUP_ROWS
    };
    days.iter().take(days_max).take_while(fits).count().max(1)
}

/// Another session holds a lock that was waited for.
fn is_in_use(error: &Error) -> bool {
    [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED]
        .iter()
        .any(|code| error.code() == Some(code))
}

async fn default_bytes(client: &Client) -> Result<i64, Error> {
    let size = match distribution::is_distributed(client).await? {
        true => "SELECT citus_relation_size('events_default')",
        false => "SELECT pg_relation_size('events_default')",
    };
    Ok(client.query_one(size, &[]).await?.get(0))
}

/// How many more partitions `events` may have: at most [`DAYS_MAX`], and so few that a query without bounds
/// takes at most half of the server's lock table.
async fn room(client: &Client) -> Result<usize, Error> {
    let room = "
        SELECT least($1, current_setting('max_locks_per_transaction')::int * current_setting('max_connections')::int / 4)
               - (SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass)::int";
    Ok(usize::try_from(client.query_one(room, &[&DAYS_MAX]).await?.get::<_, i32>(0)).unwrap_or(0))
}

/// Jumps through the primary key from one day of a project to the next, so rows that stay in the default
/// partition cost nothing. Dates are computed only of times within the bounds: others may have no next day.
const HAS_DAYS: &str = "
    WITH RECURSIVE place AS (
        (SELECT project_id, timestamp FROM events_default ORDER BY project_id, timestamp LIMIT 1)
        UNION ALL
        SELECT next.* FROM place p, LATERAL (
            SELECT e.project_id, e.timestamp FROM events_default e
             WHERE (e.project_id, e.timestamp) >= (
                       CASE WHEN p.timestamp < $2 THEN p.project_id ELSE p.project_id + 1 END,
                       CASE WHEN p.timestamp < $1 THEN $1 ELSE '-infinity' END)
             ORDER BY e.project_id, e.timestamp LIMIT 1) next
         WHERE p.timestamp < $1 OR p.timestamp >= $2)
    SELECT EXISTS (SELECT FROM place WHERE timestamp >= $1 AND timestamp < $2)";
const COUNT_DAYS: &str = "
    SELECT (floor(extract(epoch FROM timestamp) / 86400))::int, count(*) FROM events_default
     WHERE timestamp >= $1 AND timestamp < $2 GROUP BY 1 ORDER BY 1 DESC";

/// Whether the default partition has rows of days that are wanted.
async fn has_days(session: &Session, (first, last): (Day, Day)) -> Result<bool, Error> {
    let (from, to) = (copy::Instant(first.start_us()), copy::Instant(last.plus(1).start_us()));
    Ok(session.query_one(HAS_DAYS, &[&from, &to]).await?.get(0))
}

/// These days, newest first, each with its number of rows.
async fn days_in_default(session: &Session, (first, last): (Day, Day)) -> Result<Vec<(Day, i64)>, Error> {
    let (from, to) = (copy::Instant(first.start_us()), copy::Instant(last.plus(1).start_us()));
    let rows = session.query(COUNT_DAYS, &[&from, &to]).await?;
    Ok(rows.iter().map(|row| (Day::number(row.get(0)), row.get(1))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_US: i64 = 1_795_219_200_000_000;

    fn policy(retention_days: Option<u32>) -> UpkeepPolicy {
        UpkeepPolicy {
            retention_days,
            ledger_days: 40,
            oldest_pending_ms: None,
            transaction_age_max: Duration::from_secs(60),
        }
    }

    fn days(days: &EventDays, existing: impl IntoIterator<Item = i32>, retention: Option<u32>) {
        let mut known = days.known();
        let today = Day::of(NOW_US);
        known.existing = existing.into_iter().map(|offset| today.plus(offset)).collect();
        known.usual = run_around(&known.existing, today);
        known.wanted = Some(wanted(&policy(retention), NOW_US));
    }

    #[test]
    fn only_days_within_the_retention_and_not_before_1970_are_made() {
        let today = Day::of(NOW_US);
        assert_eq!(wanted(&policy(Some(30)), NOW_US), (today.plus(-30), today.plus(3)));
        assert_eq!(wanted(&policy(None), NOW_US), (Day::FIRST, today.plus(3)));
        assert_eq!(wanted(&policy(Some(u32::MAX)), NOW_US), (Day::FIRST, today.plus(3)));
        let known = EventDays::default();
        days(&known, -7..=3, Some(30));
        let asked = [-31, -30, -7, 0, 4].map(|offset| today.plus(offset));
        assert_eq!(known.missing(&asked), [today.plus(-30)]);
    }

    #[test]
    fn rows_of_the_usual_days_need_no_closer_look() {
        let (known, today) = (EventDays::default(), Day::of(NOW_US));
        let may_need = |known: &EventDays, from, to| known.may_need(today.plus(from), today.plus(to));
        assert!(!may_need(&known, -100, 0), "nothing is made before the retention is known");
        days(&known, (-7..=3).chain([-20]), None);
        assert!(!may_need(&known, -7, 3));
        assert!(may_need(&known, -8, 0) && may_need(&known, -20, -20) && !may_need(&known, 4, 9));
    }

    #[test]
    fn days_are_moved_together_until_they_have_too_many_rows() {
        let days =
            |rows: &[i64]| -> Vec<(Day, i64)> { rows.iter().map(|&rows| (Day::FIRST, rows)).collect() };
        assert_eq!(group_size(&days(&[GROUP_ROWS + 1, 1]), 16), 1);
        assert_eq!(group_size(&days(&[1, GROUP_ROWS - 1, 1]), 16), 2);
        assert_eq!(group_size(&days(&[1; 17]), 16), 16);
    }
}
