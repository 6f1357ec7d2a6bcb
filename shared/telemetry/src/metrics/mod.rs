//! What a metric is and how it is recorded.
//!
//! Each crate declares its own metrics in one table with [`crate::metrics_table`]: name, kind, labels with all their values, help.
//! That row is the only place a metric costs: the row is its static, `docs/metrics.md` is checked against the tables, and
//! [`install`] merges the tables of the crates that a program is made of.
//!
//! No label value ever comes from a client: a project or an event name is never a label. Counters are shown at 0 from the
//! first scrape on. Each promise has a sentinel: a counter of violations that stays 0, next to a counter of checks.

mod descriptor;
mod family;
mod install;
mod process;
mod sampled;
mod table;

pub use metrics::{Counter, Gauge, Histogram};

pub use self::descriptor::{Descriptor, Installation, Kind, Label, Program, Values};
pub use self::family::{Family, Handle, Registered};
pub use self::install::install;
pub use self::process::{METRICS, PoolUse, sample, watch_folder};
pub use self::sampled::at_scrape;
pub use self::table::{AGE_S, LATENCY_S, SIZES, Table};
