//! Keeping the file small, in moments when nobody asks for anything.

use rusqlite::Connection;

use super::markers;

/// Expired markers deleted at once.
const MARKERS_MAX: usize = 10_000;
/// Pages (4 KiB each) that must be free before it pays to give them back.
const FREE_PAGES_MIN: u64 = 4_096;
/// Pages in use with which the file is still written anew within a moment.
const USED_PAGES_MAX: u64 = 4_096;

/// Forgets expired markers, gives the space of a drained backlog back, and empties the log.
pub(super) fn tidy(file: &Connection, now_ms: u64) -> rusqlite::Result<()> {
    markers::expire(file, now_ms, MARKERS_MAX)?;
    let pages = |name: &str| file.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
    let free = pages("freelist_count")?;
    let used = pages("page_count")?.saturating_sub(free);
    if free >= FREE_PAGES_MIN && used <= USED_PAGES_MAX {
        file.execute_batch("VACUUM")?;
    }
    file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}
