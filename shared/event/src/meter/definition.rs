//! What a meter counts.

use strum::{AsRefStr, Display, EnumString, IntoStaticStr, VariantArray};

use super::path::Path;
use crate::event::NAME_CHARS_MAX;
use crate::plan::ProjectId;

/// Group values of a meter, at most.
pub const GROUPS_MAX: usize = 8;
/// Characters of a slug and of a group's name, at most.
pub const SLUG_CHARS_MAX: usize = 64;

/// The number of a meter, unique in the installation and never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MeterId(pub i64);

/// How a meter makes one figure of many events.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    AsRefStr,
    Display,
    EnumString,
    IntoStaticStr,
    VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum Aggregation {
    /// The number of events.
    Count,
    Sum,
    Min,
    Max,
    /// The sum of the values divided by their number.
    Avg,
    /// The value of the event with the latest timestamp; of several, the one with the highest id.
    Latest,
    /// The number of different values.
    UniqueCount,
}

/// A value by which the figures of a meter are kept apart.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Group {
    pub name: String,
    pub path: Path,
}

/// The definition of a meter. It never changes: a change would make the figures before it wrong.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct MeterDefinition {
    /// The name of the meter in its project.
    pub slug: String,
    /// The name of the events that it counts.
    pub event: String,
    pub aggregation: Aggregation,
    /// `None` for a count.
    pub value: Option<Path>,
    pub groups: Vec<Group>,
}

/// A meter, and which events it counts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Meter {
    pub id: MeterId,
    pub project: ProjectId,
    pub definition: MeterDefinition,
    /// Events that were received earlier are not counted, in microseconds since 1970. `i64::MIN` counts all.
    pub received_from_us: i64,
    /// While a backfill is under way: it still has to count the events with this timestamp or a later one, in
    /// microseconds since 1970. `i64::MAX` otherwise.
    pub counted_until_us: i64,
}

/// Why a definition is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DefinitionError {
    #[error(
        "the slug {0:?} is not usable; use up to 64 of a-z, 0-9, '_' and '-', and begin with a letter or a digit"
    )]
    Slug(String),
    #[error("the name of the events has no or more than 200 characters")]
    Event,
    #[error("the aggregation {0} needs a value; add a path to it, such as $.tokens")]
    NoValue(Aggregation),
    #[error("the aggregation count takes no value; remove it, or choose sum")]
    ValueOfCount,
    #[error("more than 8 groups")]
    TooManyGroups,
    #[error(
        "the group {0:?} has no usable name; use up to 64 letters, digits and '_', and begin with a letter"
    )]
    GroupName(String),
    #[error("a group cannot have the name subject, which always means the subject; choose another name")]
    GroupIsSubject,
    #[error("the group {0:?} is there twice")]
    GroupTwice(String),
}

impl MeterDefinition {
    /// # Errors
    /// The first part that is not usable.
    pub fn check(&self) -> Result<(), DefinitionError> {
        let first_is = |text: &str, is: fn(&u8) -> bool| text.as_bytes().first().is_some_and(is);
        let is_slug = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
        let slug = &self.slug;
        let has_length = |text: &str| text.len() <= SLUG_CHARS_MAX;
        if !has_length(slug) || !first_is(slug, u8::is_ascii_alphanumeric) || !slug.bytes().all(is_slug) {
            return Err(DefinitionError::Slug(slug.clone()));
        }
        if !(1..=NAME_CHARS_MAX).contains(&self.event.chars().count()) {
            return Err(DefinitionError::Event);
        }
        match (self.aggregation, &self.value) {
            (Aggregation::Count, Some(_)) => return Err(DefinitionError::ValueOfCount),
            (Aggregation::Count, None) | (_, Some(_)) => {}
            (aggregation, None) => return Err(DefinitionError::NoValue(aggregation)),
        }
        if self.groups.len() > GROUPS_MAX {
            return Err(DefinitionError::TooManyGroups);
        }
        for (index, Group { name, .. }) in self.groups.iter().enumerate() {
            let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            if !has_length(name) || !first_is(name, u8::is_ascii_alphabetic) || !name.bytes().all(is_word) {
                return Err(DefinitionError::GroupName(name.clone()));
            }
            if name == "subject" {
                return Err(DefinitionError::GroupIsSubject);
            }
            if self.groups[..index].iter().any(|other| other.name == *name) {
                return Err(DefinitionError::GroupTwice(name.clone()));
            }
        }
        Ok(())
    }
}

impl Meter {
    /// Whether the writer of an event counts it, if its name is the meter's. A backfill counts the others.
    pub fn counts(&self, timestamp_us: i64, received_us: i64) -> bool {
        received_us >= self.received_from_us && timestamp_us < self.counted_until_us
    }
}
