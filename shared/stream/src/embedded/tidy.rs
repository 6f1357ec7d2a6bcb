//! Keeping the file small, in moments when nobody asks for anything.

use std::time::Duration;

use rusqlite::Connection;

use super::markers;
use super::schema::BUSY_TIMEOUT;

/// Expired markers deleted at once.
const MARKERS_MAX: usize = 10_000;
/// Pages (4 KiB each) that must be free before it pays to give them back.
const FREE_PAGES_MIN: u64 = 4_096;
/// Pages in use with which the file is still written anew within a moment.
const USED_PAGES_MAX: u64 = 4_096;

/// Soon enough for whoever looks at the file's size.
const SOON: Duration = Duration::from_secs(1);
/// Markers that expire so soon are waited for. Those of keyed batches are not.
const EXPIRE_SOON_MS: u64 = 60_000;

/// Forgets expired markers, gives the space of a drained backlog back, and empties the log. Tells when there will be more
/// to tidy, should nobody ask for anything until then.
pub(super) fn tidy(file: &Connection, now_ms: u64) -> rusqlite::Result<Option<Duration>> {
    if markers::expire(file, now_ms, MARKERS_MAX)? == MARKERS_MAX {
        return Ok(Some(Duration::ZERO));
    }
    // Whoever reads meanwhile goes on reading, and whoever asks next does not wait for that.
    file.busy_timeout(Duration::ZERO)?;
    let shrunk = shrink(file);
    file.busy_timeout(BUSY_TIMEOUT)?;
    shrunk?;
    Ok(markers::any_expires_before(file, now_ms + EXPIRE_SOON_MS)?.then_some(SOON))
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
