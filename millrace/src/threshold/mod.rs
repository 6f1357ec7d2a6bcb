//! `millrace threshold`: manages thresholds, the values that cause a notification.

mod command;
mod set;
mod show;

pub(crate) use self::command::{ThresholdCommand, run};
