//! What operators see and change: projects, keys, plans, and the usage of everybody. Pure; nothing here holds a key's text
//! but for [`NewKey`], which is shown once.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::error::StoreError;
use crate::totals::UsageRow;
use millrace_event::plan::{EVENTS_PER_BATCH_MAX, EVENTS_PER_MONTH_MAX, Plan, ProjectId, REQUESTS_MAX};

/// Longest name of a plan, in characters.
const PLAN_NAME_CHARS_MAX: usize = 100;

/// A project, as operators see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProjectInfo {
    /// Its number.
    pub project: ProjectId,
    /// Its name.
    pub name: String,
    /// The name of its plan.
    pub plan: String,
    /// Keys that open it now: neither revoked nor expired.
    pub live_keys: u64,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When any of its keys was last used.
    pub last_used_at: Option<OffsetDateTime>,
}

/// A key, as operators see it: never its text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyInfo {
    /// Its number.
    pub key_id: i64,
    /// The name of the project it opens.
    pub project: String,
    /// Whether requests must be signed.
    pub signed: bool,
    /// When it was created.
    pub created_at: OffsetDateTime,
    /// When it was last used.
    pub last_used_at: Option<OffsetDateTime>,
    /// From when on it is refused, if it was rotated.
    pub expires_at: Option<OffsetDateTime>,
    /// When it was revoked.
    pub revoked_at: Option<OffsetDateTime>,
}

/// A newly created key. The only moment its text exists.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct NewKey {
    /// Its number, to revoke it by.
    pub key_id: i64,
    /// The key itself.
    pub key: String,
    /// The signing secret, as Standard Webhooks writes it (`whsec_…`), when the key demands signatures.
    pub signing_secret: Option<String>,
}

/// What a rotation has done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRotation {
    /// The name of the project that both keys open.
    pub project: String,
    /// The new key.
    pub new: NewKey,
    /// From when on the old one is refused.
    pub old_expires_at: OffsetDateTime,
}

/// What stands in the way of a rotation is decided by this part of the old key's row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rotatable {
    pub(super) is_revoked: bool,
    pub(super) expires_at: Option<OffsetDateTime>,
    pub(super) is_expired: bool,
}

impl Rotatable {
    /// A key is rotated once: a second rotation would leave three keys of which nobody knows which is used.
    ///
    /// # Errors
    /// Why this key cannot be rotated, and what to do instead.
    pub(super) fn check(self, key_id: i64) -> Result<(), StoreError> {
        let create = "make a new one with `millrace key create`";
        let complaint = match self.expires_at {
            _ if self.is_revoked => format!("key {key_id} is revoked; {create}"),
            Some(_) if self.is_expired => format!("key {key_id} has expired; {create}"),
            Some(at) => format!(
                "key {key_id} was rotated already and is refused from {} on; rotate the key that replaced it, or end \
                 this one now with `millrace key revoke {key_id}`",
                at.replace_nanosecond(0).ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default()
            ),
            None => return Ok(()),
        };
        Err(StoreError::Invalid(complaint))
    }
}

pub(super) fn no_such_key(key_id: i64) -> StoreError {
    StoreError::Invalid(format!("there is no key with number {key_id}; `millrace key list` shows all"))
}

/// The parts of a plan that are to change; the others stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PlanChange {
    /// See [`Plan::requests_per_minute`]. A new plan needs it.
    pub requests_per_minute: Option<u32>,
    /// See [`Plan::burst`]. Of a new plan: a minute's worth of requests.
    pub burst: Option<u32>,
    /// See [`Plan::events_per_month`]; `Some(None)` makes it unlimited. Of a new plan: unlimited.
    pub events_per_month: Option<Option<u64>>,
    /// See [`Plan::events_per_batch`]. Of a new plan: [`EVENTS_PER_BATCH_MAX`].
    pub events_per_batch: Option<u32>,
}

impl PlanChange {
    /// The plan as it becomes, from what it was.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when there is no such plan and no rate to make one with, or for a value out of bounds.
    pub fn apply(&self, name: &str, old: Option<Plan>) -> Result<Plan, StoreError> {
        let plan = match old {
            Some(old) => Plan {
                requests_per_minute: self.requests_per_minute.unwrap_or(old.requests_per_minute),
                burst: self.burst.unwrap_or(old.burst),
                events_per_month: self.events_per_month.unwrap_or(old.events_per_month),
                events_per_batch: self.events_per_batch.unwrap_or(old.events_per_batch),
                ..old
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
                "there is no plan named {name:?}; to make it, say --requests-per-minute"
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

/// What one project has used over a period.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProjectUsage {
    /// The project.
    pub project: ProjectId,
    /// Its name.
    pub name: String,
    /// The sums; it starts where the period does.
    pub usage: UsageRow,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_plan_needs_a_rate_and_takes_the_rest_by_itself() {
        let rate = PlanChange { requests_per_minute: Some(50), ..PlanChange::default() };
        let made = rate.apply("hobby", None).unwrap();
        let facts = (made.requests_per_minute, made.burst, made.events_per_month, made.events_per_batch);
        assert_eq!((made.name.as_str(), facts), ("hobby", (50, 50, None, 1_000)));
        let refused = PlanChange::default().apply("hobby", None).unwrap_err();
        assert!(refused.to_string().contains("--requests-per-minute"), "{refused}");
    }

    #[test]
    fn a_plan_out_of_bounds_is_refused_by_name() {
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
