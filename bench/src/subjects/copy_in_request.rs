//! The strongest simple alternative to a queue: a binary COPY inside the request. A batch that contains a
//! duplicate is copied a second time, into a temporary table, and its new events are inserted from there.

use std::io;
use std::time::SystemTime;

use bytes::Bytes;
use millrace_event::event::Batch;
use millrace_event::row;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::binary_copy;
use crate::error::BenchError;

const STAGE: &str = "CREATE TEMPORARY TABLE IF NOT EXISTS stage (LIKE events) ON COMMIT DELETE ROWS";

pub(super) async fn store(client: &Client, batch: &Batch) -> Result<(), BenchError> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let received_us = i64::try_from(now.as_micros())?;
    let data = binary_copy::framed(batch.rows.len(), |data| {
        for row in row::split(&batch.rows) {
            row::write_stamped(row.map_err(io::Error::other)?, received_us, data);
        }
        Ok(())
    })?;
    match binary_copy::send(client, "events", data.clone()).await {
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
            insert_new_events(client, data).await
        }
        sent => Ok(sent.map(|_| ())?),
    }
}

async fn insert_new_events(client: &Client, data: Bytes) -> Result<(), BenchError> {
    client.batch_execute(STAGE).await?;
    client.batch_execute("BEGIN").await?;
    let inserted = async {
        binary_copy::send(client, "stage", data).await?;
        client.batch_execute("INSERT INTO events SELECT * FROM stage ON CONFLICT DO NOTHING; COMMIT").await
    };
    if let Err(error) = inserted.await {
        client.batch_execute("ROLLBACK").await?;
        return Err(error.into());
    }
    Ok(())
}
