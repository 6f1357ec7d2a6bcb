//! The counters of the shard and of its projects, which the writer keeps in memory between two transactions.
//!
//! A transaction writes back the counters that it changed. When it fails, the counters are dropped and loaded
//! again: they must never be ahead of the file.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OptionalExtension, Row};

use super::position::Position;
use crate::Epoch;
use millrace_event::plan::{LimitState, ProjectId, month_of};

/// Projects kept in memory. When there are more, all are dropped and loaded again one by one.
const PROJECTS_MAX: usize = 10_000;

pub(super) struct Counters {
    pub(super) shard: ShardRow,
    /// The row as it is in the file.
    shard_written: ShardRow,
    projects: HashMap<ProjectId, ProjectRow>,
    /// Projects that differ from their rows in the file.
    changed: Vec<ProjectId>,
}

/// The only row of `shard`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ShardRow {
    /// `None` while the counters are rebuilt.
    pub(super) epoch: Option<Epoch>,
    /// The epoch under which the counters are rebuilt.
    pub(super) fence: Option<Epoch>,
    /// The last entry that was ever appended. The clock never goes back behind its time.
    pub(super) last: Position,
    pub(super) entries: u64,
    pub(super) events: u64,
    pub(super) bytes: u64,
}

/// A row of `projects`. A project without a row is all zero.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ProjectRow {
    pub(super) tat_us: u64,
    pub(super) month: u32,
    pub(super) used: u64,
    pub(super) accepted: u64,
    pub(super) pending: i64,
}

impl ShardRow {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let mut select = connection.prepare_cached(
            "SELECT epoch, fence, last_position, backlog_entries, backlog_events, backlog_bytes FROM shard",
        )?;
        let epoch = |row: &Row<'_>, column| {
            Ok::<_, rusqlite::Error>(row.get::<_, Option<[u8; 16]>>(column)?.map(Epoch::from_bytes))
        };
        select.query_row([], |row| {
            Ok(Self {
                epoch: epoch(row, 0)?,
                fence: epoch(row, 1)?,
                last: row.get(2)?,
                entries: row.get(3)?,
                events: row.get(4)?,
                bytes: row.get(5)?,
            })
        })
    }

    fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut update = connection.prepare_cached(
            "UPDATE shard SET epoch = ?1, fence = ?2, last_position = ?3,
                backlog_entries = ?4, backlog_events = ?5, backlog_bytes = ?6",
        )?;
        let epoch = self.epoch.map(Epoch::into_bytes);
        let fence = self.fence.map(Epoch::into_bytes);
        update.execute((epoch, fence, self.last, self.entries, self.events, self.bytes)).map(drop)
    }

    /// Microseconds since 1970. It never goes back, even when the clock of the machine does.
    pub(super) fn now_us(&self) -> u64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(wall.as_micros()).unwrap_or(u64::MAX).max(self.last.ms() * 1_000)
    }
}

impl ProjectRow {
    pub(super) fn read(connection: &Connection, id: ProjectId) -> rusqlite::Result<Self> {
        let mut select = connection.prepare_cached(
            "SELECT tat_us, month, used, accepted, pending FROM projects WHERE project = ?1",
        )?;
        let found = select.query_row([id.0], |row| {
            Ok(Self {
                tat_us: row.get(0)?,
                month: row.get(1)?,
                used: row.get(2)?,
                accepted: row.get(3)?,
                pending: row.get(4)?,
            })
        });
        found.optional().map(Option::unwrap_or_default)
    }

    fn write(&self, connection: &Connection, id: ProjectId) -> rusqlite::Result<()> {
        let mut replace =
            connection.prepare_cached("INSERT OR REPLACE INTO projects VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        replace.execute((id.0, self.tat_us, self.month, self.used, self.accepted, self.pending)).map(drop)
    }

    pub(super) fn limit_state(&self, now_us: u64) -> LimitState {
        let used = if self.month == month_of(now_us) { self.used } else { 0 };
        LimitState { now_us, tat_us: self.tat_us, used }
    }
}

impl Counters {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let shard = ShardRow::read(connection)?;
        Ok(Self { shard, shard_written: shard, projects: HashMap::new(), changed: Vec::new() })
    }

    pub(super) fn project(&mut self, connection: &Connection, id: ProjectId) -> rusqlite::Result<ProjectRow> {
        if let Some(project) = self.projects.get(&id) {
            return Ok(*project);
        }
        let project = ProjectRow::read(connection, id)?;
        self.projects.insert(id, project);
        Ok(project)
    }

    pub(super) fn set_project(&mut self, id: ProjectId, project: ProjectRow) {
        self.projects.insert(id, project);
        self.changed.push(id);
    }

    /// Deletes every project, in memory and in the file.
    pub(super) fn delete_projects(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.projects.clear();
        self.changed.clear();
        connection.execute("DELETE FROM projects", []).map(drop)
    }

    /// Writes the changed rows. Call it last in a transaction.
    pub(super) fn write_changes(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        self.changed.sort_unstable();
        self.changed.dedup();
        for id in self.changed.drain(..) {
            if let Some(project) = self.projects.get(&id) {
                project.write(connection, id)?;
            }
        }
        if self.shard != self.shard_written {
            self.shard.write(connection)?;
            self.shard_written = self.shard;
        }
        if self.projects.len() > PROJECTS_MAX {
            self.projects.clear();
        }
        Ok(())
    }
}
