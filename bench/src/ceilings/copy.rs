//! One connection that COPYs, transaction after transaction, with nothing beside it: no ledger, no metering, nobody who asks.

use std::time::{Duration, Instant};

use super::rows::Rows;
use crate::copy;
use crate::failure::Failure;
use crate::figures::Ceiling;
use crate::subjects::{Place, postgres, prepared_table};

/// As many as a lane of the worker writes in one transaction.
const EVENTS: usize = 20_000;
/// Transactions that are not counted.
const WARM_UP: usize = 3;

pub(super) async fn find(window: Duration) -> Result<Ceiling, Failure> {
    let server = postgres(Place::default()).await;
    let mut rows = Rows::new(prepared_table(&server).await?, EVENTS)?;
    let client = server.connect().await;
    let (mut transactions, mut busy) = (0_usize, Duration::ZERO);
    while busy < window {
        let data = copy::framed(rows.bytes(), |data| rows.write(data))?;
        // Making rows is not what is measured.
        let started = Instant::now();
        copy::send(&client, "events", data).await?;
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
