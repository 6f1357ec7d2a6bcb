//! Meters as the store keeps them: their definitions, what is read of them, and how they are checked.

use millrace_event::meter::{Aggregation, Group, Meter, MeterDefinition, MeterFault};
use strum::{EnumString, IntoStaticStr, VariantArray};
use time::OffsetDateTime;

use crate::error::StoreError;

/// A meter, as operators and owners see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeterInfo {
    pub meter: Meter,
    pub project_name: String,
    pub created_at: OffsetDateTime,
}

/// From which events on a new meter counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MeterStart {
    /// Events that are received from now on.
    Now,
    /// All events that are stored. Those that are stored already wait for [`crate::Meters::backfill`].
    FirstEvent,
}

/// One step of a backfill.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BackfillStep {
    /// Events of the project that were read.
    pub events: u64,
    /// All events with an earlier timestamp are counted, in microseconds since 1970; `i64::MAX` at the end.
    pub counted_until_us: i64,
}

impl BackfillStep {
    pub fn is_last(&self) -> bool {
        self.counted_until_us == i64::MAX
    }
}

/// The length of a window, in the time zone of the query.
#[derive(Clone, Copy, PartialEq, Eq, Debug, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum MeterWindow {
    /// Counted from the events themselves, because figures are kept by the quarter of an hour.
    Minute,
    Hour,
    Day,
    Month,
}

/// A question to a meter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeterQuery {
    /// Inclusive, in microseconds since 1970, at the start of a quarter of an hour.
    pub from_us: i64,
    /// Exclusive, at the start of a quarter of an hour.
    pub to_us: i64,
    /// `None` for one figure of the whole period.
    pub window: Option<MeterWindow>,
    /// The name of a time zone in the IANA database, such as `Europe/Berlin`.
    pub time_zone: String,
    /// Only these subjects; empty for all.
    pub subjects: Vec<String>,
    /// Whether each subject has a row of its own.
    pub by_subject: bool,
    /// The groups that have rows of their own, by their index in the definition.
    pub by_groups: Vec<usize>,
    /// Only these values of groups.
    pub filters: Vec<GroupFilter>,
    /// Rows to leave out at the start.
    pub offset: u32,
    /// Rows, at most.
    pub limit: u32,
}

/// Values of a group to which a query is restricted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupFilter {
    /// The index of the group in the definition.
    pub group: usize,
    /// `None` is the group of events without a value.
    pub values: Vec<Option<String>>,
}

/// A figure.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeterRow {
    /// In microseconds since 1970. The first and the last window are cut to the period.
    pub start_us: i64,
    pub end_us: i64,
    /// Empty for events without a subject. `None` unless the query is by subject.
    pub subject: Option<String>,
    /// The values of the groups of the query, in its order.
    pub groups: Vec<Option<String>>,
    /// Events counted.
    pub events: u64,
    /// A decimal number, exact except for an average, which has at least 16 digits.
    pub value: String,
}

/// Events with the name of a meter's events that it does not count, for one reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeterFaultCount {
    pub fault: MeterFault,
    pub events: u64,
    /// Properties of one of them, at most 1 KiB.
    pub sample: Vec<u8>,
    pub last_at: OffsetDateTime,
}

/// The figures of a meter compared with the events that are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeterCheck {
    pub info: MeterInfo,
    /// Events that the figures count.
    pub counted: u64,
    /// Events that are counted as faults.
    pub faults: u64,
    /// The same by the events that are kept, and those that retention has removed.
    pub counted_by_events: u64,
    pub faults_by_events: u64,
    /// Figures that differ from the events, of days of which retention has removed none.
    pub wrong_figures: u64,
}

impl MeterCheck {
    pub fn holds(&self) -> bool {
        let Self { counted, faults, counted_by_events, faults_by_events, wrong_figures, .. } = self;
        counted == counted_by_events && faults == faults_by_events && *wrong_figures == 0
    }
}

/// Whether figures of this aggregation are different values and not numbers.
pub(crate) fn is_unique(aggregation: Aggregation) -> bool {
    aggregation == Aggregation::UniqueCount
}

/// The columns of a definition, as tables keep it.
pub(crate) struct StoredDefinition<'a> {
    pub(crate) slug: String,
    pub(crate) event: String,
    pub(crate) aggregation: &'a str,
    pub(crate) value: Option<&'a str>,
    pub(crate) group_names: Vec<String>,
    pub(crate) group_paths: &'a [String],
}

impl StoredDefinition<'_> {
    /// # Errors
    /// [`StoreError::Invalid`] for a row that this release cannot read.
    pub(crate) fn read(self) -> Result<MeterDefinition, StoreError> {
        let broken =
            |what: String| StoreError::Invalid(format!("a row of the table meters is not usable: {what}"));
        let path = |text: &str| text.parse().map_err(|error| broken(format!("{error}")));
        let groups = self.group_names.into_iter().zip(self.group_paths);
        Ok(MeterDefinition {
            slug: self.slug,
            event: self.event,
            aggregation: self.aggregation.parse().map_err(|error| broken(format!("{error}")))?,
            value: self.value.map(path).transpose()?,
            groups: groups
                .map(|(name, text)| Ok(Group { name, path: path(text)? }))
                .collect::<Result<_, StoreError>>()?,
        })
    }
}

/// # Errors
/// [`StoreError::Invalid`] for a fault that this release does not know.
pub(crate) fn fault_of(stored: &str) -> Result<MeterFault, StoreError> {
    let unknown = |error| {
        StoreError::Invalid(format!("the table meter_faults has the unknown fault {stored:?}: {error}"))
    };
    stored.parse().map_err(unknown)
}

pub(crate) fn no_project(project: &str) -> StoreError {
    StoreError::Missing(format!("there is no project {project:?}; `millrace project list` lists them"))
}

pub(crate) fn slug_taken(project: &str, slug: &str) -> StoreError {
    StoreError::Conflict(format!(
        "the project {project:?} has a meter {slug:?}; delete it, or choose another slug"
    ))
}
