//! The result of an admission, as the label of a metric.

use millrace_stream::{Decision, StreamError};
use strum::{IntoStaticStr, VariantNames};

/// The label `verdict` of `millrace_admissions_total`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub enum Verdict {
    Admitted,
    Repeated,
    Conflict,
    BacklogFull,
    RateLimited,
    QuotaExceeded,
    LimitExceeded,
    EpochChanged,
    StreamFull,
    Unavailable,
    Unknown,
    Refused,
}

impl From<&Result<Decision, StreamError>> for Verdict {
    fn from(answer: &Result<Decision, StreamError>) -> Self {
        match answer {
            Ok(Decision::Admitted { .. }) => Self::Admitted,
            Ok(Decision::Repeated { .. }) => Self::Repeated,
            Ok(Decision::Conflict { .. }) => Self::Conflict,
            Ok(Decision::BacklogFull { .. }) => Self::BacklogFull,
            Ok(Decision::RateLimited { .. }) => Self::RateLimited,
            Ok(Decision::QuotaExceeded { .. }) => Self::QuotaExceeded,
            Ok(Decision::LimitExceeded { .. }) => Self::LimitExceeded,
            Ok(Decision::EpochChanged) | Err(StreamError::EpochChanged) => Self::EpochChanged,
            Err(StreamError::Full(_)) => Self::StreamFull,
            Err(StreamError::Unavailable(_) | StreamError::ReadOnly(_)) => Self::Unavailable,
            Err(StreamError::Unknown(_)) => Self::Unknown,
            Err(StreamError::Refused(_)) => Self::Refused,
        }
    }
}
