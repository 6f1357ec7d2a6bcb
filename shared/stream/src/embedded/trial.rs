//! Finds out whether the disk has room again after it was full.

use rusqlite::Connection;
use uuid::Uuid;

/// Bytes that the trial writes: more than a small batch, so that a disk with a few free pages counts as full.
const TRIAL_BYTES: usize = 64 << 10;

/// Writes a row that is not a marker of any batch. It takes effect with the COMMIT.
pub(super) fn write(file: &Connection) -> rusqlite::Result<()> {
    // It expires at once, so that maintenance removes it if the process ends before [`remove`].
    let insert =
        "INSERT OR REPLACE INTO markers (batch_id, project, count, received_ms, keep_ms, digest, expires_ms)
                  VALUES (?1, 0, 0, 0, 0, zeroblob(?2), 0)";
    file.execute(insert, (Uuid::nil().into_bytes(), TRIAL_BYTES)).map(drop)
}

pub(super) fn remove(file: &Connection) -> rusqlite::Result<()> {
    file.execute("DELETE FROM markers WHERE batch_id = ?1", [Uuid::nil().into_bytes()]).map(drop)
}
