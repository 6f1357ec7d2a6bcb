//! The rate of one connection that runs COPY transactions in a row, without a ledger, metering or concurrent
//! queries.

use std::time::{Duration, Instant};

use super::rows::Rows;
use crate::binary_copy;
use crate::error::BenchError;
use crate::results::Ceiling;
use crate::subjects::{postgres, prepare_database};

/// The maximum that a lane of stream-worker writes in one transaction.
const EVENTS: usize = 20_000;
/// Transactions before the measurement.
const WARM_UP: usize = 3;

pub(super) async fn measure(window: Duration) -> Result<Ceiling, BenchError> {
    let server = postgres(None).await;
    let mut rows = Rows::new(prepare_database(&server).await?, EVENTS)?;
    let client = server.connect().await;
    let (mut transactions, mut busy) = (0_usize, Duration::ZERO);
    while busy < window {
        let data = binary_copy::framed(rows.bytes(), |data| rows.write(data))?;
        // The time to create rows is not measured.
        let started = Instant::now();
        binary_copy::send(&client, "events", data).await?;
        transactions += 1;
        if transactions > WARM_UP {
            busy += started.elapsed();
        }
    }
    let per_s = (transactions - WARM_UP) as f64 / busy.as_secs_f64();
    let events_per_s = per_s * rows.len() as f64;
    Ok(Ceiling {
        name: "binary COPY, one connection".to_owned(),
        events_per_batch: EVENTS,
        per_s,
        events_per_s,
    })
}
