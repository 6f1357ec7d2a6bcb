//! How commands show a threshold.

use millrace_event::printable::printable;
use millrace_store::{ThresholdInfo, ThresholdRule};

use crate::moment::shown;
use crate::output::grouped_decimal;

pub(super) fn text(info: &ThresholdInfo) -> String {
    let definition = &info.definition;
    format!(
        "Threshold {} of project {}, created {}\n  reached at  {}\n  url         {}\n",
        definition.name,
        info.project_name,
        shown(info.created_at),
        condition(&definition.rule),
        definition.url,
    )
}

/// Such as `80% of the quota`.
pub(super) fn condition(rule: &ThresholdRule) -> String {
    match rule {
        ThresholdRule::Quota { percent } => format!("{percent}% of the quota"),
        ThresholdRule::Limit { percent, slug, subject, period } => {
            let of = subject.as_ref().map_or("each subject".to_owned(), |subject| printable(subject));
            format!("{percent}% of the limit of {slug} of {of} in one {period}")
        }
        ThresholdRule::Meter { slug, subject, period, value } => {
            let of = subject.as_ref().map_or("each subject".to_owned(), |subject| printable(subject));
            format!("{} {slug} of {of} in one {period}", grouped_decimal(&value.to_string()))
        }
    }
}
