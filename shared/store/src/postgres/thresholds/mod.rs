//! Thresholds: their definitions, the statements that find out whether one is reached, and the notifications.

mod definitions;
mod deliveries;
mod figures;
mod limits;
mod log;
mod quotas;
mod secrets;

pub(super) use definitions::{delete, delete_of_meter, set, thresholds};
pub(super) use deliveries::{claim, finish, forget, retry};
pub(super) use figures::{has_thresholds, move_and_compare};
pub(super) use limits::{compare as compare_limits, watched as watched_limits};
pub(super) use log::{backlog, notifications};
pub(super) use quotas::QuotaStatements;
pub(super) use secrets::rotate;
