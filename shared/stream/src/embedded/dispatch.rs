//! The entries in memory that the writer and the lanes share: the new ones, and those that were delivered.

use std::sync::{Mutex, MutexGuard};

use tokio::sync::watch;

use super::deliveries::Deliveries;
use super::position::Position;
use super::recent::RecentEntries;
use millrace_event::entry::PackedEntry;

pub(super) struct Dispatch {
    deliveries: Mutex<Deliveries>,
    recent: Mutex<RecentEntries>,
    /// Held by the lane that takes new entries: two lanes at the same time would take the same ones.
    taking: Mutex<()>,
    /// The last entry on disk. A change wakes the lanes that wait for entries.
    last: watch::Sender<Position>,
}

impl Dispatch {
    /// For a file in which this is the last entry.
    pub(super) fn after(last: Position) -> Self {
        Self {
            deliveries: Mutex::default(),
            recent: Mutex::new(RecentEntries::after(last)),
            taking: Mutex::default(),
            last: watch::Sender::new(last),
        }
    }

    pub(super) fn deliveries(&self) -> MutexGuard<'_, Deliveries> {
        self.deliveries.lock().expect("no thread panics while it holds the deliveries")
    }

    pub(super) fn recent(&self) -> MutexGuard<'_, RecentEntries> {
        self.recent.lock().expect("no thread panics while it holds the recent entries")
    }

    /// The right to take new entries.
    pub(super) fn lock_taking(&self) -> MutexGuard<'_, ()> {
        self.taking.lock().expect("no thread panics while it takes entries")
    }

    /// The last entry on disk.
    pub(super) fn last(&self) -> Position {
        *self.last.borrow()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Position> {
        self.last.subscribe()
    }

    /// Publishes the changes of a transaction that is on disk.
    pub(super) fn committed(
        &self,
        appended: Vec<(Position, PackedEntry)>,
        settled: &[Position],
        last: Position,
    ) {
        self.deliveries().forget(settled);
        if !appended.is_empty() {
            self.recent().add(appended);
            self.last.send_replace(last);
        }
    }
}
