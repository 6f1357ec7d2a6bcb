//! The oracle: it posts events that can be told apart, writes down what was answered, and knows from the answers alone
//! what the store must hold.
//!
//! - [`EventSource`] makes the events, [`Clients`] post them, or a drill does with a [`Post`]; a [`History`] keeps what was
//!   answered.
//! - [`judge`] compares a history with the store and the stream when all is quiet again: invariants I1 to I12.
//! - An [`Evidence`] is what store and stream hold: on [`Servers`] or in [`Files`].
//! - [`Watch`] looks at the counters all the while: what was metered is never taken back.
//!
//! What this room must never do: use the product's own code to decide what is right. It reads tables and keys by
//! itself, and computes identities, sums and rates anew.

mod books;
mod client;
mod events;
mod evidence;
mod history;
mod judge;
mod post;
mod probe;
mod rates;
mod rows;
mod watch;

pub use books::PlanLimits;
pub use client::{Clients, Load, Project, Targets};
pub use events::{Event, EventKind, EventSource};
pub use evidence::{Evidence, Files, Servers};
pub use history::{EventOutcome, History, Tally};
pub use judge::{Findings, Invariant, JudgeInput, QUIET_DEADLINE, Violation, judge};
pub use post::{Decision, Post};
pub use probe::{fill, probe};
pub use watch::{Meters, Watch};
