//! The last refusals of this process, which the page shows until they are in the store. Equal refusals in a
//! row are one line with a count. Of a large batch, only the last events are read, at most as many as the
//! list holds.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use hyper::StatusCode;
use millrace_event::event::Rejection;
use millrace_store::RejectionKind;

use crate::error::Problem;
use crate::problem_code::ProblemCode;
use crate::text::clip;

/// Refusals that are remembered, and that the page shows.
pub const REMEMBERED_MAX: usize = 20;

/// The refusals of this process.
#[derive(Debug, Default)]
pub struct Refusals {
    last: Mutex<VecDeque<Refusal>>,
}

/// An event or a request that was refused, and how often in a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub at_ms: u64,
    /// `None` when the key is unknown.
    pub project: Option<Arc<str>>,
    pub kind: RejectionKind,
    pub code: &'static str,
    pub field: Option<String>,
    pub message: String,
    pub times: u64,
}

impl Refusals {
    /// Remembers the rejected events of one batch.
    pub fn note_events(&self, project: &Arc<str>, rejected: &[Rejection]) {
        let at_ms = now_ms();
        let mut last = self.last.lock().expect("no holder panics");
        for Rejection { code, field, message, .. } in
            &rejected[rejected.len().saturating_sub(REMEMBERED_MAX)..]
        {
            let reason = Reason { code: code.into(), field: field.as_deref(), message };
            note(&mut last, Some(project), RejectionKind::Event, reason, at_ms);
        }
    }

    /// Remembers a whole request, unless its client cannot correct it, or its events were noted one by one.
    pub fn note_request(&self, project: Option<&Arc<str>>, problem: &Problem) {
        let status = problem.code.status();
        let is_over_plan = status == StatusCode::TOO_MANY_REQUESTS;
        if is_over_plan || !status.is_client_error() || problem.code == ProblemCode::NoValidEvent {
            return;
        }
        let mut last = self.last.lock().expect("no holder panics");
        let reason = Reason { code: problem.code.into(), field: problem.field(), message: &problem.message };
        note(&mut last, project, RejectionKind::Request, reason, now_ms());
    }

    /// Those that are remembered, the newest first.
    pub fn last(&self) -> Vec<Refusal> {
        self.last.lock().expect("no holder panics").iter().rev().cloned().collect()
    }
}

struct Reason<'a> {
    code: &'static str,
    field: Option<&'a str>,
    message: &'a str,
}

fn note(
    last: &mut VecDeque<Refusal>,
    project: Option<&Arc<str>>,
    kind: RejectionKind,
    Reason { code, field, message }: Reason<'_>,
    at_ms: u64,
) {
    let (field, message) = (field.map(clip), clip(message));
    if let Some(same) = last.back_mut().filter(|newest| {
        newest.project.as_ref() == project
            && (newest.kind, newest.code) == (kind, code)
            && newest.field.as_deref() == field
            && newest.message == message
    }) {
        same.at_ms = at_ms;
        same.times += 1;
        return;
    }
    if last.len() == REMEMBERED_MAX {
        last.pop_front();
    }
    let (project, field, message) = (project.cloned(), field.map(str::to_owned), message.to_owned());
    last.push_back(Refusal { at_ms, project, kind, code, field, message, times: 1 });
}

fn now_ms() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use millrace_event::event::RejectionCode;

    use super::*;

    fn rejection(index: usize, message: &str) -> Rejection {
        Rejection {
            index,
            code: RejectionCode::InvalidLength,
            field: Some("name".into()),
            message: message.to_owned(),
        }
    }

    #[test]
    fn the_last_refusals_are_remembered_and_cut() {
        let refusals = Refusals::default();
        let many: Vec<_> = (0..1_000).map(|index| rejection(index, &format!("message {index}"))).collect();
        refusals.note_events(&"shop".into(), &many);
        refusals.note_events(&"shop".into(), &[rejection(0, &"é".repeat(10_000))]);
        let last = refusals.last();
        assert_eq!(last.len(), REMEMBERED_MAX);
        assert!(last[0].message.len() < 1_000, "long messages are cut");
        assert_eq!(last[1].message, "message 999", "the newest first");
    }

    #[test]
    fn equal_refusals_in_a_row_are_one_line() {
        let refusals = Refusals::default();
        for _ in 0..500 {
            refusals.note_request(None, &Problem::new(ProblemCode::Unauthenticated, "unknown"));
        }
        refusals.note_events(&"shop".into(), &[rejection(0, "same"), rejection(1, "same")]);
        let last = refusals.last();
        assert_eq!(last.iter().map(|refusal| refusal.times).collect::<Vec<_>>(), [2, 500]);
    }

    #[test]
    fn only_requests_that_the_client_can_correct_are_remembered() {
        let refusals = Refusals::default();
        let project: Arc<str> = "shop".into();
        for problem in [
            Problem::rate_limited(1),
            Problem::quota_exceeded(1),
            Problem::backlog_full(),
            Problem::new(ProblemCode::NoValidEvent, "each event was noted"),
            Problem::new(ProblemCode::EmptyBatch, "empty"),
        ] {
            refusals.note_request(Some(&project), &problem);
        }
        assert_eq!(refusals.last().iter().map(|refusal| refusal.code).collect::<Vec<_>>(), ["empty_batch"]);
    }
}
