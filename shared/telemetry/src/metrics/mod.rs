//! Metrics: how they are declared, recorded and served.
//!
//! Each crate declares its metrics in one table with [`crate::metrics_table`]. A row of the table is the only
//! place where a metric is defined: it is the static that records the metric, [`install`] merges the tables
//! of a program's crates, and `docs/metrics.md` is generated from the tables.
//!
//! A label value must never come from a client, so a project or an event name is never a label. Counters are
//! visible at 0 from the first scrape. Each guarantee has a sentinel: a counter of violations, next to a
//! counter of checks.

mod counter;
mod descriptor;
mod family;
mod install;
mod process;
mod sampled;
mod table;

pub use metrics::{Gauge, Histogram};

pub use self::counter::Counter;
pub use self::descriptor::{Descriptor, Installation, Kind, Label, Program, Values};
pub use self::family::{Family, Handle, Metric};
pub use self::install::install;
pub use self::process::{METRICS, PoolUse, sample, watch_folder};
pub use self::sampled::at_scrape;
pub use self::table::{AGE_S, LATENCY_S, SIZES, Table};
