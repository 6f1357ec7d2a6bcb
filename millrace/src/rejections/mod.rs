//! `millrace rejections`: what was refused, by project and reason, and the last samples.
//!
//! Samples come from clients. They must never reach a terminal unescaped.

mod command;
mod report;

pub(crate) use self::command::{EXAMPLES, RejectionsArgs, run};
