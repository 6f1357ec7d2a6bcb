//! The counters of limits of customers, in the file only: a batch of a project without limits never asks for
//! one.

use rusqlite::{Connection, OptionalExtension, params};

use super::position::Position;
use super::transaction::WriteTransaction;
use crate::Epoch;
use millrace_event::limit::{Amount, ChargeRefused, Counter, CounterState, LimitedCharge, Refund, charge};
use millrace_event::plan::ProjectId;

/// How long a counter is kept after its last charge, in milliseconds: longer than any window.
const KEPT_MS: u64 = 40 * 24 * 3_600_000;

/// The table of the counters.
pub(super) const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS limit_counters (
        project INTEGER NOT NULL, meter INTEGER NOT NULL, period TEXT NOT NULL, subject TEXT NOT NULL,
        window INTEGER NOT NULL, units INTEGER NOT NULL, billionths INTEGER NOT NULL, charged_ms INTEGER NOT NULL,
        PRIMARY KEY (project, meter, period, subject)
    ) STRICT, WITHOUT ROWID;
";
const FIND: &str = "SELECT window, units, billionths FROM limit_counters
                     WHERE project = ?1 AND meter = ?2 AND period = ?3 AND subject = ?4";
const SET: &str = "INSERT OR REPLACE INTO limit_counters VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const REPLACE_USED: &str = "UPDATE limit_counters SET units = ?5, billionths = ?6
                             WHERE project = ?1 AND meter = ?2 AND period = ?3 AND subject = ?4";

/// What was used of the counters of these charges, if one of the limits does not allow its charge; otherwise
/// what is used afterwards.
pub(super) enum Checked {
    Over { used: Vec<Amount> },
    Within { after: Vec<Amount> },
}

/// Decides on the charges of a batch, and changes nothing.
pub(super) fn check(
    file: &Connection,
    project: ProjectId,
    charges: &[LimitedCharge],
    now_us: u64,
) -> rusqlite::Result<Checked> {
    let used = charges.iter().map(|limited| used_at(file, project, &limited.charge.counter, now_us));
    let used = used.collect::<Result<Vec<_>, _>>()?;
    Ok(match charge(&used, charges) {
        Ok(after) => Checked::Within { after },
        Err(ChargeRefused) => Checked::Over { used },
    })
}

/// Sets the counters of these charges.
pub(super) fn set(
    file: &Connection,
    project: ProjectId,
    charges: &[LimitedCharge],
    after: Vec<Amount>,
    now_us: u64,
) -> rusqlite::Result<()> {
    for (limited, used) in charges.iter().zip(after) {
        let counter = limited.charge.counter.clone();
        let window = counter.period.window(now_us);
        write(file, project, &CounterState { counter, window, used }, now_us / 1_000)?;
    }
    Ok(())
}

/// What is used of a counter in the window that contains `now_us`.
pub(super) fn used_at(
    file: &Connection,
    project: ProjectId,
    counter: &Counter,
    now_us: u64,
) -> rusqlite::Result<Amount> {
    let found = find(file, project, counter)?;
    let current = found.filter(|(window, _)| *window == counter.period.window(now_us));
    Ok(current.map_or(Amount::ZERO, |(_, used)| used))
}

fn find(file: &Connection, project: ProjectId, counter: &Counter) -> rusqlite::Result<Option<(u64, Amount)>> {
    let Counter { meter, period, subject } = counter;
    let mut find = file.prepare_cached(FIND)?;
    let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, Amount::of_parts(row.get(1)?, row.get(2)?)));
    find.query_row(params![project.0, meter.0, period.as_ref(), subject], read).optional()
}

fn write(file: &Connection, project: ProjectId, state: &CounterState, now_ms: u64) -> rusqlite::Result<()> {
    let CounterState { counter: Counter { meter, period, subject }, window, used } = state;
    let (units, billionths) = used.parts();
    let mut set = file.prepare_cached(SET)?;
    let values = params![project.0, meter.0, period.as_ref(), subject, window, units, billionths, now_ms];
    set.execute(values).map(drop)
}

/// Gives an amount back, if its counter is still that of the window in which the batch was received.
pub(super) fn refund(
    file: &Connection,
    project: ProjectId,
    refund: &Refund,
    received: Position,
) -> rusqlite::Result<()> {
    let Refund { counter, amount } = refund;
    let Some((window, used)) = find(file, project, counter)? else { return Ok(()) };
    if window != counter.period.window(received.ms() * 1_000) {
        return Ok(());
    }
    let (units, billionths) = used.minus(*amount).parts();
    let Counter { meter, period, subject } = counter;
    let mut replace = file.prepare_cached(REPLACE_USED)?;
    replace.execute(params![project.0, meter.0, period.as_ref(), subject, units, billionths]).map(drop)
}

/// Replaces all counters, if the stream is fenced under this epoch.
pub(super) fn restore(
    transaction: &mut WriteTransaction<'_>,
    epoch: Epoch,
    counters: &[(ProjectId, CounterState)],
) -> rusqlite::Result<bool> {
    if transaction.counters.shard.fence != Some(epoch) {
        return Ok(false);
    }
    let now_ms = transaction.counters.shard.now_us() / 1_000;
    transaction.file.execute("DELETE FROM limit_counters", [])?;
    for (project, state) in counters {
        write(transaction.file, *project, state, now_ms)?;
    }
    Ok(true)
}

/// Deletes counters that were not charged for long.
pub(super) fn expire(file: &Connection, now_ms: u64) -> rusqlite::Result<()> {
    let expired = "DELETE FROM limit_counters WHERE charged_ms < ?1";
    file.prepare_cached(expired)?.execute([now_ms.saturating_sub(KEPT_MS)]).map(drop)
}

/// Whether the file has the table. A file that no service of this release has opened has none.
pub(super) fn exists(file: &Connection) -> rusqlite::Result<bool> {
    let exists = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'limit_counters')";
    file.query_row(exists, [], |row| row.get(0))
}
