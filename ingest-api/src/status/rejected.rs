//! What was refused, as the page shows it: the store's answers about all API processes, and what this process
//! refused so recently that the store did not have it. Pure: no I/O.

use std::collections::HashMap;

use millrace_event::plan::ProjectId;
use millrace_event::printable::printable;
use millrace_store::{RejectionKind, RejectionSample, RejectionSum};
use serde::Serialize;

use super::refusals::{REMEMBERED_MAX, Refusal};
use crate::accounts::ProjectSummary;
use crate::text::clip;

/// Reasons on the page.
pub const SUMS_MAX: u32 = 12;
/// Samples asked for.
pub const SAMPLES_MAX: u32 = 20;
/// The kinds in the list of samples. Dead letters have a list of their own.
pub const SAMPLED: [RejectionKind; 3] =
    [RejectionKind::Event, RejectionKind::Request, RejectionKind::Conflict];

/// The store's answer.
#[derive(Debug)]
pub struct StoredRejections {
    /// Of today, the largest first.
    pub sums: Vec<RejectionSum>,
    /// Newest first.
    pub samples: Vec<RejectionSample>,
    /// What this process refused before this time is in the answer. Milliseconds since 1970.
    pub written_until_ms: u64,
}

/// What was refused, as the page receives it.
#[derive(Serialize, Debug)]
pub struct Rejected {
    /// Today's counts by project and reason, the largest first. `None` before the store has answered.
    sums: Option<Vec<Sum>>,
    /// The newest first.
    last: Vec<Line>,
}

#[derive(Serialize, Debug)]
struct Sum {
    project: String,
    kind: RejectionKind,
    code: String,
    count: u64,
}

/// Refusals of the same kind in a row.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
struct Line {
    at_ms: u64,
    /// `None` when the key is unknown.
    project: Option<String>,
    kind: RejectionKind,
    code: String,
    field: Option<String>,
    message: String,
    times: u64,
}

impl Rejected {
    /// `refusals` are the last of this process, the newest first.
    pub fn new(
        stored: Option<&StoredRejections>,
        refusals: Vec<Refusal>,
        projects: &[ProjectSummary],
    ) -> Self {
        let names = projects.iter().map(|project| (project.id, &*project.name)).collect();
        let written_until_ms = stored.map_or(0, |stored| stored.written_until_ms);
        let is_new = |refusal: &Refusal| refusal.project.is_none() || refusal.at_ms >= written_until_ms;
        let own = refusals.into_iter().filter(is_new).map(Line::of_refusal);
        let samples = stored.map_or(&[][..], |stored| &stored.samples);
        let mut lines: Vec<_> =
            own.chain(samples.iter().map(|sample| Line::of_sample(sample, &names))).collect();
        lines.sort_by_key(|line| std::cmp::Reverse(line.at_ms));
        let mut last = grouped(lines);
        last.truncate(REMEMBERED_MAX);
        let sums = stored.map(|stored| stored.sums.iter().map(|sum| Sum::of(sum, &names)).collect());
        Self { sums, last }
    }
}

/// Equal lines in a row as one.
fn grouped(lines: Vec<Line>) -> Vec<Line> {
    let mut groups: Vec<Line> = Vec::new();
    for line in lines {
        match groups.last_mut().filter(|newer| newer.is_like(&line)) {
            Some(newer) => newer.times += line.times,
            None => groups.push(line),
        }
    }
    groups
}

impl Line {
    fn of_refusal(refusal: Refusal) -> Self {
        let Refusal { at_ms, project, kind, code, field, message, times } = refusal;
        Self {
            at_ms,
            project: project.map(|name| shown(&name)),
            kind,
            code: code.to_owned(),
            field: field.map(|field| shown(&field)),
            message: shown(&message),
            times,
        }
    }

    fn of_sample(sample: &RejectionSample, names: &HashMap<ProjectId, &str>) -> Self {
        let at_ms = u64::try_from(sample.at.unix_timestamp_nanos() / 1_000_000).unwrap_or(0);
        Self {
            at_ms,
            project: Some(name(sample.project, names)),
            kind: sample.kind,
            code: shown(&sample.code),
            field: sample.field.as_deref().map(shown),
            message: shown(&sample.message),
            times: 1,
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        Self { at_ms: 0, times: 0, ..self.clone() } == Self { at_ms: 0, times: 0, ..other.clone() }
    }
}

impl Sum {
    fn of(sum: &RejectionSum, names: &HashMap<ProjectId, &str>) -> Self {
        let RejectionSum { project, kind, code, count } = sum;
        Self { project: name(*project, names), kind: *kind, code: shown(code), count: *count }
    }
}

/// The name of a project, or its number if it has no key any more.
fn name(project: ProjectId, names: &HashMap<ProjectId, &str>) -> String {
    names.get(&project).map_or_else(|| format!("project {project}"), |name| shown(name))
}

/// A client's text in a form that a page can show: short, and without characters that control it.
fn shown(text: &str) -> String {
    printable(clip(text))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millrace_event::plan::Plan;
    use time::OffsetDateTime;

    use super::*;

    fn projects() -> Vec<ProjectSummary> {
        let plan = Plan {
            name: "test".into(),
            requests_per_minute: 1,
            burst: 1,
            events_per_month: None,
            events_per_batch: 1,
        };
        vec![ProjectSummary { id: ProjectId(1), name: "shop".into(), plan: Arc::new(plan) }]
    }

    fn refusal(at_ms: u64, project: Option<&str>, message: &str) -> Refusal {
        Refusal {
            at_ms,
            project: project.map(Into::into),
            kind: RejectionKind::Event,
            code: "too_deep",
            field: None,
            message: message.to_owned(),
            times: 2,
        }
    }

    fn sample(at_ms: i64, message: &str) -> RejectionSample {
        RejectionSample {
            project: ProjectId(1),
            at: OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(at_ms),
            kind: RejectionKind::Event,
            code: "too_deep".to_owned(),
            field: None,
            message: message.to_owned(),
            payload: Some(b"{\"secret\":1}".to_vec()),
        }
    }

    fn messages(rejected: &Rejected) -> Vec<(&str, u64)> {
        rejected.last.iter().map(|line| (line.message.as_str(), line.times)).collect()
    }

    #[test]
    fn what_the_store_has_is_not_shown_twice_and_the_rest_of_this_process_at_once() {
        let refusals = || {
            vec![
                refusal(50, Some("shop"), "new"),
                refusal(20, Some("shop"), "written"),
                refusal(10, None, "stranger"),
            ]
        };
        let alone = Rejected::new(None, refusals(), &projects());
        assert_eq!(messages(&alone), [("new", 2), ("written", 2), ("stranger", 2)]);
        assert!(alone.sums.is_none());
        let samples = vec![sample(40, "of another process"), sample(20, "written"), sample(19, "written")];
        let stored = StoredRejections { sums: Vec::new(), samples, written_until_ms: 30 };
        let merged = Rejected::new(Some(&stored), refusals(), &projects());
        assert_eq!(
            messages(&merged),
            [("new", 2), ("of another process", 1), ("written", 2), ("stranger", 2)]
        );
        let json = serde_json::to_string(&merged).unwrap();
        assert!(!json.contains("secret"), "contents of events are not shown: {json}");
    }

    #[test]
    fn texts_of_clients_are_short_and_control_nothing() {
        let hostile = format!("\u{1b}[2J\u{202e}{}", "x".repeat(9_000));
        let stored = StoredRejections {
            sums: vec![RejectionSum {
                project: ProjectId(9),
                kind: RejectionKind::Dead,
                code: "\u{9b}".to_owned(),
                count: 3,
            }],
            samples: vec![RejectionSample { field: Some(hostile.clone()), ..sample(1, &hostile) }],
            written_until_ms: 0,
        };
        let rejected = Rejected::new(Some(&stored), Vec::new(), &projects());
        let line = &rejected.last[0];
        assert!(line.message.starts_with("\\u{1b}[2J\\u{202e}x") && line.message.len() < 400, "{line:?}");
        assert_eq!(line.field.as_ref(), Some(&line.message));
        let sum = &rejected.sums.unwrap()[0];
        assert_eq!((sum.project.as_str(), sum.code.as_str()), ("project 9", "\\u{9b}"));
    }
}
