//! Thresholds: their definitions, how a transaction finds out whether one is reached, and the notifications.

mod definitions;
mod deliveries;
mod figures;
mod limits;
mod log;
mod period;
mod quotas;

pub(super) use definitions::{delete, delete_of_meter, rotate, set, thresholds};
pub(super) use deliveries::{claim, finish, forget, retry};
pub(super) use figures::compare as compare_figures;
pub(super) use limits::{compare as compare_limits, watched as watched_limits};
pub(super) use log::{backlog, notifications};
pub(super) use quotas::{compare as compare_quotas, watched};
