//! `millrace usage`: stored and billed events, or the figures of a meter, as a table, a chart, or JSON.

mod arguments;
mod chart;
mod meter;
mod meter_period;
mod period;
mod report;
mod window;

pub(crate) use self::arguments::{EXAMPLES, UsageArgs};
pub(crate) use self::period::Period;
pub(crate) use self::report::run;
pub(crate) use self::window::Window;
