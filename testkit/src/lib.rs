//! For tests and benchmarks only: real servers and real processes, started on free ports and gone when dropped.
//!
//! - [`Redis`] and [`Postgres`] are the genuine servers, each in a temporary folder of its own, that can be killed,
//!   paused and restarted.
//! - [`Program`] is one of our own binaries as a process; [`drill_build`] makes those that can be made to die and to err.
//! - [`chaos::ChaosProxy`] is a bad network between any two of them.
//! - [`Shim`] gives such a process a disk and a clock that obey, [`Tmpfs`] a disk that runs full.
//! - [`Prometheus`] is the genuine one, too; [`grafana`] reads our dashboards and asks for each panel what Grafana would.
//! - [`http`] speaks to it, well or badly; an [`Upload`] may break off in the middle; an [`HttpProxy`] between it and a client spoils chosen requests.
//! - [`oracle`] posts events that can be told apart and knows what the store must hold afterwards.
//! - [`eventually`] waits for a fact instead of for a time.
//!
//! Everything here panics with a message that says what to do; a test has no better use for an error. What this
//! room must never do: imitate a server, or leave one running. Whatever is started dies with the test process, even
//! when that is killed.

pub mod chaos;
mod cluster;
mod drills;
mod eventually;
mod folder;
pub mod grafana;
pub mod http;
pub mod oracle;
mod postgres;
mod program;
mod prometheus;
mod proxy;
mod redis;
mod server;
mod shim;
mod tmpfs;
mod upload;

pub use drills::drill_build;
pub use eventually::{Fact, eventually};
pub use postgres::{Database, Postgres};
pub use program::{Launch, Program, ProgramOutput, ResourceLimits};
pub use prometheus::{Prometheus, QueryTime, Sample, Series};
pub use proxy::{HttpProxy, HttpProxyCounts, RequestFault};
pub use redis::Redis;
pub use server::ServerOptions;
pub use shim::{DiskError, Shim};
pub use tmpfs::{MountError, Tmpfs};
pub use upload::Upload;
