//! Drills: real processes, real faults, and an oracle that knows what must be true afterwards.
//!
//! - [`System`] is a whole Millrace: Redis, PostgreSQL, API processes and workers, with a proxy on every wire that a
//!   drill wants to cut.
//! - [`Standalone`] is the other kind: `millrace` alone, on two files.
//! - [`matrix`] is the table of the drills: what is broken, when, and what must happen. [`drills`] holds them.
//! - [`Verdict`] is what a drill found: broken invariants, and whether it has shown anything at all.
//! - [`report`] writes the table of what was seen.
//!
//! What this room must never do: pass a drill in which nothing went wrong, or look away from one that cannot be held
//! on this machine. What is skipped says so.

pub mod drills;
mod ending;
pub mod matrix;
mod metric;
pub mod mutants;
pub mod nemesis;
mod node;
mod operator;
pub mod report;
pub mod runner;
mod standalone;
mod system;
mod verdict;

pub use node::Node;
pub use standalone::Standalone;
pub use system::{Drill, Layout, System};
pub use verdict::{Need, Sight, Verdict};
