//! Waits for the outcome of a batch, for clients that ask for it with `Prefer: wait`.

use std::time::Duration;

use millrace_event::plan::ProjectId;
use millrace_stream::{BatchId, BatchState, Outcome};
use tokio::time::{Instant, sleep, timeout_at};

use crate::service::Service;
use crate::stage::{Stage, reached};

/// The pause before the second query. Each pause is twice as long as the one before.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(5);
/// The longest pause.
const LOOK_EVERY_MAX: Duration = Duration::from_millis(50);

/// An extension of an answer: how long its client waited because it asked to. Not part of the server's
/// latency.
#[derive(Clone, Copy, Debug)]
pub struct ClientWait(pub Duration);

/// The outcome, if it is known within `at_most` and before the server stops.
pub async fn for_outcome(
    service: &Service,
    project: ProjectId,
    batch_id: BatchId,
    at_most: Duration,
) -> Option<Outcome> {
    tokio::select! {
        looked = timeout_at(Instant::now() + at_most, look(service, project, batch_id)) => looked.ok().flatten(),
        () = reached(service.stage.clone(), Stage::Draining) => None,
    }
}

/// Queries the batch until it is settled. `None` when the stream or the store cannot answer.
async fn look(service: &Service, project: ProjectId, batch_id: BatchId) -> Option<Outcome> {
    let mut pause = LOOK_EVERY_MIN;
    loop {
        match service.stream.batch_state(project, batch_id).await {
            Ok(BatchState::Settled { outcome, .. }) => return Some(outcome),
            Ok(BatchState::Pending { .. }) => {}
            // Settled so long ago that only the ledger has it.
            Ok(BatchState::Unknown) => {
                return service.reports.ask(service.store.batch(project, batch_id)).await.ok()?;
            }
            Err(_) => return None,
        }
        sleep(pause).await;
        pause = (pause * 2).min(LOOK_EVERY_MAX);
    }
}
