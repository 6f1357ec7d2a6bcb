//! Counts what meters have counted of the events that retention removes, in the transaction that removes
//! them.

use millrace_event::meter::Meter;
use tokio_postgres::{Error, Transaction};

use super::definitions::{KNOWS_CANCELLATIONS, meters};
use super::measured::measured;
use crate::StoreError;

const VERSION: &str = "SELECT millrace_meters_version()";

/// Counts the events of a detached partition. Call it in the transaction that drops it.
pub(in super::super) async fn retire_partition(
    transaction: &Transaction<'_>,
    partition: &str,
) -> Result<(), StoreError> {
    transaction.query_one(VERSION, &[]).await?;
    transaction.batch_execute(KNOWS_CANCELLATIONS).await?;
    for info in meters(transaction.client(), None).await? {
        retire(transaction, &info.meter, partition).await?;
    }
    Ok(())
}

/// Counts events of the default partition, by their places in the table. Call it in the transaction that
/// deletes them.
pub(in super::super) async fn retire_default(
    transaction: &Transaction<'_>,
    places: &[String],
) -> Result<(), StoreError> {
    if places.is_empty() {
        return Ok(());
    }
    transaction.query_one(VERSION, &[]).await?;
    transaction.batch_execute(KNOWS_CANCELLATIONS).await?;
    let infos = meters(transaction.client(), None).await?;
    if infos.is_empty() {
        return Ok(());
    }
    let chosen = "CREATE TEMPORARY TABLE retired_now ON COMMIT DROP AS
                  SELECT * FROM events_default WHERE false";
    transaction.batch_execute(chosen).await?;
    let fill = "INSERT INTO retired_now SELECT * FROM events_default WHERE ctid = ANY ($1::text[]::tid[])";
    transaction.execute(fill, &[&places]).await?;
    for info in infos {
        retire(transaction, &info.meter, "retired_now").await?;
    }
    Ok(())
}

async fn retire(transaction: &Transaction<'_>, meter: &Meter, table: &str) -> Result<(), Error> {
    let retire = format!(
        "INSERT INTO meter_retired AS r (meter_id, day, events, faults)
         SELECT {id}, (timestamp AT TIME ZONE 'UTC')::date, count(*) FILTER (WHERE fault IS NULL),
                count(*) FILTER (WHERE fault IS NOT NULL)
           FROM ({measured}) gone GROUP BY 2
         ON CONFLICT (meter_id, day) DO UPDATE
            SET events = r.events + excluded.events, faults = r.faults + excluded.faults",
        id = meter.id.0,
        measured = measured(meter, table),
    );
    transaction.batch_execute(&retire).await
}
