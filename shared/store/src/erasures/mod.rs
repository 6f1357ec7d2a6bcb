//! Erasures: what is stored of a person is removed, or loses its name. Pure, and the same for every store.
//!
//! An erasure is a sequence of short transactions. Each counts what it removes, so the books balance at every
//! moment, and an erasure that ended anywhere is continued by the same order. What is billed stays billed:
//! usage is not changed, and figures of meters move to a pseudonym.

mod figures;
mod letter;
mod records;
mod text;

use async_trait::async_trait;
use millrace_event::plan::ProjectId;
use strum::{EnumString, IntoStaticStr};
use time::OffsetDateTime;
use uuid::Uuid;

pub(crate) use self::figures::{FigureRow, MovedFigures, Renaming};
pub(crate) use self::letter::{LetterErasure, LetterRead, erase_from_letter};
pub use self::records::{RecordsPlace, SubjectRecords};
pub(crate) use self::records::{dead_letter, event, figure, sample};
pub(crate) use self::text::is_in_sample;
use crate::StoreError;

/// Bytes of a subject, at most: no event has a longer one.
pub const SUBJECT_BYTES_MAX: usize = 200;
/// Rows that one step reads, at most, where no index leads to the subject.
pub(crate) const WALKED_MAX: i64 = 20_000;
/// Events that one transaction changes, at most. Workers wait for it in a project with meters.
pub(crate) const CHANGED_MAX: usize = 1_000;
/// Dead letters that one step reads, at most. Their payloads may be large.
pub(crate) const LETTERS_MAX: i64 = 100;
/// Quarters of an hour of which one transaction moves the figures, at most.
pub(crate) const QUARTERS_MAX: i64 = 200;

/// What becomes of a subject's events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, EnumString, IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum ErasureKind {
    /// They are deleted.
    Erase,
    /// They stay, with a pseudonym as subject, and without the client's id and the context.
    Anonymize,
    /// As `Anonymize`, and without the properties.
    AnonymizeWithoutProperties,
}

impl ErasureKind {
    /// Whether the events stay.
    pub fn keeps_events(self) -> bool {
        self != Self::Erase
    }
}

/// An order to erase a subject.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ErasureOrder {
    pub project: ProjectId,
    /// At most [`SUBJECT_BYTES_MAX`] bytes, and not empty.
    pub subject: String,
    pub kind: ErasureKind,
    /// Events that were received before are erased: the time of the order, on the stream's clock.
    pub received_before: OffsetDateTime,
    /// Who gives the order, for the record.
    pub by: String,
}

/// A row of `erasures`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Erasure {
    pub id: i64,
    pub project: ProjectId,
    pub kind: ErasureKind,
    /// `None` once it is finished.
    pub subject: Option<String>,
    /// The subject of figures, and of events that stay, from then on.
    pub pseudonym: String,
    pub received_before: OffsetDateTime,
    /// Events that were erased or anonymized.
    pub events: u64,
    /// Events that were erased from dead letters.
    pub dead_letters: u64,
    /// Samples of refusals that were removed.
    pub samples: u64,
    pub by: String,
    pub started_at: OffsetDateTime,
    pub finished_at: Option<OffsetDateTime>,
}

/// Where a pass of an erasure is. Letters come before events: a redrive makes events of letters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErasurePlace {
    /// Dead letters with a higher number.
    Letters { after: i64 },
    /// Events after this timestamp and id; from the first one without.
    Events { after: Option<(i64, Uuid)> },
    /// Figures of days of which retention has removed events: of meters from this one on, after this bucket.
    Figures { meter: i64, after_us: i64 },
    /// Limits, thresholds, notifications and samples.
    Rest,
}

impl ErasurePlace {
    /// Where a pass begins.
    pub const START: Self = Self::Letters { after: i64::MIN };
}

/// The result of one step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ErasureStep {
    /// Where the next step begins; `None` at the end of the pass.
    pub next: Option<ErasurePlace>,
    /// Events that were read.
    pub events_read: u64,
    /// Events that were erased or anonymized.
    pub events: u64,
    /// Events that were erased from dead letters.
    pub dead_letters: u64,
    /// Samples that were removed.
    pub samples: u64,
    /// Dead letters whose payload cannot be read, and which may therefore have events of the subject.
    pub unreadable: u64,
}

/// For operators: erases what is stored of a person, and exports it.
#[async_trait]
pub trait Erasures: Send + Sync {
    /// Starts an erasure, or continues the one of this subject that is not finished: its
    /// `received_before` becomes that of the order, if that is later.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a subject that no event can have, and [`StoreError::Conflict`] when an
    /// erasure of another kind is not finished.
    async fn begin_erasure(&self, order: &ErasureOrder) -> Result<Erasure, StoreError>;

    /// One step of a pass, which begins at [`ErasurePlace::START`]. Short transactions, each of which leaves
    /// the books balanced. A pass over a subject of which nothing is left changes nothing.
    async fn erase_step(&self, erasure: &Erasure, place: ErasurePlace) -> Result<ErasureStep, StoreError>;

    /// Removes the subject from the record of the erasure. Call it after a pass that began when every entry
    /// that was received before `received_before` was settled: nothing can bring the events back then.
    async fn finish_erasure(&self, erasure: &Erasure) -> Result<Erasure, StoreError>;

    /// The erasures of one project, or of all projects, latest first; at most `limit`.
    async fn erasures(&self, project: Option<ProjectId>, limit: u32) -> Result<Vec<Erasure>, StoreError>;

    /// What is stored of a subject, a page at a time. Changes nothing.
    async fn subject_records(
        &self,
        project: ProjectId,
        subject: &str,
        place: &RecordsPlace,
    ) -> Result<SubjectRecords, StoreError>;

    /// Whether an index of `events` leads to the events of a subject.
    async fn has_subject_index(&self) -> Result<bool, StoreError>;

    /// Creates the index `events_subject`. Writers continue on PostgreSQL, and wait on files. Returns false
    /// when there is one. An interrupted call is continued by the next.
    async fn create_subject_index(&self) -> Result<bool, StoreError>;

    /// Drops the index `events_subject`. Returns false when there is none.
    async fn drop_subject_index(&self) -> Result<bool, StoreError>;
}

/// # Errors
/// [`StoreError::Invalid`] for a subject that no event can have.
pub(crate) fn check(order: &ErasureOrder) -> Result<(), StoreError> {
    let subject = &order.subject;
    if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX || subject.contains('\0') {
        return Err(StoreError::Invalid(format!(
            "a subject has 1 to {SUBJECT_BYTES_MAX} bytes, and this one has {}; give the subject as the events have it",
            subject.len()
        )));
    }
    Ok(())
}

/// # Errors
/// [`StoreError::Conflict`] when an erasure of another kind is not finished.
pub(crate) fn check_kind(order: &ErasureOrder, found: &str) -> Result<(), StoreError> {
    if found == <&str>::from(order.kind) {
        return Ok(());
    }
    Err(StoreError::Conflict(format!(
        "an erasure of this subject of the kind {found} is not finished; finish it first with the same command as before"
    )))
}

/// A new pseudonym.
pub(crate) fn new_pseudonym() -> String {
    format!("erased-{}", Uuid::new_v4().simple())
}

/// # Errors
/// [`StoreError::Invalid`] for a kind that this release does not know.
pub(crate) fn kind_of(stored: &str) -> Result<ErasureKind, StoreError> {
    let unknown =
        |error| StoreError::Invalid(format!("the table erasures has the unknown kind {stored:?}: {error}"));
    stored.parse().map_err(unknown)
}

pub(crate) fn not_open() -> StoreError {
    StoreError::Missing("this erasure is finished, or another process has finished it".to_owned())
}
