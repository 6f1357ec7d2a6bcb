//! Driving dead letters again: what is in a letter, and what the meters must say once its events are stored. Pure, and the
//! same for every store.
//!
//! A redrive is no admission. Its events were accepted once and stay accepted once; what it does is to turn `dead` into
//! `stored` or `duplicate`, everywhere it is counted, in the transaction that stores the events.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::AddAssign;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;
use millrace_event::entry;
use millrace_event::plan::ProjectId;
use millrace_event::row;

const HOUR_US: i64 = 3_600_000_000;

/// One operator's wish to have letters driven again. All that is done for it adds up in one row of `redrives`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RedriveOrder {
    /// Its name.
    pub id: Uuid,
    /// Who wishes it.
    pub os_user: String,
    /// Where.
    pub host: String,
    /// Which letters, in the words of the command.
    pub filter: String,
}

/// What became of letters that were driven again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct RedriveResult {
    /// Letters taken up: those that were still dead.
    pub letters: u64,
    /// Events stored.
    pub stored: u64,
    /// Events that were in the store already.
    pub duplicate: u64,
    /// Events that are still dead: refused again, or not to be read.
    pub refused: u64,
}

impl AddAssign for RedriveResult {
    fn add_assign(&mut self, more: Self) {
        self.letters += more.letters;
        self.stored += more.stored;
        self.duplicate += more.duplicate;
        self.refused += more.refused;
    }
}

/// A row of `redrives`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RedriveRecord {
    /// What was wished, by whom.
    pub order: RedriveOrder,
    /// When its first letters were driven.
    pub started_at: OffsetDateTime,
    /// What became of them.
    pub redriven: RedriveResult,
}

/// The rows that a letter holds, as [`millrace_event::row`] writes them: the one that was refused, or all of a dead entry.
///
/// # Errors
/// Why it cannot be read, for operators.
pub fn rows_of_letter(
    project: ProjectId,
    event_index: Option<u32>,
    event_count: u64,
    payload: &[u8],
) -> Result<Cow<'_, [u8]>, String> {
    if event_index.is_none() {
        let count = u32::try_from(event_count).map_err(|_| format!("{event_count} events are no count"))?;
        return entry::unpack_dead(project, count, payload).map(Cow::Owned);
    }
    let mut rows = row::split(payload);
    match (rows.next(), rows.next()) {
        (Some(Ok(row)), None) if row::project(row) == project => Ok(Cow::Borrowed(payload)),
        (Some(Ok(row)), None) => Err(format!("the row belongs to project {}", row::project(row))),
        _ => Err("the payload is not one whole row".to_owned()),
    }
}

/// A letter that is being driven again.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) id: i64,
    pub(super) project: ProjectId,
    pub(super) batch_id: Uuid,
    pub(super) received_us: i64,
    pub(super) event_index: Option<u32>,
    pub(super) event_count: u64,
    pub(super) payload: Vec<u8>,
}

impl Letter {
    /// See [`rows_of_letter`].
    pub(super) fn rows(&self) -> Result<Cow<'_, [u8]>, String> {
        rows_of_letter(self.project, self.event_index, self.event_count, &self.payload)
    }
}

/// What became of one row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Stored,
    Duplicate,
    Refused(Refused),
}

/// What the database has against a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refused {
    pub(super) sqlstate: String,
    pub(super) reason: String,
}

/// What must be done with a letter, now that it was tried.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Verdict<'a> {
    /// Nothing of it is dead any more, but for the rows listed: they get letters of their own, by their place.
    Redriven(Vec<(usize, &'a Refused)>),
    /// It stays as dead as it was, for this reason.
    StillDead(&'a Refused),
}

/// Moves events of one row of a table from `dead` to `stored` or `duplicate`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Change {
    pub(super) stored: i64,
    pub(super) duplicate: i64,
    pub(super) bytes: i64,
}

impl AddAssign for Change {
    fn add_assign(&mut self, more: Self) {
        self.stored += more.stored;
        self.duplicate += more.duplicate;
        self.bytes += more.bytes;
    }
}

/// What a transaction of a redrive has to write into the books.
#[derive(Debug, Default)]
pub(super) struct Books {
    /// By project and hour of receipt: `usage_hourly`.
    pub(super) usage: BTreeMap<(i64, i64), Change>,
    /// By batch, time of receipt and project: `batches`.
    pub(super) ledger: BTreeMap<(Uuid, i64, i64), Change>,
    /// The sum of it all.
    pub(super) redriven: RedriveResult,
}

impl Books {
    /// A letter that cannot be read.
    pub(super) fn unreadable(&mut self, letter: &Letter) {
        self.redriven +=
            RedriveResult { letters: 1, refused: letter.event_count, ..RedriveResult::default() };
    }

    /// A letter whose rows have met these fates.
    pub(super) fn enter<'a>(&mut self, letter: &Letter, rows: &[&[u8]], fates: &'a [Fate]) -> Verdict<'a> {
        let mut change = Change::default();
        let mut refused = Vec::new();
        for (place, (row, fate)) in rows.iter().zip(fates).enumerate() {
            match fate {
                Fate::Stored => {
                    change.stored += 1;
                    change.bytes += row.len() as i64;
                }
                Fate::Duplicate => change.duplicate += 1,
                Fate::Refused(why) => refused.push((place, why)),
            }
        }
        self.redriven += RedriveResult {
            letters: 1,
            stored: change.stored.unsigned_abs(),
            duplicate: change.duplicate.unsigned_abs(),
            refused: refused.len() as u64,
        };
        if let (Some((_, why)), true) = (refused.first(), refused.len() == fates.len()) {
            return Verdict::StillDead(why);
        }
        let project = letter.project.0;
        let hour_us = letter.received_us.div_euclid(HOUR_US) * HOUR_US;
        *self.usage.entry((project, hour_us)).or_default() += change;
        *self.ledger.entry((letter.batch_id, letter.received_us, project)).or_default() += change;
        Verdict::Redriven(refused)
    }
}

/// The books do not know of events that a letter says were counted in them. To go on would hide it.
pub(super) fn books_differ(table: &str) -> StoreError {
    StoreError::Invalid(format!(
        "{table} does not know of the dead letters that were to be driven again; nothing of these was changed; run \
         `millrace audit`"
    ))
}
