//! The parameters of a writer's statements: always arrays, one element for each row, so that every step takes
//! one round trip however many rows there are.

use uuid::Uuid;

use super::copy::Instant;
use crate::letters::NewLetter;
use crate::rejection_tally::RejectionTally;

/// Keys of rows of a draft.
#[derive(Default)]
pub(super) struct RowKeys {
    /// Indices of the rows in the draft.
    pub(super) indices: Vec<i32>,
    pub(super) projects: Vec<i64>,
    pub(super) times: Vec<Instant>,
    pub(super) ids: Vec<Uuid>,
}

impl RowKeys {
    /// The first and the last time, unless there are no keys.
    pub(super) fn span(&self) -> Option<(Instant, Instant)> {
        span(&self.times)
    }
}

/// Rows of `undated_ids` in key order.
#[derive(Default)]
pub(super) struct ClaimRows {
    pub(super) projects: Vec<i64>,
    pub(super) ids: Vec<Uuid>,
    /// Timestamps of the events.
    pub(super) times: Vec<Instant>,
    /// When they were received, if the claim is kept as long as the ledger.
    pub(super) kept_from: Vec<Option<Instant>>,
}

/// Rows of `dead_letters`.
#[derive(Default)]
pub(super) struct DeadLetters<'a> {
    pub(super) projects: Vec<i64>,
    pub(super) batches: Vec<Uuid>,
    pub(super) times: Vec<Instant>,
    /// Indices of the events in their batches; `None` for a whole entry.
    pub(super) event_indices: Vec<Option<i32>>,
    pub(super) counts: Vec<i64>,
    pub(super) sqlstates: Vec<Option<&'a str>>,
    pub(super) codes: Vec<Option<&'a str>>,
    pub(super) reasons: Vec<&'a str>,
    pub(super) payloads: Vec<&'a [u8]>,
}

impl<'a> DeadLetters<'a> {
    pub(super) fn new(letters: &'a [NewLetter<'a>]) -> Self {
        let mut rows = Self::default();
        for letter in letters {
            rows.projects.push(letter.project.0);
            rows.batches.push(letter.batch_id);
            rows.times.push(Instant(letter.received_us));
            rows.event_indices.push(letter.event_index.map(u32::cast_signed));
            rows.counts.push(letter.event_count.into());
            rows.sqlstates.push(letter.sqlstate);
            rows.codes.push(letter.code);
            rows.reasons.push(&letter.reason);
            rows.payloads.push(letter.payload);
        }
        rows
    }
}

/// Amounts to add to `rejections_hourly`, in key order.
#[derive(Default)]
pub(super) struct RefusalCounts<'a> {
    pub(super) projects: Vec<i64>,
    pub(super) hours: Vec<Instant>,
    pub(super) kinds: Vec<&'static str>,
    pub(super) codes: Vec<&'a str>,
    pub(super) counts: Vec<i64>,
}

impl<'a> RefusalCounts<'a> {
    pub(super) fn new(refusals: &RejectionTally<'a>) -> Self {
        let mut rows = Self::default();
        for (&(project, hour_us, kind, code), &count) in &refusals.counts {
            rows.projects.push(project);
            rows.hours.push(Instant(hour_us));
            rows.kinds.push(kind.into());
            rows.codes.push(code);
            rows.counts.push(count);
        }
        rows
    }
}

/// Rows of `rejection_samples`, oldest first.
#[derive(Default)]
pub(super) struct SampleRows<'a> {
    pub(super) projects: Vec<i64>,
    pub(super) times: Vec<Instant>,
    pub(super) kinds: Vec<&'static str>,
    pub(super) codes: Vec<&'a str>,
    pub(super) messages: Vec<&'a str>,
    pub(super) payloads: Vec<Option<Vec<u8>>>,
}

impl<'a> SampleRows<'a> {
    pub(super) fn new(refusals: &'a RejectionTally<'a>) -> Self {
        let mut rows = Self::default();
        for (&(project, kind), samples) in &refusals.samples {
            for sample in samples {
                rows.projects.push(project);
                rows.times.push(Instant(sample.received_us));
                rows.kinds.push(kind.into());
                rows.codes.push(sample.code);
                rows.messages.push(&sample.message);
                rows.payloads.push(sample.payload());
            }
        }
        rows
    }
}

/// Amounts to add to `usage_hourly`, in key order.
#[derive(Default)]
pub(super) struct UsageRows {
    pub(super) projects: Vec<i64>,
    pub(super) hours: Vec<Instant>,
    pub(super) events: Vec<i64>,
    pub(super) bytes: Vec<i64>,
    pub(super) duplicates: Vec<i64>,
    pub(super) dead: Vec<i64>,
    pub(super) conflicts: Vec<i64>,
}

/// The highest entry of each shard in a draft.
#[derive(Default)]
pub(super) struct PositionRows {
    pub(super) shards: Vec<i32>,
    pub(super) entry_ms: Vec<i64>,
    pub(super) entry_seqs: Vec<i64>,
}

/// The first and the last of these times, unless there are none.
pub(super) fn span(times: &[Instant]) -> Option<(Instant, Instant)> {
    Some((*times.iter().min()?, *times.iter().max()?))
}

/// An index as a parameter.
pub(super) fn number(index: usize) -> i32 {
    i32::try_from(index).expect("indices in one transaction fit 31 bits")
}

/// An index that the database returned as it was sent.
pub(super) fn index(number: i32) -> usize {
    usize::try_from(number).expect("the database returns the indices it was given")
}
