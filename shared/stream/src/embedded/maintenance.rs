//! Keeps the file small while no requests arrive.

use std::time::Duration;

use rusqlite::Connection;

use super::schema::BUSY_TIMEOUT;
use super::{limits, markers};

/// Expired markers deleted by one statement.
const MARKERS_MAX: usize = 10_000;
/// Free pages (4 KiB each) from which shrinking the file is worth it.
const FREE_PAGES_MIN: u64 = 4_096;
/// Pages in use up to which rewriting the file takes only a moment.
const USED_PAGES_MAX: u64 = 4_096;

/// The pause before the next maintenance while markers are about to expire.
const NEXT_AFTER: Duration = Duration::from_secs(1);
/// Markers that expire within this time cause another maintenance. Those of batches with a key expire later.
const EXPIRE_SOON_MS: u64 = 60_000;

/// Deletes expired markers, returns the space of a drained backlog to the file system, and truncates the
/// write-ahead log. Returns when to run again if no request arrives until then.
pub(super) fn run(file: &Connection, now_ms: u64) -> rusqlite::Result<Option<Duration>> {
    if markers::expire(file, now_ms, MARKERS_MAX)? == MARKERS_MAX {
        return Ok(Some(Duration::ZERO));
    }
    limits::expire(file, now_ms)?;
    // Does not wait for readers, so that the next request does not wait for them either.
    file.busy_timeout(Duration::ZERO)?;
    let shrunk = shrink(file);
    file.busy_timeout(BUSY_TIMEOUT)?;
    shrunk?;
    Ok(markers::any_expires_before(file, now_ms + EXPIRE_SOON_MS)?.then_some(NEXT_AFTER))
}

fn shrink(file: &Connection) -> rusqlite::Result<()> {
    let pages = |name: &str| file.pragma_query_value(None, name, |row| row.get::<_, u64>(0));
    let free = pages("freelist_count")?;
    let used = pages("page_count")?.saturating_sub(free);
    if free >= FREE_PAGES_MIN && used <= USED_PAGES_MAX {
        file.execute_batch("VACUUM")?;
    }
    file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}
