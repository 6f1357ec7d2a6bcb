//! Upkeep: creates partitions ahead and on demand, removes data past its retention, prunes the ledger,
//! terminates stuck sessions.
//!
//! One process at a time. Every step is a separate short transaction that gives up rather than block a COPY.
//! The next round repeats the steps that failed.

use tokio_postgres::Error;
use tokio_postgres::types::ToSql;

use super::connector::Connector;
use super::copy::Instant;
use super::distribution;
use super::meters;
use super::on_demand::{self, DAYS_AHEAD, EventDays};
use super::partitions::{self, Day, DayPartition};
use super::session::Session;
use super::write::APPLICATION_PREFIX;
use crate::limits::USAGE_DAYS;
use crate::metrics;
use crate::rejections::{SAMPLES_KEPT, SOURCE_DAYS};
use crate::{StoreError, UpkeepPolicy, UpkeepReport};
use millrace_failpoint::{self as failpoint, Point};

/// The advisory lock of the process that does the upkeep ("keep").
const LOCK_ID: i64 = 0x6b65_6570;
/// Partitions are created from this many days before today.
const DAYS_BACK: i32 = 7;
/// Rows deleted by one statement, at most.
const CHUNK_ROWS: i64 = 20_000;
/// Chunks deleted from one table in one round, at most.
const CHUNKS_MAX: u32 = 200;
/// How long the id of an undated event is remembered: twice the promised 24 hours.
const UNDATED_US: i64 = 2 * DAY_US;
const DAY_US: i64 = 86_400_000_000;
/// The ledger is kept at least this long: an `Idempotency-Key` is forgotten a day after its batch was
/// settled.
const LEDGER_DAYS_MIN: u32 = 2;
/// Upkeep pauses between two statements only when its process was stopped. The server then ends the session,
/// because its locks would block writers and every other process that could do the upkeep.
const SETTINGS: &str = "SET lock_timeout = '2s'; SET statement_timeout = '10min';
    SET idle_in_transaction_session_timeout = '10s'; SET idle_session_timeout = '60s';";

pub(super) async fn round(
    connector: &Connector,
    policy: &UpkeepPolicy,
    event_days: &EventDays,
) -> Result<Option<UpkeepReport>, StoreError> {
    let mut session = Session::open(connector, SETTINGS).await?;
    // Before the lock is taken: the process that holds it may be the stuck one.
    terminate_stuck_sessions(&session, policy).await?;
    // The writers of this process must know the days, also when another process does the upkeep.
    event_days.refresh(&session, policy, now_us(&session).await?).await?;
    // After an error, it is held until the server notices that the session has ended.
    let lock = session.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK_ID]).await?;
    if !lock.get::<_, bool>(0) {
        return Ok(None);
    }
    let now_us = now_us(&session).await?;
    let partitions_made = make_partitions(&mut session, policy, now_us).await?;
    let mut partitions_retired = 0;
    if let Some(days) = policy.retention_days {
        let oldest_kept = Day::of(now_us).minus(days);
        partitions_retired += retire_events(&mut session, oldest_kept).await?;
        let oldest_kept_us = oldest_kept.start_us();
        retire_default(&mut session, oldest_kept_us).await?;
        retire_rows(&session, RETIRE_LETTERS, oldest_kept_us).await?;
        retire_rows(&session, RETIRE_SAMPLES, oldest_kept_us).await?;
    }
    // Before the ledger, which says which of them were stored after all.
    retire_rows(&session, FORGET_LOST, first_kept_day(policy, now_us).start_us()).await?;
    partitions_retired += retire_ledger(&mut session, policy, now_us).await?;
    forget_ids(&session, policy, now_us).await?;
    session.execute(REMOVE_SAMPLES, &[&i64::from(SAMPLES_KEPT)]).await?;
    retire_rows(&session, FORGET_REPORTS, now_us - SOURCE_DAYS * DAY_US).await?;
    retire_rows(&session, FORGET_LIMIT_REFUNDS, first_kept_day(policy, now_us).start_us()).await?;
    retire_rows(&session, FORGET_LIMIT_USAGE, now_us - USAGE_DAYS * DAY_US).await?;
    on_demand::move_from_default(&mut session, event_days, policy, now_us).await?;
    event_days.refresh(&session, policy, now_us).await?;
    let days_ahead = days_ahead(&session, Day::of(now_us)).await?;
    // So that the next round finds it free, however soon it begins.
    session.query_one("SELECT pg_advisory_unlock($1)", &[&LOCK_ID]).await?;
    Ok(Some(UpkeepReport { partitions_made, partitions_retired, days_ahead }))
}

/// Creates the partitions that are missing around today. Also called after a migration.
pub(super) async fn make_partitions(
    session: &mut Session,
    policy: &UpkeepPolicy,
    now_us: i64,
) -> Result<u64, Error> {
    let today = Day::of(now_us);
    let events_back = policy.retention_days.map_or(DAYS_BACK, |days| DAYS_BACK.min(days_i32(days)));
    let events_days = partitions::days(session, "events").await?;
    let ledger_days = partitions::days(session, "batches").await?;
    let mut made = 0;
    for offset in -DAYS_BACK..=DAYS_AHEAD {
        let day = today.plus(offset);
        if offset >= -events_back && !events_days.contains(&day) {
            let result =
                partitions::make_events_days(session.client_mut(), &[day], partitions::LOCK_WAIT).await?;
            made += result.created;
        }
        if !ledger_days.contains(&day) {
            let result = partitions::make_ledger_day(session.client_mut(), day).await?;
            made += u64::from(result == DayPartition::Created);
        }
    }
    Ok(made)
}

pub(super) async fn now_us(session: &Session) -> Result<i64, Error> {
    let row = session.query_one("SELECT clock_timestamp()", &[]).await?;
    Ok(row.get::<_, Instant>(0).0)
}

fn days_i32(days: u32) -> i32 {
    i32::try_from(days).unwrap_or(i32::MAX).min(1_000_000)
}

/// A worker that stops responding inside a COPY keeps its locks: no timeout of the server applies there.
async fn terminate_stuck_sessions(session: &Session, policy: &UpkeepPolicy) -> Result<(), Error> {
    let terminate = "
        SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE starts_with(application_name, $1) AND datname = current_database() AND usename = current_user
           AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - $2 * interval '1 microsecond'";
    let age_us = i64::try_from(policy.transaction_age_max.as_micros()).unwrap_or(i64::MAX) as f64;
    let row = session.query_one(terminate, &[&APPLICATION_PREFIX, &age_us]).await?;
    let terminated: i64 = row.get(0);
    if terminated > 0 {
        tracing::warn!(terminated, "terminated worker sessions whose transaction was too old");
    }
    // Counted here and not in the report: another process may do the rest of the round.
    metrics::stuck_sessions_terminated(terminated.unsigned_abs());
    Ok(())
}

/// Retires the partitions of days before `oldest_kept`, in two transactions each: one detaches, which blocks
/// every COPY for a moment; one counts and drops, which takes long and blocks nothing.
async fn retire_events(session: &mut Session, oldest_kept: Day) -> Result<u64, StoreError> {
    for day in partitions::days(session, "events").await? {
        if day >= oldest_kept {
            continue;
        }
        let partition = partitions::name("events", day);
        let detach = format!("ALTER TABLE events DETACH PARTITION {partition}");
        let transaction = session.client_mut().transaction().await?;
        let note = "INSERT INTO retiring (partition, day) VALUES ($1, $2::text::date)";
        transaction.execute(note, &[&partition, &day.to_string()]).await?;
        transaction.batch_execute(&detach).await?;
        transaction.commit().await?;
        failpoint::reach(Point::PartitionDetached);
    }
    let mut retired = 0;
    for row in session.query("SELECT partition, day::text FROM retiring", &[]).await? {
        let (partition, day): (String, String) = (row.get(0), row.get(1));
        let transaction = session.client_mut().transaction().await?;
        transaction.execute("DELETE FROM retiring WHERE partition = $1", &[&partition]).await?;
        meters::retire_partition(&transaction, &partition).await?;
        // An earlier partition of that day may have been retired before. The counts are added.
        let count_and_drop = format!(
            "INSERT INTO retired AS r (project_id, what, day, count)
             SELECT project_id, 'events', '{day}', count(*) FROM {partition} GROUP BY project_id
             ON CONFLICT (project_id, what, day) DO UPDATE SET count = r.count + excluded.count;
             DROP TABLE {partition}"
        );
        transaction.batch_execute(&count_and_drop).await?;
        transaction.commit().await?;
        retired += 1;
    }
    Ok(retired)
}

/// Rows of the default partition are removed by `received_at`, because their `timestamp` can be any time.
const CHOOSE_DEFAULT: &str = "
    SELECT ARRAY(SELECT ctid FROM events_default WHERE received_at < $1 ORDER BY received_at LIMIT $2 FOR UPDATE)::text[]";
const RETIRE_DEFAULT: &str = "
    WITH gone AS (
        DELETE FROM events_default WHERE ctid = ANY ($1::text[]::tid[])
        RETURNING project_id, (received_at AT TIME ZONE 'UTC')::date AS day),
    counted AS (
        INSERT INTO retired AS r (project_id, what, day, count)
        SELECT project_id, 'events', day, count(*) FROM gone GROUP BY project_id, day
        ON CONFLICT (project_id, what, day) DO UPDATE SET count = r.count + excluded.count)
    SELECT count(*) FROM gone";
/// A redriven letter counts no events: they are counted where they are stored.
const RETIRE_LETTERS: &str = "
    WITH gone AS (
        DELETE FROM dead_letters WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM dead_letters WHERE received_at < $1 ORDER BY received_at LIMIT $2))
        RETURNING project_id, CASE WHEN redriven_at IS NULL THEN event_count ELSE 0 END AS event_count,
                  (received_at AT TIME ZONE 'UTC')::date AS day),
    counted AS (
        INSERT INTO retired AS r (project_id, what, day, count)
        SELECT project_id, 'dead_letters', day, sum(event_count) FROM gone GROUP BY project_id, day
        ON CONFLICT (project_id, what, day) DO UPDATE SET count = r.count + excluded.count)
    SELECT count(*) FROM gone";
const FORGET_UNDATED: &str = "
    WITH gone AS (
        DELETE FROM undated_ids WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM undated_ids WHERE received_at IS NULL AND timestamp < $1 ORDER BY timestamp LIMIT $2))
        RETURNING 1)
    SELECT count(*) FROM gone";
/// Samples have the contents of events, and are kept as long.
const RETIRE_SAMPLES: &str = "
    WITH gone AS (
        DELETE FROM rejection_samples WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM rejection_samples WHERE at < $1 ORDER BY at LIMIT $2))
        RETURNING 1)
    SELECT count(*) FROM gone";
const FORGET_REPORTS: &str = "
    WITH gone AS (
        DELETE FROM rejection_sources WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM rejection_sources WHERE at < $1 LIMIT $2))
        RETURNING 1)
    SELECT count(*) FROM gone";
/// Lost batches are kept as long as the ledger.
const FORGET_LOST: &str = "
    WITH gone AS (
        DELETE FROM lost_batches WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM lost_batches WHERE received_at < $1 ORDER BY received_at LIMIT $2))
        RETURNING 1)
    SELECT count(*) FROM gone";
/// Kept as long as the ledger.
const FORGET_LIMIT_REFUNDS: &str = "
    WITH gone AS (
        DELETE FROM limit_refunds WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM limit_refunds WHERE received_at < $1 LIMIT $2))
        RETURNING 1)
    SELECT count(*) FROM gone";
const FORGET_LIMIT_USAGE: &str = "
    WITH gone AS (
        DELETE FROM limit_usage WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM limit_usage WHERE ends_at < $1 ORDER BY ends_at LIMIT $2))
        RETURNING 1)
    SELECT count(*) FROM gone";
/// Claims that are kept as long as the ledger.
const FORGET_KEPT: &str = "
    WITH gone AS (
        DELETE FROM undated_ids WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM undated_ids WHERE received_at < $1 ORDER BY received_at LIMIT $2))
        RETURNING 1)
    SELECT count(*) FROM gone";
/// Concurrent transactions may leave more samples than each of them allows.
const REMOVE_SAMPLES: &str = "
    DELETE FROM rejection_samples WHERE sample_id IN (
        SELECT sample_id
          FROM (SELECT sample_id, row_number() OVER (PARTITION BY project_id, kind ORDER BY sample_id DESC) AS rank
                  FROM rejection_samples) ranked
         WHERE rank > $1)";

/// Rows of the default partition.
async fn retire_default(session: &mut Session, before_us: i64) -> Result<(), StoreError> {
    let is_distributed = distribution::is_distributed(session).await?;
    for _ in 0..CHUNKS_MAX {
        let is_last = match is_distributed {
            true => distribution::retire_default(session.client_mut(), before_us, CHUNK_ROWS).await?,
            false => {
                let transaction = session.client_mut().transaction().await?;
                let parameters: [&(dyn ToSql + Sync); 2] = [&Instant(before_us), &CHUNK_ROWS];
                let chosen: Vec<String> = transaction.query_one(CHOOSE_DEFAULT, &parameters).await?.get(0);
                meters::retire_default(&transaction, &chosen).await?;
                let removed: i64 = transaction.query_one(RETIRE_DEFAULT, &[&chosen]).await?.get(0);
                transaction.commit().await?;
                removed < CHUNK_ROWS
            }
        };
        if is_last {
            break;
        }
    }
    Ok(())
}

/// Deletes rows older than `before_us` in chunks, until none is left or [`CHUNKS_MAX`] is reached.
async fn retire_rows(session: &Session, deletion: &str, before_us: i64) -> Result<(), Error> {
    for _ in 0..CHUNKS_MAX {
        let row = session.query_one(deletion, &[&Instant(before_us), &CHUNK_ROWS]).await?;
        if row.get::<_, i64>(0) < CHUNK_ROWS {
            break;
        }
    }
    Ok(())
}

/// Forgets ids: those of undated events after some days, and those that alone identify events with the
/// ledger. Their age is counted from the oldest pending entry: until it is written, the ids that
/// it could repeat must be kept.
async fn forget_ids(session: &Session, policy: &UpkeepPolicy, now_us: i64) -> Result<(), Error> {
    let oldest_us = oldest_pending_us(policy).unwrap_or(i64::MAX).min(now_us);
    retire_rows(session, FORGET_UNDATED, oldest_us - UNDATED_US).await?;
    retire_rows(session, FORGET_KEPT, first_kept_day(policy, now_us).start_us()).await
}

fn oldest_pending_us(policy: &UpkeepPolicy) -> Option<i64> {
    policy.oldest_pending_ms.map(|ms| i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1_000))
}

/// The first day of the ledger that is kept.
fn first_kept_day(policy: &UpkeepPolicy, now_us: i64) -> Day {
    let days = i64::from(policy.ledger_days.max(LEDGER_DAYS_MIN));
    let oldest_us = oldest_pending_us(policy).unwrap_or(i64::MAX);
    Day::of((now_us - days * DAY_US).min(oldest_us.saturating_sub(DAY_US)))
}

/// Drops the days of the ledger that no entry can belong to any more. The watermark moves first, so that no
/// such day is created again: an entry of a retired day, from a lane that was stopped for days, is always
/// refused.
async fn retire_ledger(session: &mut Session, policy: &UpkeepPolicy, now_us: i64) -> Result<u64, Error> {
    let first_kept = first_kept_day(policy, now_us);
    let mut retired = 0;
    for day in partitions::days(session, "batches").await? {
        if day >= first_kept {
            continue;
        }
        let transaction = session.client_mut().transaction().await?;
        let retire = format!(
            "LOCK TABLE retiring IN ROW EXCLUSIVE MODE;
             UPDATE ledger_watermark SET first_day = greatest(first_day, date '{}');
             ALTER TABLE batches DETACH PARTITION {partition};
             DROP TABLE {partition}",
            day.plus(1),
            partition = partitions::name("batches", day),
        );
        transaction.batch_execute(&retire).await?;
        transaction.commit().await?;
        retired += 1;
    }
    Ok(retired)
}

/// The number of days from tomorrow on, without a gap, for which both tables have partitions.
async fn days_ahead(session: &Session, today: Day) -> Result<u32, Error> {
    let events = partitions::days(session, "events").await?;
    let ledger = partitions::days(session, "batches").await?;
    let exists = |ahead: &u32| {
        let day = today.plus(days_i32(*ahead));
        events.contains(&day) && ledger.contains(&day)
    };
    let ahead = (1..=366).take_while(exists).count();
    Ok(u32::try_from(ahead).unwrap_or(366))
}
