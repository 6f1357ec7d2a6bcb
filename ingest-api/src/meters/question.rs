//! A question to a meter, as either interface asks it. Pure: the current time is an argument.

use millrace_event::meter::Meter;
use millrace_store::{
    GroupFilter, MeterPeriodError, MeterQuery, MeterWindow, MeterZone, PartOfQuarter, end_of_quarter,
    full_quarter,
};
use time::{Duration, OffsetDateTime};

use crate::parameters::{Moment, ParameterError, date_or_time};

/// Rows of one answer, at most.
pub(super) const ROWS_MAX: u32 = 10_000;
/// Subjects, and values of a group, by which one question is restricted, at most.
const VALUES_MAX: usize = 100;
/// The name of the subject among the groups.
pub(super) const SUBJECT: &str = "subject";

/// Why a question is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum QuestionError {
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    #[error("{name} {part}")]
    PartOfQuarter { name: &'static str, part: PartOfQuarter },
    #[error("from: {0}")]
    Period(#[from] MeterPeriodError),
    #[error("{name} is no time zone; use a name of the IANA database, such as Europe/Berlin or UTC")]
    TimeZone { name: &'static str },
    /// Windows of a minute, for a reason that the store gives.
    #[error("{name}: {reason}")]
    Minute { name: &'static str, reason: String },
    #[error("{name} names no group of the meter; it has {groups}")]
    Group { name: &'static str, groups: String },
    #[error("{name} has more than {VALUES_MAX} values; ask for fewer at a time")]
    TooManyValues { name: &'static str },
    #[error(
        "the answer has more than {ROWS_MAX} rows; ask for a shorter period, wider windows or fewer subjects"
    )]
    TooManyRows,
}

impl QuestionError {
    /// The name of the parameter.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Parameter(error) => error.name(),
            Self::PartOfQuarter { name, .. }
            | Self::TimeZone { name }
            | Self::Minute { name, .. }
            | Self::Group { name, .. }
            | Self::TooManyValues { name } => name,
            Self::Period(_) | Self::TooManyRows => "from",
        }
    }
}

/// A question before its meter is known.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) names: &'static Names,
    pub(super) period: Period,
    pub(super) subjects: Vec<String>,
    /// The subject or names of groups, each once, in the order of the request.
    pub(super) group_by: Vec<String>,
    /// A name of a group, and a value of it. `None` is an event without a value.
    pub(super) filters: Vec<(String, Option<String>)>,
    pub(super) offset: u32,
    pub(super) limit: u32,
}

/// What one interface calls the parameters.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) window: &'static str,
    pub(super) time_zone: &'static str,
    pub(super) group_by: &'static str,
    pub(super) filter: &'static str,
}

/// A checked period.
#[derive(Clone, Debug)]
pub(super) struct Period {
    /// Included, in UTC.
    pub(super) from: OffsetDateTime,
    /// Excluded, in UTC.
    pub(super) to: OffsetDateTime,
    pub(super) window: Option<MeterWindow>,
    pub(super) zone: MeterZone,
}

/// Where a period begins without `from`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DefaultStart {
    /// At the start of the month that contains the end.
    Month,
    /// As early as a period may, with windows of this length.
    Earliest,
}

impl Period {
    /// A date is the start of a day in the zone of the question.
    ///
    /// # Errors
    /// [`QuestionError`] of the limits.
    pub(super) fn new(
        [from, to]: [Option<&str>; 2],
        default_start: DefaultStart,
        window: Option<MeterWindow>,
        zone: MeterZone,
        now: OffsetDateTime,
    ) -> Result<Self, QuestionError> {
        let to = to.map_or_else(|| Ok(end_of_quarter(now)), |text| limit("to", text, &zone))?;
        let from = match (from, default_start) {
            (Some(text), _) => limit("from", text, &zone)?,
            (None, DefaultStart::Month) => zone.start_of(MeterWindow::Month, to - Duration::MICROSECOND),
            (None, DefaultStart::Earliest) => zone.earliest_start(to, window),
        };
        zone.check_period(from, to, window)?;
        Ok(Self { from, to, window, zone })
    }
}

/// A limit of a period.
pub(super) fn limit(
    name: &'static str,
    text: &str,
    zone: &MeterZone,
) -> Result<OffsetDateTime, QuestionError> {
    let quarter = match date_or_time(name, text)? {
        Moment::Date(date) => zone
            .start_of_date(date)
            .ok_or(ParameterError::Invalid { name, expected: "a day of the calendar" })?,
        Moment::Time(time) => full_quarter(time),
    };
    quarter.map_err(|part| QuestionError::PartOfQuarter { name, part })
}

impl Question {
    /// The question to the store.
    ///
    /// # Errors
    /// [`QuestionError::Group`] and [`QuestionError::TooManyValues`].
    pub(super) fn to_meter(&self, meter: &Meter) -> Result<MeterQuery, QuestionError> {
        let groups = &meter.definition.groups;
        let index = |name: &'static str, wanted: &str| {
            let found = groups.iter().position(|group| group.name == wanted);
            found.ok_or_else(|| {
                let names = groups.iter().map(|group| group.name.as_str());
                QuestionError::Group {
                    name,
                    groups: std::iter::once(SUBJECT).chain(names).collect::<Vec<_>>().join(", "),
                }
            })
        };
        if self.subjects.len() > VALUES_MAX {
            return Err(QuestionError::TooManyValues { name: SUBJECT });
        }
        let by_groups = self.group_by.iter().filter(|name| *name != SUBJECT);
        let mut filters: Vec<GroupFilter> = Vec::new();
        for (group, value) in &self.filters {
            let group = index(self.names.filter, group)?;
            match filters.iter_mut().find(|filter| filter.group == group) {
                Some(filter) if filter.values.len() == VALUES_MAX => {
                    return Err(QuestionError::TooManyValues { name: self.names.filter });
                }
                Some(filter) => filter.values.push(value.as_deref().map(storable)),
                None => filters.push(GroupFilter { group, values: vec![value.as_deref().map(storable)] }),
            }
        }
        Ok(MeterQuery {
            from_us: micros(self.period.from),
            to_us: micros(self.period.to),
            window: self.period.window,
            time_zone: self.period.zone.name().to_owned(),
            subjects: self.subjects.iter().map(|subject| storable(subject)).collect(),
            by_subject: self.group_by.iter().any(|name| name == SUBJECT),
            by_groups: by_groups.map(|name| index(self.names.group_by, name)).collect::<Result<_, _>>()?,
            filters,
            offset: self.offset,
            limit: self.limit,
        })
    }

    /// Adds a name to the groups, unless it is there.
    pub(super) fn add_group(&mut self, name: &str) {
        if !self.group_by.iter().any(|known| known == name) {
            self.group_by.push(name.to_owned());
        }
    }
}

/// A text as events have it: U+0000 is stored as U+FFFD.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn micros(time: OffsetDateTime) -> i64 {
    // The years are four digits.
    i64::try_from(time.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}
