//! `millrace usage`: stored and billed events, as a table, a chart, or JSON.

mod chart;
mod period;
mod report;
mod window;

pub(crate) use self::period::Period;
pub(crate) use self::report::{EXAMPLES, UsageArgs, run};
pub(crate) use self::window::Window;
