//! The oracle: it posts distinguishable events, records the responses, and derives from the responses alone
//! what the store must contain.
//!
//! - An [`EventSource`] generates the events. [`Clients`], or a drill with a [`Post`], send them. A
//!   [`History`] records the responses.
//! - [`judge`] compares the history with the store and the stream when no work is left: invariants I1 to I15.
//! - An [`Evidence`] reads the contents of store and stream, from [`Servers`] or from [`Files`].
//! - A [`Watch`] reads the metered usage during the faults, which must never decrease.
//!
//! The oracle must never use the product's own code to decide what is right. It reads tables and keys itself,
//! and has its own computation of identities, sums and rates.

mod calls;
mod cancel;
mod cancel_log;
mod client;
mod customers;
mod events;
mod evidence;
mod findings;
mod history;
mod judge;
mod limits;
mod post;
mod probe;
mod project;
mod rates;
mod rows;
mod totals;
mod watch;

pub use calls::BrokenCall;
pub use cancel::Cancellers;
pub use cancel_log::CancelLog;
pub use client::{Clients, Load, Targets};
pub use events::{Event, EventKind, EventSource, Version};
pub use evidence::{Evidence, Files, Servers};
pub use findings::{Findings, Invariant, Violation};
pub use history::{EventOutcome, History, Tally};
pub use judge::{JudgeInput, QUIET_DEADLINE, judge};
pub use limits::PlanLimits;
pub use post::{Decision, Post};
pub use probe::{fill, probe};
pub use project::Project;
pub use watch::{Meters, Watch};
