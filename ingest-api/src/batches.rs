//! `GET /v1/batches/{id}`: the state of a batch.

use hyper::StatusCode;
use millrace_event::plan::ProjectId;
use millrace_stream::{BatchId, BatchState, Outcome};
use serde::Serialize;
use uuid::Uuid;

use crate::answer::{self, Answer};
use crate::api_key::ApiKey;
use crate::error::Problem;
use crate::problem_code::ProblemCode;
use crate::request::Request;
use crate::service::Service;

const NOT_FOUND: Problem =
    Problem::new(ProblemCode::NotFound, "the project of this key has no such batch; check the batch id");

#[derive(Serialize)]
struct BatchReport {
    batch_id: BatchId,
    status: &'static str,
    accepted: u32,
    #[serde(flatten)]
    outcome: Outcome,
}

/// Asks the stream before the store, because a batch moves from one to the other.
///
/// # Errors
/// `not_found` for a batch that is not the project's, and a 503 when the stream or the store cannot be
/// reached.
pub async fn get(request: Request<'_>, key: &ApiKey) -> Result<Answer, Problem> {
    let (service, project) = (request.service, key.account.project);
    let batch_id = Uuid::try_parse(request.id).map_err(|_| NOT_FOUND)?;
    let in_stream = service.stream.batch_state(project, batch_id).await;
    match in_stream {
        Ok(BatchState::Pending { project: owner, .. } | BatchState::Settled { project: owner, .. })
            if owner != project =>
        {
            Err(NOT_FOUND)
        }
        Ok(BatchState::Pending { count, .. }) => Ok(report(BatchReport {
            batch_id,
            status: "pending",
            accepted: count,
            outcome: Outcome::default(),
        })),
        Ok(BatchState::Settled { outcome, .. }) => {
            Ok(stored(batch_id, up_to_date(service, project, batch_id, outcome).await))
        }
        Ok(BatchState::Unknown) => {
            let outcome = service.reports.ask(service.store.batch(project, batch_id)).await?;
            outcome.map(|outcome| stored(batch_id, outcome)).ok_or(NOT_FOUND)
        }
        Err(error) => {
            let outcome = service.reports.ask(service.store.batch(project, batch_id)).await?;
            // Without the stream, a batch that is not stored may be pending.
            outcome
                .map(|outcome| stored(batch_id, outcome))
                .ok_or_else(|| service.stream_problem(project, &error))
        }
    }
}

/// The stream remembers how a batch was settled. Dead letters may have been redriven since, which only the
/// ledger knows. If the store cannot be reached, the stream's answer stands.
async fn up_to_date(service: &Service, project: ProjectId, batch_id: BatchId, settled: Outcome) -> Outcome {
    if settled.dead == 0 {
        return settled;
    }
    match service.reports.ask(service.store.batch(project, batch_id)).await {
        Ok(Some(outcome)) => outcome,
        Ok(None) | Err(_) => settled,
    }
}

fn stored(batch_id: BatchId, outcome: Outcome) -> Answer {
    let accepted = outcome.stored + outcome.duplicate + outcome.dead;
    report(BatchReport { batch_id, status: "stored", accepted, outcome })
}

fn report(report: BatchReport) -> Answer {
    answer::json(StatusCode::OK, &report)
}
