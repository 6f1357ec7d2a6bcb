//! `millrace notifications`: the thresholds that were reached, and how the notifications were delivered.

mod command;
mod list;

pub(crate) use self::command::{EXAMPLES, NotificationsArgs, run};
