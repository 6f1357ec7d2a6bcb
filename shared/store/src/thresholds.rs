//! Thresholds of quotas, limits and meters, the notifications that they cause, and how these are delivered.

use std::time::Duration;

use async_trait::async_trait;
use millrace_event::event::SUBJECT_BYTES_MAX;
use millrace_event::limit::check_limited;
use millrace_event::meter::{Aggregation, Decimal};
use millrace_event::plan::ProjectId;
use strum::{Display, EnumString, IntoStaticStr, VariantArray};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::StoreError;

/// Days that a notification is kept after the end of its period. A period that ended earlier causes none.
pub const NOTIFICATION_DAYS: u16 = 400;
/// Days after its start that a row of `threshold_values` is kept. It is made again when it is needed.
pub(crate) const VALUE_DAYS: u16 = 40;
/// Notifications of one project that one call claims, at most, so that one project cannot hold up the others.
pub(crate) const CLAIMED_OF_PROJECT_MAX: u32 = 4;
/// Why notifications of a threshold that is gone are not delivered.
pub(crate) const GONE: &str = "the threshold was deleted or replaced before this was delivered";
const NAME_BYTES_MAX: usize = 64;

/// The periods whose figures are compared with a threshold, in UTC.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Display, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ThresholdPeriod {
    Hour,
    Day,
    Month,
}

/// What must reach which value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ThresholdRule {
    /// The stored events of a month, in percent of the plan's events per month.
    Quota { percent: u8 },
    /// What a customer has used of a limit in one of its periods, in percent of the limit.
    Limit {
        percent: u8,
        slug: String,
        /// `None` for each customer that has a limit.
        subject: Option<String>,
        period: ThresholdPeriod,
    },
    /// The figure of a meter.
    Meter {
        slug: String,
        /// `None` for each subject.
        subject: Option<String>,
        period: ThresholdPeriod,
        value: Decimal,
    },
}

impl ThresholdRule {
    /// As tables and messages name it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Quota { .. } => "quota",
            Self::Limit { .. } => "limit",
            Self::Meter { .. } => "meter",
        }
    }

    /// The meter that it is about.
    pub fn meter(&self) -> Option<&str> {
        match self {
            Self::Quota { .. } => None,
            Self::Limit { slug, .. } | Self::Meter { slug, .. } => Some(slug),
        }
    }

    fn subject(&self) -> Option<&str> {
        match self {
            Self::Quota { .. } => None,
            Self::Limit { subject, .. } | Self::Meter { subject, .. } => subject.as_deref(),
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ThresholdDefinition {
    /// Unique in the project: `a-z`, `0-9`, `_` and `-`.
    pub name: String,
    pub rule: ThresholdRule,
    /// Where notifications are sent. The store does not check it.
    pub url: String,
}

/// A threshold, as operators see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ThresholdInfo {
    pub threshold_id: i64,
    pub project_name: String,
    pub definition: ThresholdDefinition,
    pub created_at: OffsetDateTime,
}

/// The result of setting a threshold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ThresholdUpdate {
    pub info: ThresholdInfo,
    /// The secret of the project, in the notation of Standard Webhooks, if it was made now.
    pub secret: Option<String>,
}

/// How far the delivery of a notification is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Display, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum NotificationState {
    Pending,
    Delivered,
    /// Given up.
    Dead,
}

/// A threshold that was reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notification {
    pub notification_id: i64,
    pub project: ProjectId,
    pub project_name: String,
    /// The name of the threshold.
    pub threshold_name: String,
    /// See [`ThresholdRule::kind`].
    pub kind: String,
    /// Of the quota or of the limit. `None` for a figure of a meter.
    pub percent: Option<u8>,
    pub meter: Option<String>,
    /// Empty for a quota.
    pub subject: String,
    pub period: ThresholdPeriod,
    pub period_start: OffsetDateTime,
    pub period_end: OffsetDateTime,
    /// The value that was reached, a decimal number; for a quota in events.
    pub threshold: String,
    /// The figure in the transaction that reached it.
    pub value: String,
    pub created_at: OffsetDateTime,
    /// The same in each attempt.
    pub webhook_id: Uuid,
    pub delivery: DeliveryStatus,
}

/// How far the delivery of a notification is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeliveryStatus {
    pub state: NotificationState,
    /// Attempts since it was written, or an operator retried it.
    pub attempts: u32,
    pub next_attempt_at: OffsetDateTime,
    pub attempted_at: Option<OffsetDateTime>,
    /// The status of the last answer.
    pub status: Option<u16>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// A notification that one worker may deliver now.
#[derive(Clone, PartialEq, Eq)]
pub struct ClaimedNotification {
    pub notification: Notification,
    pub url: String,
    /// Identifies the attempt.
    pub claim: Uuid,
    /// The secrets that sign it: the project's, and the one before while it is rotated. Never logged.
    pub secrets: Vec<Vec<u8>>,
}

/// How an attempt to deliver a notification ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeliveryResult {
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// Why it failed. `None` after a success.
    pub error: Option<String>,
    /// When to try again; `None` to give up, and after a success.
    pub retry_after: Option<Duration>,
}

/// What waits for delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NotificationBacklog {
    pub pending: u64,
    pub oldest_age: Duration,
    /// Given up, and neither retried nor forgotten since.
    pub dead: u64,
}

/// Thresholds, which operators set, and notifications, which workers deliver. Writers and
/// [`crate::Meters::move_additions`] write notifications in the transactions that reach a threshold.
#[async_trait]
pub trait Thresholds: Send + Sync {
    /// Creates a threshold, or replaces the one of this name. One that differs in its URL alone stays the
    /// same threshold.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a definition that is not usable, and a project or meter that does not
    /// exist.
    async fn set_threshold(
        &self,
        project: &str,
        definition: &ThresholdDefinition,
    ) -> Result<ThresholdUpdate, StoreError>;

    /// The thresholds of one project, or of all projects, ordered by project and name.
    async fn thresholds(&self, project: Option<ProjectId>) -> Result<Vec<ThresholdInfo>, StoreError>;

    /// Deletes a threshold. Notifications of it that are not delivered become dead. False when the project
    /// has no such threshold.
    async fn delete_threshold(&self, project: &str, name: &str) -> Result<bool, StoreError>;

    /// Replaces the secret that signs the notifications of a project, or makes the first one. The old one
    /// signs as well for this time. Returns the new one, in the notation of Standard Webhooks.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when there is no such project.
    async fn rotate_webhook_secret(&self, project: &str, overlap: Duration) -> Result<String, StoreError>;

    /// Takes notifications whose next attempt is due, and counts an attempt of each. Until `lease` has
    /// passed, no other call takes them.
    async fn claim_notifications(
        &self,
        lease: Duration,
        limit: u32,
    ) -> Result<Vec<ClaimedNotification>, StoreError>;

    /// Records how an attempt ended. False, and no change, when another attempt has begun since.
    async fn finish_delivery(
        &self,
        notification_id: i64,
        claim: Uuid,
        result: &DeliveryResult,
    ) -> Result<bool, StoreError>;

    /// Notifications of one project, or of all projects, in this state, or in any; newest first, at most
    /// `limit`, with an id below `before`.
    async fn notifications(
        &self,
        project: Option<ProjectId>,
        state: Option<NotificationState>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Notification>, StoreError>;

    /// Has a notification delivered now, also again, with all its attempts. False when there is none with
    /// this number.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when its threshold is gone.
    async fn retry_notification(&self, notification_id: i64) -> Result<bool, StoreError>;

    async fn notification_backlog(&self) -> Result<NotificationBacklog, StoreError>;

    /// Removes notifications [`NOTIFICATION_DAYS`] after the end of their period, unless they are pending.
    /// Returns how many rows it removed.
    async fn forget_notifications(&self) -> Result<u64, StoreError>;
}

/// Whether figures of this aggregation can be compared with a threshold: those that only grow, or that are
/// sums.
pub fn can_have_threshold(aggregation: Aggregation) -> bool {
    matches!(aggregation, Aggregation::Count | Aggregation::Sum | Aggregation::Max | Aggregation::UniqueCount)
}

impl ThresholdDefinition {
    /// # Errors
    /// [`StoreError::Invalid`], for a person.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let invalid = |what: &str| Err(StoreError::Invalid(what.to_owned()));
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let name = self.name.as_bytes();
        let is_name = name.first().is_some_and(|first| is_plain(*first))
            && name.len() <= NAME_BYTES_MAX
            && name.iter().all(|byte| is_plain(*byte) || b"_-".contains(byte));
        if !is_name {
            return Err(StoreError::Invalid(format!(
                "the name {:?} of the threshold is not usable; use 1 to 64 of a-z, 0-9, '_' and '-', beginning with a \
                 letter or a digit",
                self.name
            )));
        }
        match &self.rule {
            ThresholdRule::Quota { percent } if !(1..=100).contains(percent) => {
                return invalid("the share of the quota must be from 1% to 100%");
            }
            ThresholdRule::Limit { percent, .. } if !(1..=100).contains(percent) => {
                return invalid("the share of the limit must be from 1% to 100%");
            }
            ThresholdRule::Meter { value, .. } if *value <= Decimal::default() => {
                return invalid("the value of the threshold must be greater than 0");
            }
            _ => {}
        }
        match self.rule.subject() {
            Some("") => invalid("the subject of the threshold is empty; leave it out for each subject"),
            Some(subject) if subject.len() > SUBJECT_BYTES_MAX || subject.contains('\0') => invalid(
                "the subject of the threshold has more than 200 bytes or the character U+0000, so no event has it",
            ),
            _ => Ok(()),
        }
    }
}

/// The columns of a rule, as tables keep it.
pub(crate) struct StoredRule {
    pub(crate) kind: String,
    pub(crate) percent: Option<i32>,
    pub(crate) slug: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) period: String,
    pub(crate) value: Option<String>,
}

impl StoredRule {
    /// # Errors
    /// [`StoreError::Invalid`] for a row that this release cannot read.
    pub(crate) fn read(self) -> Result<ThresholdRule, StoreError> {
        let broken = || StoreError::Invalid("a row of the table thresholds is not usable".to_owned());
        let period = period_of(&self.period)?;
        let percent = || self.percent.and_then(|percent| u8::try_from(percent).ok()).ok_or_else(broken);
        match self.kind.as_str() {
            "quota" => Ok(ThresholdRule::Quota { percent: percent()? }),
            "limit" => {
                let (percent, slug) = (percent()?, self.slug.ok_or_else(broken)?);
                Ok(ThresholdRule::Limit { percent, slug, subject: self.subject, period })
            }
            "meter" => {
                let value = self.value.as_deref().and_then(Decimal::of_text);
                let (slug, value) = (self.slug.ok_or_else(broken)?, value.ok_or_else(broken)?);
                Ok(ThresholdRule::Meter { slug, subject: self.subject, period, value })
            }
            _ => Err(broken()),
        }
    }
}

/// # Errors
/// [`StoreError::Invalid`] for a period that this release does not know.
pub(crate) fn period_of(stored: &str) -> Result<ThresholdPeriod, StoreError> {
    stored.parse().map_err(|error| StoreError::Invalid(format!("the period {stored:?} is unknown: {error}")))
}

/// # Errors
/// [`StoreError::Invalid`] for a state that this release does not know.
pub(crate) fn state_of(stored: &str) -> Result<NotificationState, StoreError> {
    stored.parse().map_err(|error| StoreError::Invalid(format!("the state {stored:?} is unknown: {error}")))
}

/// # Errors
/// [`StoreError::Invalid`] for a meter that the rule cannot be about: one whose figures cannot be compared
/// with a threshold, or that cannot be limited.
pub(crate) fn check_aggregation(
    rule: &ThresholdRule,
    slug: &str,
    aggregation: &str,
) -> Result<(), StoreError> {
    match (aggregation.parse(), rule) {
        (Ok(known), ThresholdRule::Limit { .. }) => {
            check_limited(known).map_err(|refused| StoreError::Invalid(refused.to_string()))
        }
        (Ok(known), _) if can_have_threshold(known) => Ok(()),
        _ => Err(StoreError::Invalid(format!(
            "the meter {slug:?} has the aggregation {aggregation}, whose figures rise and fall; a threshold needs a meter \
             with count, sum, max or unique_count"
        ))),
    }
}

pub(crate) fn no_meter(project: &str, slug: &str) -> StoreError {
    StoreError::Invalid(format!(
        "the project {project:?} has no meter {slug:?}; `millrace meter list` lists them"
    ))
}

pub(crate) fn threshold_gone(notification_id: i64) -> StoreError {
    StoreError::Invalid(format!(
        "the threshold of notification {notification_id} was deleted or replaced, so its URL is not known"
    ))
}
