//! Today's usage by project, remembered between queries, so that the store is queried only for usage that may
//! have changed, and for few projects at a time. Pure: no I/O.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use millrace_event::plan::ProjectId;
use millrace_store::UsageRow;
use serde::Serialize;
use time::Date;

use super::progress::Counters;
use crate::accounts::ProjectSummary;
use crate::text::clip;

/// Projects asked for in one round.
const ASKED_MAX: usize = 32;
/// Projects on the page.
const SHOWN_MAX: usize = 20;
/// A project whose counters do not change is asked for again after this.
const STALE_AFTER: Duration = Duration::from_secs(60);

/// The store's answers about today.
#[derive(Debug, Default)]
pub struct Usage {
    day: Option<Date>,
    answers: HashMap<ProjectId, UsageAnswer>,
    /// When the counters of a project last changed.
    changes: HashMap<ProjectId, Instant>,
}

#[derive(Clone, Copy, Debug)]
struct UsageAnswer {
    asked_at: Instant,
    sums: Sums,
}

/// The events of one project, by their outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
struct Sums {
    stored: u64,
    duplicates: u64,
    dead: u64,
}

/// Usage as the page receives it.
#[derive(Debug, Serialize)]
pub struct Today {
    /// The date, in UTC.
    day: String,
    /// The projects with the most stored events come first.
    projects: Vec<Row>,
    /// The number of projects that are left out.
    more: usize,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    #[serde(flatten)]
    sums: Sums,
    /// The events left of the month's quota. `None` when there is no quota, or the stream cannot be reached.
    left: Option<u64>,
}

impl Usage {
    /// Notes that the counters of these projects have changed.
    pub fn note_changes(&mut self, projects: &[ProjectId], now: Instant) {
        self.changes.extend(projects.iter().map(|project| (*project, now)));
    }

    /// The projects to ask the store for now, those not asked for longest first.
    pub fn due(&mut self, projects: &[ProjectSummary], today: Date, now: Instant) -> Vec<ProjectId> {
        if self.day.replace(today) != Some(today) {
            self.answers.clear();
            self.changes.clear();
        }
        let asked_at = |project: &ProjectId| self.answers.get(project).map(|answer| answer.asked_at);
        let is_due = |project: &ProjectId| match (asked_at(project), self.changes.get(project)) {
            (None, _) => true,
            (Some(asked), changed) => {
                changed.is_some_and(|changed| asked <= *changed) || now.duration_since(asked) >= STALE_AFTER
            }
        };
        let mut due: Vec<_> = projects.iter().map(|project| project.id).filter(is_due).collect();
        due.sort_by_key(asked_at);
        due.truncate(ASKED_MAX);
        due
    }

    /// Remembers the store's answer to a query of that moment.
    pub fn note_answer(&mut self, project: ProjectId, rows: &[UsageRow], asked_at: Instant) {
        let sums = rows.iter().fold(Sums::default(), |sums, row| Sums {
            stored: sums.stored + row.events,
            duplicates: sums.duplicates + row.duplicates,
            dead: sums.dead + row.dead,
        });
        self.answers.insert(project, UsageAnswer { asked_at, sums });
    }

    /// The usage as the page receives it. `None` before the first answer. `month` is the current one.
    pub fn today(&self, projects: &[ProjectSummary], counters: &Counters, month: u32) -> Option<Today> {
        let day = self.day.filter(|_| !self.answers.is_empty() || projects.is_empty())?;
        let answered = projects.iter().filter_map(|ProjectSummary { id, name, plan }| {
            let UsageAnswer { sums, .. } = self.answers.get(id)?;
            let used = counters.get(id).map(|now| if now.month == month { now.used } else { 0 });
            let left = plan.events_per_month.zip(used).map(|(quota, used)| quota.saturating_sub(used));
            Some(Row { name: clip(name).to_owned(), sums: *sums, left })
        });
        let mut rows: Vec<_> = answered.collect();
        rows.sort_by(|a, b| b.sums.stored.cmp(&a.sums.stored).then_with(|| a.name.cmp(&b.name)));
        rows.truncate(SHOWN_MAX);
        Some(Today { day: day.to_string(), more: projects.len() - rows.len(), projects: rows })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use millrace_event::plan::Plan;
    use millrace_stream::ProjectCounters;
    use time::OffsetDateTime;
    use time::macros::date;

    use super::*;

    const TODAY: Date = date!(2026 - 11 - 21);

    fn project(number: i64, quota: Option<u64>) -> ProjectSummary {
        let plan = Plan {
            name: "test".into(),
            requests_per_minute: 1,
            burst: 1,
            events_per_month: quota,
            events_per_batch: 1,
        };
        ProjectSummary {
            id: ProjectId(number),
            name: format!("project {number}").into(),
            plan: Arc::new(plan),
        }
    }

    fn row(events: u64) -> UsageRow {
        UsageRow {
            start: OffsetDateTime::UNIX_EPOCH,
            events,
            bytes: 0,
            duplicates: 1,
            dead: 2,
            conflicts: 0,
            cancelled: 0,
        }
    }

    #[test]
    fn every_project_is_asked_for_once_and_again_when_its_counters_change() {
        let projects: Vec<_> = (0..50).map(|number| project(number, None)).collect();
        let mut usage = Usage::default();
        let now = Instant::now();
        let mut asked = Vec::new();
        for _ in 0..2 {
            let due = usage.due(&projects, TODAY, now);
            assert!(due.len() <= ASKED_MAX);
            due.iter().for_each(|project| usage.note_answer(*project, &[], now));
            asked.extend(due);
        }
        asked.sort_unstable();
        assert_eq!(asked, projects.iter().map(|project| project.id).collect::<Vec<_>>());
        assert_eq!(usage.due(&projects, TODAY, now), []);
        usage.note_changes(&[ProjectId(7)], now);
        assert_eq!(usage.due(&projects, TODAY, now), [ProjectId(7)]);
        assert_eq!(usage.due(&projects, TODAY, now + STALE_AFTER).len(), ASKED_MAX);
        assert_eq!(usage.due(&projects, date!(2026 - 11 - 22), now).len(), ASKED_MAX, "a new day");
    }

    #[test]
    fn the_projects_with_the_most_events_come_first_and_the_others_are_counted() {
        let projects: Vec<_> = (0..30).map(|number| project(number, Some(100))).collect();
        let mut usage = Usage::default();
        assert!(usage.today(&projects, &Counters::new(), 202_611).is_none(), "nothing is known yet");
        let now = Instant::now();
        for project in usage.due(&projects, TODAY, now) {
            usage.note_answer(project, &[row(project.0.unsigned_abs()), row(1)], now);
        }
        let counters = |project, month| ProjectCounters { project, accepted: 0, pending: 0, month, used: 40 };
        let (last, other) = (ProjectId(29), ProjectId(28));
        let counters = Counters::from([(last, counters(last, 202_611)), (other, counters(other, 202_610))]);
        let today = usage.today(&projects, &counters, 202_611).unwrap();
        assert_eq!((today.projects.len(), today.more), (SHOWN_MAX, 10));
        let [first, second, third] = &today.projects[..3] else { panic!("{today:?}") };
        assert_eq!(
            (first.name.as_str(), first.sums),
            ("project 29", Sums { stored: 30, duplicates: 2, dead: 4 })
        );
        assert_eq!(
            (first.left, second.left, third.left),
            (Some(60), Some(100), None),
            "unknown is not unlimited use"
        );
    }
}
