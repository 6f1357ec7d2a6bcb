//! Redriving dead letters: the contents of a letter, and how the counts change once its events are stored.
//! Pure, and the same for every store.
//!
//! A redrive is not an admission. Its events were accepted once and stay accepted once. It only changes
//! `dead` to `stored` or `duplicate`, everywhere it is counted, in the transaction that stores the events.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::AddAssign;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::dead_reason::{DeadReason, RejectedBy};
use crate::error::StoreError;
use millrace_event::entry;
use millrace_event::meter::{MeterSet, MeterTally};
use millrace_event::plan::ProjectId;
use millrace_event::row::{self, Row};
use millrace_event::undeliverable::UndeliverableCall;

const HOUR_US: i64 = 3_600_000_000;

/// An operator's order to redrive letters. One row of `redrives` has the sums of all its transactions.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RedriveOrder {
    pub id: Uuid,
    /// The user of the operating system who ran the command.
    pub os_user: String,
    /// The machine that the command ran on.
    pub host: String,
    /// The options that selected the letters.
    pub filter: String,
}

/// Counts of letters that were tried, and of their events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Serialize)]
pub struct RedriveResult {
    /// Letters that were not redriven before.
    pub letters: u64,
    pub stored: u64,
    /// Events that were stored already.
    pub duplicate: u64,
    /// Events that are still dead: rejected again, or unreadable.
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
    pub order: RedriveOrder,
    pub started_at: OffsetDateTime,
    pub redriven: RedriveResult,
}

/// The rows of a letter, as [`millrace_event::row`] writes them: one rejected row, or all rows of a dead
/// entry. `code` is the letter's, see [`crate::DeadLetter::code`].
///
/// # Errors
/// Why no event can be made of the payload, for operators.
pub fn rows_of_letter<'a>(
    project: ProjectId,
    event_index: Option<u32>,
    event_count: u64,
    code: Option<&str>,
    payload: &'a [u8],
) -> Result<Cow<'a, [u8]>, String> {
    if let Some(code) = code {
        return Err(format!("no event can be made of this call ({code}); its client must send a valid one"));
    }
    if event_index.is_none() {
        let count = u32::try_from(event_count)
            .map_err(|_| format!("{event_count} events are more than an entry can have"))?;
        return entry::unpack_dead(project, count, payload).map(Cow::Owned);
    }
    let mut rows = row::split(payload);
    match (rows.next(), rows.next()) {
        (Some(Ok(row)), None) if row::project(row) == project => Ok(Cow::Borrowed(payload)),
        (Some(Ok(row)), None) => Err(format!("the row belongs to project {}", row::project(row))),
        _ => Err("the payload is not exactly one row".to_owned()),
    }
}

/// A letter that is being redriven.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) id: i64,
    pub(super) project: ProjectId,
    pub(super) batch_id: Uuid,
    pub(super) received_us: i64,
    pub(super) event_index: Option<u32>,
    pub(super) event_count: u64,
    pub(super) code: Option<String>,
    pub(super) payload: Vec<u8>,
}

impl Letter {
    pub(super) fn rows(&self) -> Result<Cow<'_, [u8]>, String> {
        rows_of_letter(self.project, self.event_index, self.event_count, self.code.as_deref(), &self.payload)
    }
}

/// The rejection of a row of a dead entry that is no event. `None` for an event.
pub(super) fn rejection_of_call(row: &[u8]) -> Option<DeadReason> {
    let call = UndeliverableCall::read(row)?;
    let by = RejectedBy::Dialect { code: call.code.to_owned() };
    Some(DeadReason { by, reason: call.message.to_owned() })
}

/// The payload of the letter of a rejected row.
pub(super) fn payload_of_rejected(row: &[u8]) -> &[u8] {
    UndeliverableCall::read(row).map_or(row, |call| call.call)
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum RowOutcome {
    Stored,
    Duplicate {
        /// Its payload differs from that of the stored event.
        is_conflict: bool,
    },
    Rejected(DeadReason),
}

/// The result for a letter after its rows were tried.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum LetterOutcome<'a> {
    /// The letter is redriven. Each of these rows, given by index, gets its own letter.
    Redriven(Vec<(usize, &'a DeadReason)>),
    /// Every row was rejected, the first for this reason: the letter stays dead.
    Dead(&'a DeadReason),
}

/// Changes `dead` of a row of `batches` or `usage_hourly` to `stored` and `duplicate`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Correction {
    pub(super) stored: i64,
    pub(super) duplicate: i64,
    /// The part of `duplicate` whose payload differs.
    pub(super) conflict: i64,
    pub(super) bytes: i64,
}

impl AddAssign for Correction {
    fn add_assign(&mut self, more: Self) {
        self.stored += more.stored;
        self.duplicate += more.duplicate;
        self.conflict += more.conflict;
        self.bytes += more.bytes;
    }
}

/// Everything that a transaction of a redrive changes in the counts.
#[derive(Debug, Default)]
pub(super) struct Corrections {
    /// Of `usage_hourly`, by project and hour of receipt.
    pub(super) usage: BTreeMap<(i64, i64), Correction>,
    /// Of `batches`, by batch, time of receipt and project.
    pub(super) ledger: BTreeMap<(Uuid, i64, i64), Correction>,
    pub(super) result: RedriveResult,
    /// The rows that were stored, each with its time of receipt.
    stored: Vec<(Vec<u8>, i64)>,
}

impl Corrections {
    /// Adds the events that were stored to meters.
    pub(super) fn add_to_meters(&self, meters: &MeterSet, tally: &mut MeterTally) {
        for (bytes, received_us) in &self.stored {
            if let Ok(event) = Row::read(bytes) {
                tally.add(meters, &event, row::key(bytes, *received_us).timestamp_us, *received_us);
            }
        }
    }

    pub(super) fn add_unreadable(&mut self, letter: &Letter) {
        self.result += RedriveResult { letters: 1, refused: letter.event_count, ..RedriveResult::default() };
    }

    /// Adds a letter with the outcomes of its rows.
    pub(super) fn add<'a>(
        &mut self,
        letter: &Letter,
        rows: &[&[u8]],
        outcomes: &'a [RowOutcome],
    ) -> LetterOutcome<'a> {
        let mut correction = Correction::default();
        let mut rejected = Vec::new();
        for (index, (row, outcome)) in rows.iter().zip(outcomes).enumerate() {
            match outcome {
                RowOutcome::Stored => {
                    correction.stored += 1;
                    correction.bytes += row.len() as i64;
                    self.stored.push((row.to_vec(), letter.received_us));
                }
                RowOutcome::Duplicate { is_conflict } => {
                    correction.duplicate += 1;
                    correction.conflict += i64::from(*is_conflict);
                }
                RowOutcome::Rejected(rejection) => rejected.push((index, rejection)),
            }
        }
        self.result += RedriveResult {
            letters: 1,
            stored: correction.stored.unsigned_abs(),
            duplicate: correction.duplicate.unsigned_abs(),
            refused: rejected.len() as u64,
        };
        if let (Some((_, first)), true) = (rejected.first(), rejected.len() == outcomes.len()) {
            return LetterOutcome::Dead(first);
        }
        let project = letter.project.0;
        let hour_us = letter.received_us.div_euclid(HOUR_US) * HOUR_US;
        *self.usage.entry((project, hour_us)).or_default() += correction;
        *self.ledger.entry((letter.batch_id, letter.received_us, project)).or_default() += correction;
        LetterOutcome::Redriven(rejected)
    }
}

/// The table does not count events that a letter has. Continuing would hide that.
pub(super) fn counts_differ(table: &str) -> StoreError {
    StoreError::Invalid(format!(
        "{table} does not count the events of these dead letters; nothing was changed; run `millrace audit`"
    ))
}
