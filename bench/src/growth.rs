//! A PostgreSQL table with many rows, created once and kept between runs.
//!
//! All rows are in the partition of one day, and new events are sent with times of that day: many rows in
//! many small partitions would not show the cost of a large index. The rows are also in the ledger and in the
//! usage counters, so that the audit passes.

use std::fs;
use std::path::{Path, PathBuf};

use millrace_store::JsonColumns;
use time::OffsetDateTime;
use tokio_postgres::Client;

use crate::error::BenchError;
use crate::paths;
use crate::subjects::{postgres, prepare_projects};

/// Rows inserted per statement.
const STEP: u64 = 1_000_000;
/// The time of day of the first row. The load's events have the time of day at which they are sent.
const FIRST_TIME: &str = "00:00:00";

/// Records the day of the rows, and how many were inserted.
const CREATE_PROGRESS_TABLE: &str = "SET TIME ZONE 'UTC';
    CREATE TABLE IF NOT EXISTS bench_growth (day date PRIMARY KEY, made bigint NOT NULL);
    INSERT INTO bench_growth SELECT now()::date, 0 WHERE NOT EXISTS (SELECT FROM bench_growth)";
const DAYS_AGO: &str = "SELECT now()::date - day FROM bench_growth";

#[derive(Debug)]
pub struct GrowthTable {
    /// The data folder of its PostgreSQL server.
    pub folder: PathBuf,
    /// Whole days between the day of its rows and today.
    pub days_ago: u32,
}

/// Returns the kept table with at least `rows` rows, which belong to `projects` projects in turn, and creates
/// it if it does not exist. A table that earlier runs have made more than half as large again is deleted and
/// created again.
///
/// # Errors
/// When PostgreSQL fails, for example because the disk is full.
pub async fn prepare(rows: u64, projects: usize) -> Result<GrowthTable, BenchError> {
    let folder = paths::kept_folder(&format!("growth-{rows}-{projects}"))?;
    let (found, days_ago) = fill_up_to(&folder, rows, projects).await?;
    if found <= rows + rows / 2 {
        return Ok(GrowthTable { folder, days_ago });
    }
    fs::remove_dir_all(folder.join("postgres-data"))?;
    let (_, days_ago) = fill_up_to(&folder, rows, projects).await?;
    Ok(GrowthTable { folder, days_ago })
}

/// Starts a server on the folder and inserts missing rows. Returns the number of rows, and how many days old
/// they are.
async fn fill_up_to(folder: &Path, rows: u64, projects: usize) -> Result<(u64, u32), BenchError> {
    let mut server = postgres(Some(folder)).await;
    let projects = prepare_projects(&server, JsonColumns::Jsonb, projects).await?;
    let client = server.connect().await;
    client.batch_execute(CREATE_PROGRESS_TABLE).await?;
    insert_missing(&client, &projects, rows).await?;
    let day: i32 = client.query_one(DAYS_AGO, &[]).await?.get(0);
    let rows: i64 = client.query_one("SELECT count(*) FROM events", &[]).await?.get(0);
    drop(client);
    // A clean stop leaves the next start nothing to recover.
    server.stop_fast().await;
    Ok((rows.unsigned_abs(), u32::try_from(day)?))
}

/// Inserts one step per transaction, so that an interrupted run continues where it stopped.
async fn insert_missing(client: &Client, projects: &[i64], wanted: u64) -> Result<(), BenchError> {
    loop {
        let made: i64 = client.query_one("SELECT made FROM bench_growth", &[]).await?.get(0);
        let made = made.unsigned_abs();
        if made >= wanted {
            return Ok(());
        }
        let until = (made + STEP).min(wanted);
        eprintln!(
            "inserting rows {made} to {until} of {wanted} for the growth scenario at {} UTC",
            OffsetDateTime::now_utc().time()
        );
        client.batch_execute(&insert_statement(projects, made, until)).await?;
    }
}

/// Inserts the rows after `made` up to `until`, 50 microseconds apart: 50 million rows span 42 minutes.
fn insert_statement(projects: &[i64], made: u64, until: u64) -> String {
    let first = made + 1;
    let list = |texts: Vec<String>| texts.join(", ");
    let ids = list(projects.iter().map(i64::to_string).collect());
    let shares = projects.iter().zip(shares(projects.len() as u64, made, until));
    let shares = list(shares.map(|(project, rows)| format!("({project}::bigint, {rows}::bigint)")).collect());
    let number_of_projects = projects.len();
    format!(
        "BEGIN;
         INSERT INTO events (project_id, timestamp, event_id, received_at, name, subject, properties)
         SELECT (ARRAY[{ids}])[1 + number % {number_of_projects}],
                day + time '{FIRST_TIME}' + number * interval '50 microseconds', gen_random_uuid(),
                day + time '{FIRST_TIME}' + number * interval '50 microseconds', 'page_view', 'visitor-' || number % 100000,
                jsonb_build_object('product', 'sku-' || number % 5000)
         FROM bench_growth, generate_series({first}, {until}) AS number;
         INSERT INTO batches (batch_id, received_at, entry_seq, project_id, accepted, stored, duplicate, dead, shard)
         SELECT gen_random_uuid(), day, {first}, project, rows, rows, 0, 0, 0
           FROM bench_growth, (VALUES {shares}) share (project, rows);
         INSERT INTO usage_hourly (project_id, hour, events)
         SELECT project, day, rows FROM bench_growth, (VALUES {shares}) share (project, rows)
         ON CONFLICT (project_id, hour) DO UPDATE SET events = usage_hourly.events + excluded.events;
         UPDATE bench_growth SET made = {until};
         COMMIT;"
    )
}

/// How many of the rows after `made` up to `until` each project gets: row n belongs to project n modulo their
/// number.
fn shares(projects: u64, made: u64, until: u64) -> impl Iterator<Item = u64> {
    let up_to = move |rows: u64, project: u64| (rows + projects - project) / projects;
    (0..projects).map(move |project| up_to(until, project) - up_to(made, project))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_the_projects_are_those_of_the_rows() {
        for (projects, made, until) in [(1, 0, 7), (3, 0, 7), (10, 13, 1_000), (4, 8, 9)] {
            let counted = |project| (made + 1..=until).filter(|row| row % projects == project).count() as u64;
            let counted: Vec<u64> = (0..projects).map(counted).collect();
            assert_eq!(
                shares(projects, made, until).collect::<Vec<_>>(),
                counted,
                "{projects} {made} {until}"
            );
        }
    }
}
