//! For tests and benchmarks only: real servers and real processes, started on free ports and gone when dropped.
//!
//! - [`Redis`] and [`Postgres`] are the genuine servers, each in a temporary folder of its own, that can be killed,
//!   paused and restarted.
//! - [`eventually`] waits for a fact instead of for a time.
//!
//! Everything here panics with a message that says what to do; a test has no better use for an error. What this
//! room must never do: imitate a server, or leave one running. Whatever is started dies with the test process, even
//! when that is killed.

mod cluster;
mod eventually;
mod folder;
mod postgres;
mod redis;
mod server;

pub use eventually::{Fact, eventually};
pub use postgres::{Database, Postgres};
pub use redis::Redis;
