//! `GET /v1/batches/{id}`: where a batch is.

use hyper::StatusCode;
use millrace_event::plan::ProjectId;
use millrace_stream::{BatchId, BatchState, Outcome};
use serde::Serialize;
use uuid::Uuid;

use crate::answer::{self, Answer};
use crate::error::Problem;
use crate::ingest::stream_problem;
use crate::service::Service;

const NOT_FOUND: Problem = Problem::NotFound("this project has no such batch");

#[derive(Serialize)]
struct Report {
    batch_id: BatchId,
    status: &'static str,
    accepted: u32,
    #[serde(flatten)]
    outcome: Outcome,
}

/// The batch's state. The stream is asked before the store, because a batch goes from one to the other.
///
/// # Errors
/// 404 for a batch that is not the project's, 503 when the place that would know cannot be asked.
pub async fn show(service: &Service, project: ProjectId, id: &str) -> Result<Answer, Problem> {
    let batch_id = Uuid::try_parse(id).map_err(|_| NOT_FOUND)?;
    let in_stream = service.stream.batch_state(project, batch_id).await;
    match in_stream {
        Ok(BatchState::Pending { project: owner, .. } | BatchState::Settled { project: owner, .. })
            if owner != project =>
        {
            Err(NOT_FOUND)
        }
        Ok(BatchState::Pending { count, .. }) => {
            Ok(report(Report { batch_id, status: "pending", accepted: count, outcome: Outcome::default() }))
        }
        Ok(BatchState::Settled { outcome, .. }) => {
            Ok(stored(batch_id, up_to_date(service, project, batch_id, outcome).await))
        }
        Ok(BatchState::Unknown) => {
            let outcome = service.report(service.store.batch(project, batch_id)).await?;
            outcome.map(|outcome| stored(batch_id, outcome)).ok_or(NOT_FOUND)
        }
        Err(error) => {
            let outcome = service.report(service.store.batch(project, batch_id)).await?;
            // Without the stream, "not stored" may mean pending.
            outcome.map(|outcome| stored(batch_id, outcome)).ok_or_else(|| stream_problem(service, &error))
        }
    }
}

/// The stream remembers how a batch was settled. What had died then may have been driven again, which the ledger knows,
/// while it can be asked.
async fn up_to_date(service: &Service, project: ProjectId, batch_id: BatchId, settled: Outcome) -> Outcome {
    if settled.dead == 0 {
        return settled;
    }
    match service.report(service.store.batch(project, batch_id)).await {
        Ok(Some(outcome)) => outcome,
        Ok(None) | Err(_) => settled,
    }
}

fn stored(batch_id: BatchId, outcome: Outcome) -> Answer {
    let accepted = outcome.stored + outcome.duplicate + outcome.dead;
    report(Report { batch_id, status: "stored", accepted, outcome })
}

fn report(report: Report) -> Answer {
    answer::json(StatusCode::OK, &report)
}
