//! Data that operators list and change: projects, keys, plans, and the usage of every project. Pure: no I/O.
//! Only [`NewKey`] may contain the text of a key.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::StoreError;
use crate::totals::UsageRow;
use millrace_event::plan::{EVENTS_PER_BATCH_MAX, EVENTS_PER_MONTH_MAX, Plan, ProjectId, REQUESTS_MAX};
use millrace_event::policy::{BOUND_S_MAX, Dedupe, KeyScope, OutOfBounds, ProjectPolicy};

/// Longest name of a plan, in characters.
const PLAN_NAME_CHARS_MAX: usize = 100;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProjectInfo {
    pub project: ProjectId,
    pub name: String,
    /// The name of its plan.
    pub plan: String,
    pub policy: ProjectPolicy,
    /// Keys that are neither revoked nor expired.
    pub live_keys: u64,
    pub created_at: OffsetDateTime,
    /// When any of its keys was last used.
    pub last_used_at: Option<OffsetDateTime>,
}

/// A key without its text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyInfo {
    pub key_id: i64,
    /// The name of its project.
    pub project: String,
    /// Whether requests must be signed.
    pub signed: bool,
    pub scope: KeyScope,
    /// Empty allows every client.
    pub allowed_origins: Vec<String>,
    pub created_at: OffsetDateTime,
    pub last_used_at: Option<OffsetDateTime>,
    /// Set by a rotation. The key is refused from then on.
    pub expires_at: Option<OffsetDateTime>,
    pub revoked_at: Option<OffsetDateTime>,
}

/// A key that was just created. Its text is stored nowhere.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct NewKey {
    pub key_id: i64,
    pub key: String,
    /// The signing secret in the notation of Standard Webhooks (`whsec_…`), for a key that requires
    /// signatures.
    pub signing_secret: Option<String>,
}

/// The result of a rotation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRotation {
    /// The name of the project of both keys.
    pub project: String,
    pub new: NewKey,
    /// The old key is refused from then on.
    pub old_expires_at: OffsetDateTime,
}

/// What a new key is. The default is a random key that does everything, for every client. Has no `Debug`, so
/// that a chosen key is not printed by accident.
#[derive(Clone, Default)]
pub struct KeyOptions {
    /// The text of the key; `None` makes a random one.
    pub chosen: Option<String>,
    /// Whether requests must be signed.
    pub signed: bool,
    pub scope: KeyScope,
    /// Origins of pages that may use the key, as `millrace_event::web_origin` writes them. Empty allows every
    /// client.
    pub allowed_origins: Vec<String>,
}

/// The choices for a project that are to change. `None` leaves one as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PolicyChange {
    pub dedupe: Option<Dedupe>,
    /// In seconds. `Some(None)` removes the bound.
    pub oldest_s: Option<Option<u64>>,
    /// In seconds. `Some(None)` removes the bound.
    pub newest_s: Option<Option<u64>>,
    pub out_of_bounds: Option<OutOfBounds>,
    pub store_ip: Option<bool>,
}

/// The result of a [`PolicyChange`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PolicyUpdate {
    pub before: ProjectPolicy,
    pub after: ProjectPolicy,
}

impl PolicyChange {
    /// # Errors
    /// [`StoreError::Invalid`] for a bound that is out of range.
    pub fn apply(&self, before: ProjectPolicy) -> Result<ProjectPolicy, StoreError> {
        let after = ProjectPolicy {
            dedupe: self.dedupe.unwrap_or(before.dedupe),
            oldest_s: self.oldest_s.unwrap_or(before.oldest_s),
            newest_s: self.newest_s.unwrap_or(before.newest_s),
            out_of_bounds: self.out_of_bounds.unwrap_or(before.out_of_bounds),
            store_ip: self.store_ip.unwrap_or(before.store_ip),
        };
        for (name, bound) in [("oldest", after.oldest_s), ("newest", after.newest_s)] {
            if bound.is_some_and(|bound| !(1..=BOUND_S_MAX).contains(&bound)) {
                let message = format!("{name} must be from 1 to {BOUND_S_MAX} seconds, or none");
                return Err(StoreError::Invalid(message));
            }
        }
        Ok(after)
    }
}

/// A use of a key, to be recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyUse {
    pub key_id: i64,
    pub at: OffsetDateTime,
}

/// The part of a key's row that decides whether it can be rotated.
#[derive(Clone, Copy, Debug)]
pub(super) struct OldKey {
    pub(super) is_revoked: bool,
    pub(super) expires_at: Option<OffsetDateTime>,
    pub(super) is_expired: bool,
}

impl OldKey {
    /// A key can be rotated only once: a second rotation would leave three keys, and it would be unknown
    /// which of them are in use.
    ///
    /// # Errors
    /// Why this key cannot be rotated, and what to do instead.
    pub(super) fn check_rotation(self, key_id: i64) -> Result<(), StoreError> {
        let create = "create a new one with `millrace key create`";
        let complaint = match self.expires_at {
            _ if self.is_revoked => format!("key {key_id} is revoked; {create}"),
            Some(_) if self.is_expired => format!("key {key_id} has expired; {create}"),
            Some(at) => format!(
                "key {key_id} was rotated already and expires at {}; rotate the key that replaced it, or end this one now \
                 with `millrace key revoke {key_id}`",
                at.replace_nanosecond(0).ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
            ),
            None => return Ok(()),
        };
        Err(StoreError::Conflict(complaint))
    }
}

pub(super) fn no_such_key(key_id: i64) -> StoreError {
    StoreError::Missing(format!("there is no key with number {key_id}; `millrace key list` shows all"))
}

/// The limits of a plan that are to change. `None` leaves a limit of an existing plan as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PlanChange {
    /// Required for a new plan.
    pub requests_per_minute: Option<u32>,
    /// Default of a new plan: its requests per minute.
    pub burst: Option<u32>,
    /// `Some(None)` is unlimited. Default of a new plan: unlimited.
    pub events_per_month: Option<Option<u64>>,
    /// Default of a new plan: [`EVENTS_PER_BATCH_MAX`].
    pub events_per_batch: Option<u32>,
}

/// The result of a [`PlanChange`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlanUpdate {
    /// `None` for a new plan.
    pub before: Option<Plan>,
    pub after: Plan,
}

impl PlanChange {
    /// Applies the change to a plan, or makes a new plan.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a limit out of bounds, or for a new plan without requests per minute.
    pub fn apply(&self, name: &str, before: Option<Plan>) -> Result<Plan, StoreError> {
        let plan = match before {
            Some(before) => Plan {
                requests_per_minute: self.requests_per_minute.unwrap_or(before.requests_per_minute),
                burst: self.burst.unwrap_or(before.burst),
                events_per_month: self.events_per_month.unwrap_or(before.events_per_month),
                events_per_batch: self.events_per_batch.unwrap_or(before.events_per_batch),
                ..before
            },
            None => self.make(name)?,
        };
        let within = |what: &str, value: u64, max: u64| {
            let complaint = || StoreError::Invalid(format!("{what} must be from 1 to {max}, not {value}"));
            if (1..=max).contains(&value) { Ok(()) } else { Err(complaint()) }
        };
        within("requests per minute", plan.requests_per_minute.into(), REQUESTS_MAX.into())?;
        within("burst", plan.burst.into(), REQUESTS_MAX.into())?;
        within("events per month", plan.events_per_month.unwrap_or(1), EVENTS_PER_MONTH_MAX)?;
        within("events per batch", plan.events_per_batch.into(), EVENTS_PER_BATCH_MAX.into())?;
        Ok(plan)
    }

    fn make(&self, name: &str) -> Result<Plan, StoreError> {
        let chars = name.chars().count();
        if chars == 0 || chars > PLAN_NAME_CHARS_MAX || name.chars().any(char::is_control) {
            let message = format!("a plan's name has 1 to {PLAN_NAME_CHARS_MAX} visible characters");
            return Err(StoreError::Invalid(message));
        }
        let requests_per_minute = self.requests_per_minute.ok_or_else(|| {
            StoreError::Invalid(format!(
                "there is no plan named {name:?}; to create it, add --requests-per-minute"
            ))
        })?;
        Ok(Plan {
            name: name.to_owned(),
            requests_per_minute,
            burst: self.burst.unwrap_or(requests_per_minute),
            events_per_month: self.events_per_month.flatten(),
            events_per_batch: self.events_per_batch.unwrap_or(EVENTS_PER_BATCH_MAX),
        })
    }
}

/// The usage of one project over a period.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProjectUsage {
    pub project: ProjectId,
    pub name: String,
    /// Its `start` is the start of the period.
    pub usage: UsageRow,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_plan_needs_only_its_requests_per_minute() {
        let rate = PlanChange { requests_per_minute: Some(50), ..PlanChange::default() };
        let made = rate.apply("hobby", None).unwrap();
        let facts = (made.requests_per_minute, made.burst, made.events_per_month, made.events_per_batch);
        assert_eq!((made.name.as_str(), facts), ("hobby", (50, 50, None, 1_000)));
        let refused = PlanChange::default().apply("hobby", None).unwrap_err();
        assert!(refused.to_string().contains("--requests-per-minute"), "{refused}");
    }

    #[test]
    fn a_change_of_a_policy_leaves_the_rest_and_refuses_a_bound_out_of_range() {
        let before = ProjectPolicy { oldest_s: Some(60), ..ProjectPolicy::default() };
        let change = PolicyChange { newest_s: Some(Some(1)), ..PolicyChange::default() };
        assert_eq!(change.apply(before).unwrap(), ProjectPolicy { newest_s: Some(1), ..before });
        let none = PolicyChange { oldest_s: Some(None), ..PolicyChange::default() };
        assert_eq!(none.apply(before).unwrap(), ProjectPolicy::default());
        for bound in [0, BOUND_S_MAX + 1] {
            let wide = PolicyChange { oldest_s: Some(Some(bound)), ..PolicyChange::default() };
            assert!(wide.apply(before).unwrap_err().to_string().contains("oldest must be from 1 to"));
        }
    }

    #[test]
    fn a_limit_out_of_bounds_is_refused_by_its_name() {
        let rate = PlanChange { requests_per_minute: Some(1), ..PlanChange::default() };
        for (change, names) in [
            (PlanChange { requests_per_minute: Some(0), ..rate }, "requests per minute"),
            (PlanChange { burst: Some(REQUESTS_MAX + 1), ..rate }, "burst"),
            (PlanChange { events_per_month: Some(Some(0)), ..rate }, "events per month"),
            (PlanChange { events_per_batch: Some(1_001), ..rate }, "events per batch"),
        ] {
            let refused = change.apply("hobby", None).unwrap_err();
            assert!(refused.to_string().contains(names), "{refused}");
        }
    }
}
