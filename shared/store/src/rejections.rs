//! What was refused, for the owners of projects: counts by hour and reason, and the last samples, as the
//! tables hold them. Pure, and the same for every store.
//!
//! They come from two sides. What the API refuses arrives as a [`RejectionReport`]. What a worker refuses is
//! written in the transaction that refuses it (`rejection_tally`).

use std::borrow::Cow;

use time::OffsetDateTime;
use uuid::Uuid;

use millrace_event::plan::ProjectId;

/// Samples kept of each project and kind.
pub const SAMPLES_KEPT: u32 = 100;
/// Most bytes of a sample's payload.
pub const SAMPLE_PAYLOAD_BYTES_MAX: usize = 4 << 10;
/// How long a report is recognized when it is sent again: longer than any outage.
pub(super) const SOURCE_DAYS: i64 = 30;

/// What was refused. The names are those of the tables, the API and the command line.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    serde::Serialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum RejectionKind {
    /// An event, in the answer to its request.
    Event,
    /// A whole request.
    Request,
    /// An accepted event that became a dead letter.
    Dead,
    /// A duplicate with another payload than the event that was stored.
    Conflict,
}

impl RejectionKind {
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// A row of `rejections_hourly`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RejectionCount {
    /// The hour in which it was refused: its first moment, UTC.
    pub hour: OffsetDateTime,
    pub project: ProjectId,
    pub kind: RejectionKind,
    /// A code of the API, `conflict`, or the SQLSTATE of a dead letter.
    pub code: String,
    /// Events, or requests.
    pub count: u64,
}

/// [`RejectionCount`]s of one project, kind and code, summed over a period.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RejectionSum {
    pub project: ProjectId,
    pub kind: RejectionKind,
    pub code: String,
    pub count: u64,
}

/// A row of `rejection_samples`. Its texts and its payload may come from a hostile client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RejectionSample {
    pub project: ProjectId,
    pub at: OffsetDateTime,
    pub kind: RejectionKind,
    pub code: String,
    /// The invalid field, if one field is the cause.
    pub field: Option<String>,
    /// What is wrong, and what would be valid.
    pub message: String,
    /// The event as it was sent, of any bytes, without keys: at most [`SAMPLE_PAYLOAD_BYTES_MAX`].
    pub payload: Option<Vec<u8>>,
}

/// What one process of the API refused since its last report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RejectionReport {
    /// The process, by a number that it chose at its start.
    pub source: Uuid,
    /// Counts up from 1. Reports of one source are added in this order.
    pub number: u64,
    /// At most one for each hour, project, kind and code.
    pub counts: Vec<RejectionCount>,
    /// Oldest first.
    pub samples: Vec<RejectionSample>,
}

impl RejectionReport {
    /// The counts in the order of the table's primary key, in which every process must lock its rows.
    pub(super) fn ordered_counts(&self) -> Vec<&RejectionCount> {
        let mut counts: Vec<_> = self.counts.iter().collect();
        counts.sort_by_key(|count| (count.project, count.hour, count.kind.name(), count.code.as_str()));
        counts
    }

    /// The projects and kinds of its samples, each once.
    pub(super) fn sampled(&self) -> Vec<(ProjectId, RejectionKind)> {
        let mut sampled: Vec<_> = self.samples.iter().map(|sample| (sample.project, sample.kind)).collect();
        sampled.sort_unstable();
        sampled.dedup();
        sampled
    }
}

/// The text without U+0000, which PostgreSQL cannot store.
pub(super) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { text.replace('\0', "\u{fffd}").into() } else { text.into() }
}
