//! For tests and benchmarks only: real servers and real processes on free ports, which end when they are
//! dropped.
//!
//! - [`Redis`] and [`Postgres`] are real servers in temporary folders. They can be killed, paused and
//!   restarted; a `Postgres` can have standbys.
//! - A [`RedisCluster`] is a cluster of them, and [`Sentinels`] are a primary with replicas that can take
//!   over from it.
//! - An [`Authority`] signs certificates for them, and a [`PgBouncer`] is a pooler in front of PostgreSQL.
//! - A [`Deployment`] is both of them with the tables of Millrace and the programs that a test starts.
//! - [`Program`] is one of Millrace's programs as a process. [`drill_build`] builds the programs with
//!   failpoints and mutants.
//! - [`chaos::ChaosProxy`] is a bad network between any two of them.
//! - [`Shim`] controls the disk and the clock of a process; [`Tmpfs`] is a disk that can run full.
//! - [`Prometheus`] is a real Prometheus. [`grafana`] reads the dashboards and builds the query of each
//!   panel.
//! - [`http`] sends well-formed and malformed requests, an [`Upload`] can stop in the middle of one, and an
//!   [`HttpProxy`] applies faults to chosen requests.
//! - [`oracle`] posts distinguishable events and computes what the store must contain afterwards.
//! - [`eventually`] waits for a condition.
//!
//! Everything here panics with a message that says what to do, because a test cannot handle the error. This
//! crate must never imitate a server and never leave one running: every process ends with the test process,
//! even when that is killed.

mod authority;
pub mod chaos;
mod cluster;
mod cluster_bus;
mod daemon;
mod database;
mod deployment;
mod drills;
mod eventually;
mod folder;
pub mod grafana;
pub mod http;
mod mount_point;
pub mod oracle;
mod pgbouncer;
mod pieces;
mod postgres;
mod process;
mod process_tree;
mod program;
mod program_log;
mod prometheus;
mod proxy;
mod readiness;
mod redis;
mod redis_cluster;
mod sentinels;
mod shim;
mod standby;
mod tmpfs;
mod upload;
mod versions;

pub use authority::{Authority, Certificate};
pub use daemon::{ServerOptions, free_port};
pub use database::Database;
pub use deployment::{Deployment, StreamServers};
pub use drills::{build_for_drills, drill_build, target_folder};
pub use eventually::{Condition, eventually};
pub use pgbouncer::PgBouncer;
pub use postgres::Postgres;
pub use program::{Launch, Program, ProgramOutput, ResourceLimits};
pub use prometheus::{Prometheus, QueryTime, Sample, Series};
pub use proxy::{HttpProxy, HttpProxyCounts, RequestFault};
pub use readiness::wait_until_ready;
pub use redis::{DataCopy, Redis};
pub use redis_cluster::RedisCluster;
pub use sentinels::Sentinels;
pub use shim::{DiskError, Shim};
pub use tmpfs::{MountError, Tmpfs};
pub use upload::Upload;
