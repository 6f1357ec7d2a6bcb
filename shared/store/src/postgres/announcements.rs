//! The changes of accounts that the server has announced, in their order, for any number of callers.
//!
//! A payload names projects, or is `all`. What cannot be read means `all`: this module must never leave out a
//! change. It keeps a bounded number of announcements; a caller that is further behind reads all accounts.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millrace_event::plan::ProjectId;
use tokio::sync::watch;

use crate::{AccountChanges, ChangeMark, ChangedAccounts};

/// Announcements that are kept.
const KEPT_MAX: usize = 1_024;
/// Projects that one answer names. To read more of them one by one costs more than to read all.
const PROJECTS_MAX: usize = 1_000;
/// After a confirmation, the connection counts as one that announces every change for this time.
const CONFIRMED_FOR: Duration = Duration::from_secs(3);

/// Written by the listener, read by callers.
pub(super) struct Announcements {
    state: Mutex<State>,
    /// The number of the last announcement; 0 before the first.
    last: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// The latest, with their numbers, which have no gaps.
    kept: VecDeque<(u64, Announcement)>,
    /// When the connection was last known to announce every change.
    confirmed_at: Option<Instant>,
}

enum Announcement {
    All,
    Projects(Vec<ProjectId>),
}

impl Announcements {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), last: watch::Sender::new(0) }
    }

    /// Records a notification.
    pub(super) fn record(&self, payload: &str) {
        let projects: Result<Vec<_>, _> =
            payload.split(',').map(|number| number.parse().map(ProjectId)).collect();
        self.push(projects.map_or(Announcement::All, Announcement::Projects));
    }

    /// Records that changes may have been missed.
    pub(super) fn record_all(&self) {
        self.push(Announcement::All);
    }

    /// The connection works, and announces every change.
    pub(super) fn confirm(&self) {
        self.state().confirmed_at = Some(Instant::now());
    }

    /// The connection ended: from now on, changes are missed.
    pub(super) fn interrupt(&self) {
        self.state().confirmed_at = None;
    }

    /// Returns at the first change after `after`, or after `at_most`.
    pub(super) async fn changes(&self, after: ChangeMark, at_most: Duration) -> AccountChanges {
        let mut last = self.last.subscribe();
        // It cannot fail: the sender lives as long as this does. The value is not kept, because it is a lock.
        let announced = async { last.wait_for(|last| *last != after.0).await.map(drop) };
        match tokio::time::timeout(at_most, announced).await {
            Ok(_) => self.since(after),
            Err(_) if self.is_confirmed() => {
                AccountChanges { mark: after, changed: ChangedAccounts::Nothing }
            }
            Err(_) => AccountChanges { mark: after, changed: ChangedAccounts::All },
        }
    }

    fn since(&self, after: ChangeMark) -> AccountChanges {
        let state = self.state();
        let mark = ChangeMark(*self.last.borrow());
        let all = AccountChanges { mark, changed: ChangedAccounts::All };
        // A caller that has seen nothing has read nothing.
        let has_all = state.kept.front().is_some_and(|(first, _)| *first <= after.0.saturating_add(1));
        if after == ChangeMark::default() || after > mark || !has_all {
            return all;
        }
        let mut projects = BTreeSet::new();
        for (_, announcement) in state.kept.iter().filter(|(number, _)| *number > after.0) {
            match announcement {
                Announcement::All => return all,
                Announcement::Projects(changed) => projects.extend(changed),
            }
            if projects.len() > PROJECTS_MAX {
                return all;
            }
        }
        AccountChanges { mark, changed: ChangedAccounts::Projects(projects) }
    }

    fn push(&self, announcement: Announcement) {
        let mut state = self.state();
        let number = *self.last.borrow() + 1;
        state.kept.push_back((number, announcement));
        if state.kept.len() > KEPT_MAX {
            state.kept.pop_front();
        }
        self.last.send_replace(number);
    }

    fn is_confirmed(&self) -> bool {
        self.state().confirmed_at.is_some_and(|at| at.elapsed() < CONFIRMED_FOR)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(1);
    const NEVER: Duration = Duration::from_secs(3_600);

    async fn changed(announcements: &Announcements, mark: &mut ChangeMark) -> ChangedAccounts {
        let changes = announcements.changes(*mark, SOON).await;
        *mark = changes.mark;
        changes.changed
    }

    fn projects(numbers: impl IntoIterator<Item = i64>) -> ChangedAccounts {
        ChangedAccounts::Projects(numbers.into_iter().map(ProjectId).collect())
    }

    #[tokio::test]
    async fn every_caller_gets_each_change_once() {
        let announcements = Announcements::new();
        announcements.record_all();
        let (mut one, mut other) = (ChangeMark::default(), ChangeMark::default());
        assert_eq!(changed(&announcements, &mut one).await, ChangedAccounts::All);
        announcements.confirm();
        assert_eq!(changed(&announcements, &mut one).await, ChangedAccounts::Nothing);
        announcements.record("7,-8");
        announcements.record("7,9");
        assert_eq!(announcements.changes(one, NEVER).await.changed, projects([7, -8, 9]));
        assert_eq!(changed(&announcements, &mut one).await, projects([7, -8, 9]));
        assert_eq!(changed(&announcements, &mut one).await, ChangedAccounts::Nothing);
        assert_eq!(
            changed(&announcements, &mut other).await,
            ChangedAccounts::All,
            "it has read nothing yet"
        );
        announcements.record("10");
        assert_eq!(changed(&announcements, &mut other).await, projects([10]));
    }

    #[tokio::test]
    async fn what_names_no_projects_means_all() {
        for payload in ["all", "", ",", "1,", "1,x", " 1", "9223372036854775808"] {
            let announcements = Announcements::new();
            announcements.record("1");
            announcements.record(payload);
            announcements.record("2");
            assert_eq!(
                changed(&announcements, &mut ChangeMark(1)).await,
                ChangedAccounts::All,
                "{payload:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_caller_that_is_too_far_behind_reads_all() {
        let announcements = Announcements::new();
        let (mut behind, mut near) = (ChangeMark(1), ChangeMark(2));
        for _ in 0..KEPT_MAX + 2 {
            announcements.record("5");
        }
        assert_eq!(changed(&announcements, &mut behind).await, ChangedAccounts::All);
        assert_eq!(changed(&announcements, &mut near).await, projects([5]));
        announcements.record(&(0..=1_000).map(|number| number.to_string()).collect::<Vec<_>>().join(","));
        assert_eq!(changed(&announcements, &mut near).await, ChangedAccounts::All, "too many projects");
        let mut foreign = ChangeMark(u64::MAX);
        assert_eq!(changed(&announcements, &mut foreign).await, ChangedAccounts::All);
        assert_eq!(foreign, near);
    }

    #[tokio::test]
    async fn without_a_working_connection_every_wait_ends_with_all() {
        let announcements = Announcements::new();
        announcements.record("5");
        let mut mark = ChangeMark(1);
        assert_eq!(changed(&announcements, &mut mark).await, ChangedAccounts::All);
        announcements.confirm();
        assert_eq!(changed(&announcements, &mut mark).await, ChangedAccounts::Nothing);
        announcements.interrupt();
        assert_eq!(changed(&announcements, &mut mark).await, ChangedAccounts::All);
    }
}
