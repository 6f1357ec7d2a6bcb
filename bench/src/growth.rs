//! A table that already holds many rows, made once and kept from run to run.
//!
//! The rows lie in one day's partition, where new events then go too: an index of many rows in many small partitions would
//! show nothing. They are in the ledger and in the usage counters like everything else, so that the audit holds.

use std::fs;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use tokio_postgres::Client;

use crate::failure::Failure;
use crate::places;
use crate::subjects::{Place, postgres, prepared_table};

/// Rows that one statement makes.
const STEP: u64 = 1_000_000;
/// Those of rows made here; events of a load come at the time of day they are sent.
const FIRST_TIME: &str = "00:00:00";

/// Which day the rows are of, and how many are made.
const NOTES: &str = "SET TIME ZONE 'UTC';
    CREATE TABLE IF NOT EXISTS bench_growth (day date PRIMARY KEY, made bigint NOT NULL);
    INSERT INTO bench_growth SELECT now()::date, 0 WHERE NOT EXISTS (SELECT FROM bench_growth)";
const DAYS_AGO: &str = "SELECT now()::date - day FROM bench_growth";

/// A table with old rows in it.
#[derive(Debug)]
pub struct Grown {
    /// Where its data are kept.
    pub folder: PathBuf,
    /// Whole days between today and the day of its rows.
    pub days_ago: u32,
}

/// Finds the table, or makes it. One that has grown by more than half in earlier runs is made anew.
///
/// # Errors
/// When PostgreSQL refuses; when its disk is full, say.
pub async fn table(rows: u64) -> Result<Grown, Failure> {
    let folder = places::kept(&format!("growth-{rows}"))?;
    let (found, days_ago) = found(&folder, rows).await?;
    if found <= rows + rows / 2 {
        return Ok(Grown { folder, days_ago });
    }
    fs::remove_dir_all(folder.join("postgres-data"))?;
    let (_, days_ago) = self::found(&folder, rows).await?;
    Ok(Grown { folder, days_ago })
}

/// Starts the server on these data, makes what is missing, and tells how many rows there are and how old their day is.
async fn found(folder: &Path, rows: u64) -> Result<(u64, u32), Failure> {
    let mut server = postgres(Place { folder: Some(folder) }).await;
    let project = prepared_table(&server).await?;
    let client = server.connect().await;
    client.batch_execute(NOTES).await?;
    fill(&client, project, rows).await?;
    let day: i32 = client.query_one(DAYS_AGO, &[]).await?.get(0);
    let rows: i64 = client.query_one("SELECT count(*) FROM events", &[]).await?.get(0);
    drop(client);
    // In good order, so that the next start has nothing to recover.
    server.stop_fast().await;
    Ok((rows.unsigned_abs(), u32::try_from(day)?))
}

/// Makes what is missing, a step a transaction, so that it can be broken off.
async fn fill(client: &Client, project: i64, rows: u64) -> Result<(), Failure> {
    loop {
        let made: i64 = client.query_one("SELECT made FROM bench_growth", &[]).await?.get(0);
        let (made, wanted) = (made.unsigned_abs(), rows);
        if made >= wanted {
            return Ok(());
        }
        let until = (made + STEP).min(wanted);
        eprintln!("making a table of {wanted} rows: {until} at {}", OffsetDateTime::now_utc().time());
        client.batch_execute(&statement(project, made, until)).await?;
    }
}

/// Two hours of the day hold all rows, 100 to the microsecond at most.
fn statement(project: i64, made: u64, until: u64) -> String {
    let count = until - made;
    let first = made + 1;
    format!(
        "BEGIN;
         INSERT INTO events (project_id, timestamp, event_id, received_at, name, subject, properties)
         SELECT {project}, day + time '{FIRST_TIME}' + number * interval '50 microseconds', gen_random_uuid(),
                day + time '{FIRST_TIME}' + number * interval '50 microseconds', 'page_view', 'visitor-' || number % 100000,
                jsonb_build_object('product', 'sku-' || number % 5000)
         FROM bench_growth, generate_series({first}, {until}) AS number;
         INSERT INTO batches (batch_id, received_at, entry_seq, project_id, accepted, stored, duplicate, dead, shard)
         SELECT gen_random_uuid(), day, {first}, {project}, {count}, {count}, 0, 0, 0 FROM bench_growth;
         INSERT INTO usage_hourly (project_id, hour, events) SELECT {project}, day, {count} FROM bench_growth
         ON CONFLICT (project_id, hour) DO UPDATE SET events = usage_hourly.events + excluded.events;
         UPDATE bench_growth SET made = {until};
         COMMIT;"
    )
}
