//! Checks after the faults that the system works: events of every size pass (I9) and a quota ends exactly
//! (I6).

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::evidence::Evidence;
use super::findings::{Findings, Invariant};
use super::limits::PlanLimits;
use super::post::{Post, code};
use super::project::Project;
use crate::http::{Answer, HttpClient};

/// Bytes of the `bulk` property of the probes: a small event, a usual large event, and one that almost fills
/// a request.
const PROBE_BYTES: [usize; 3] = [1, 64 << 10, (4 << 20) - 1_024];
/// The response waits up to 30 s until the event is stored. Long, because test machines are shared.
const WAIT: &str = "wait=30";
/// Events per batch that uses up a quota.
const FILL_EVENTS: u64 = 500;
const POSTS_MAX: u32 = 200;

/// Posts a small, a large and a largest event and waits until each is stored.
///
/// # Panics
/// When the store does not answer.
pub async fn probe(api: SocketAddr, project: &Project, evidence: &dyn Evidence, findings: &mut Findings) {
    for bytes in PROBE_BYTES {
        let id = Uuid::new_v4();
        let event = json!({"id": id, "name": "probe", "properties": {"bulk": "x".repeat(bytes)}});
        let answer = post(api, &project.key, &event, &[("prefer", WAIT)]).await;
        let stored = evidence.bulk_chars(project.id, id).await;
        let is_stored = stored == bytes;
        match answer {
            Ok(answer) if answer.status == 200 && is_stored => {}
            Ok(answer) => {
                let body = String::from_utf8_lossy(&answer.body).into_owned();
                let said = format!(
                    "{}: a probe of {bytes} B: {} {body}, {stored} B stored",
                    project.name, answer.status
                );
                findings.add(Invariant::ProbesPass, said);
            }
            Err(error) => findings.add(Invariant::ProbesPass, format!("{}: {error}", project.name)),
        }
    }
}

/// Uses up the rest of a quota, to the last event, and checks that one more event is refused. A missing
/// charge admits too many events, a missing refund too few.
///
/// # Panics
/// When the store does not answer.
pub async fn fill(
    api: SocketAddr,
    project: &Project,
    limits: PlanLimits,
    evidence: &dyn Evidence,
    findings: &mut Findings,
) {
    let Some(quota) = limits.events_per_month else { return };
    let stored = evidence.stored_in_month(project.id, None).await;
    let mut left = quota.saturating_sub(stored);
    while left > 0 {
        let count = left.min(FILL_EVENTS);
        if let Err(said) = post_within_rate(api, project, count, 202).await {
            let said = format!(
                "{}: {left} of {quota} events are left, and a batch of {count} got {said}",
                project.name
            );
            return findings.add(Invariant::PlansExact, said);
        }
        left -= count;
    }
    if let Err(said) = post_within_rate(api, project, 1, 429).await {
        let said =
            format!("{}: the quota of {quota} is used up, and one more event got {said}", project.name);
        findings.add(Invariant::PlansExact, said);
    }
}

/// Posts `count` new events, waiting for the rate limit if necessary, and expects the status `expected`.
async fn post_within_rate(
    api: SocketAddr,
    project: &Project,
    count: u64,
    expected: u16,
) -> Result<(), String> {
    let (mut post, mut http) = (Post::new(project, count), HttpClient::new(api));
    for _ in 0..POSTS_MAX {
        let answer = post.ask(&mut http, project).await;
        let (status, code) =
            answer.as_ref().map_or((0, String::new()), |answer| (answer.status, code(answer)));
        // The rate limit and a full backlog are temporary and say nothing about the quota.
        if let Ok(answer) = &answer
            && (code == "rate_limited" || code == "backlog_full")
        {
            let wait = answer.header("retry-after").and_then(|seconds| seconds.parse().ok()).unwrap_or(1);
            tokio::time::sleep(Duration::from_secs(wait)).await;
            continue;
        }
        post.note(project, &answer);
        let as_expected = status == expected && (expected != 429 || code == "quota_exceeded");
        return if as_expected { Ok(()) } else { Err(format!("{status} {code}: {answer:?}")) };
    }
    Err(format!("rate_limited or backlog_full {POSTS_MAX} times in a row"))
}

async fn post(api: SocketAddr, key: &str, body: &Value, more: &[(&str, &str)]) -> Result<Answer, String> {
    let authorization = format!("Bearer {key}");
    let mut headers = vec![("authorization", authorization.as_str())];
    headers.extend_from_slice(more);
    let answer = HttpClient::new(api).post("/v1/events", &headers, body.to_string()).await;
    answer.map_err(|error| error.to_string())
}
