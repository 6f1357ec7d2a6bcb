//! Limits, thresholds and notifications as JSON: `/v1/admin` answers with these documents, and the commands
//! of `millrace` print them. Pure. This module must never show the secret of a webhook.

use millrace_event::limit::Amount;
use millrace_event::webhook::webhook_id;
use millrace_store::{LimitInfo, Notification, NotificationState, ThresholdInfo, ThresholdRule};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::parameters::shown;

/// A limit of a customer.
#[derive(Serialize)]
pub struct LimitDocument<'a> {
    project: &'a str,
    meter: &'a str,
    /// `null` for every customer that has no limit of its own.
    subject: Option<&'a str>,
    period: &'static str,
    limit: Box<RawValue>,
    changed_at: String,
}

impl<'a> LimitDocument<'a> {
    pub fn of(limit: &'a LimitInfo) -> Self {
        Self {
            project: &limit.project_name,
            meter: &limit.slug,
            subject: limit.subject.as_deref(),
            period: limit.period.into(),
            limit: amount(limit.amount),
            changed_at: shown(limit.changed_at),
        }
    }
}

/// A JSON number with all its digits.
pub fn amount(amount: Amount) -> Box<RawValue> {
    RawValue::from_string(amount.to_string()).expect("an amount is a number in plain notation")
}

/// A threshold: members that its kind does not have are absent.
pub fn threshold(info: &ThresholdInfo) -> Value {
    let definition = &info.definition;
    let mut document = json!({
        "project": info.project_name,
        "name": definition.name,
        "kind": definition.rule.kind(),
        "url": definition.url,
        "created_at": shown(info.created_at),
    });
    match &definition.rule {
        ThresholdRule::Quota { percent } => document["quota_percent"] = json!(percent),
        ThresholdRule::Limit { percent, slug, subject, period } => {
            document["meter"] = json!(slug);
            document["subject"] = json!(subject);
            document["period"] = json!(<&str>::from(period));
            document["limit_percent"] = json!(percent);
        }
        ThresholdRule::Meter { slug, subject, period, value } => {
            document["meter"] = json!(slug);
            document["subject"] = json!(subject);
            document["period"] = json!(<&str>::from(period));
            document["value"] = json!(value.to_string());
        }
    }
    document
}

/// A notification, and how far its delivery is.
pub fn notification(notification: &Notification) -> Value {
    let delivery = &notification.delivery;
    let is_pending = delivery.state == NotificationState::Pending;
    let percent_of = |kind: &str| notification.percent.filter(|_| notification.kind == kind);
    json!({
        "notification_id": notification.notification_id,
        "webhook_id": webhook_id(notification.webhook_id),
        "project": notification.project_name,
        "threshold": notification.threshold_name,
        "kind": notification.kind,
        "quota_percent": percent_of("quota"),
        "limit_percent": percent_of("limit"),
        "meter": notification.meter,
        "subject": notification.meter.as_ref().map(|_| &notification.subject),
        "period": <&str>::from(notification.period),
        "period_start": shown(notification.period_start),
        "period_end": shown(notification.period_end),
        "threshold_value": notification.threshold,
        "value": notification.value,
        "created_at": shown(notification.created_at),
        "state": <&str>::from(delivery.state),
        "attempts": delivery.attempts,
        "next_attempt_at": is_pending.then(|| shown(delivery.next_attempt_at)),
        "attempted_at": delivery.attempted_at.map(shown),
        "status": delivery.status,
        "error": delivery.error,
    })
}
