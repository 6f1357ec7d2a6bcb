//! Fault drills: real processes, real faults, and an oracle that checks what must be true afterwards.
//!
//! - [`System`] is a whole Millrace: Redis, PostgreSQL, API processes and workers, with a proxy on every
//!   connection that a drill wants to break.
//! - [`Standalone`] is `millrace` alone on two files.
//! - [`matrix`] is the table of drills.
//! - [`Verdict`] is the result of a drill: violated invariants, and whether the fault had the effects that
//!   the drill needs.
//! - [`mutants`] are programs with a deliberate bug that a drill must find.
//! - [`report`] writes the tables of `docs/faults.md`.
//!
//! This crate must never pass a drill in which nothing went wrong, or report one as passed that cannot run on
//! this machine.

mod drill;
mod drills;
mod ending;
pub mod matrix;
mod metric;
pub mod mutants;
pub mod nemesis;
mod node;
mod operator;
pub mod report;
pub mod row;
pub mod runner;
mod standalone;
mod system;
mod verdict;

pub use drill::Drill;
pub use node::{MUTANT_PROGRAM, Node};
pub use standalone::Standalone;
pub(crate) use system::MASTERS;
pub use system::{Layout, RedisLayout, RedisServers, System};
pub use verdict::{Effect, Need, Verdict};
