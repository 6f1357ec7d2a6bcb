//! What a store tells an API process about changes of keys, projects and plans. Pure data.

use std::collections::BTreeSet;

use millrace_event::plan::ProjectId;

/// A point in the sequence of changes that a store has seen. The default is before all of them. Only the
/// store that returned it, in the same process, can read it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct ChangeMark(pub(crate) u64);

/// The accounts that must be read again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChangedAccounts {
    /// Any account may have changed.
    All,
    /// Only accounts of these projects have changed. They may have none any more.
    Projects(BTreeSet<ProjectId>),
    /// No account has changed: the store hears of every change, and has heard of none.
    Nothing,
}

/// The changes after one mark, up to another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountChanges {
    /// The mark for the next call.
    pub mark: ChangeMark,
    pub changed: ChangedAccounts,
}
