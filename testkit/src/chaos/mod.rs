//! A bad network between two processes: between a client and the API, the API and Redis, a worker and Redis,
//! or a worker and PostgreSQL.
//!
//! [`Weather`] applies to every connection of a proxy: slow, byte by byte, silent, a black hole. A [`Trap`]
//! does one thing to one connection at one point of its protocol, for example when the reply to the 7th
//! `EVALSHA` has arrived or when COMMIT is about to be sent. The proxy must never change a byte, and never
//! deliver a byte after it has lost an earlier one.

mod command;
mod connection;
mod counts;
mod frames;
mod plan;
mod postgres;
mod proxy;
mod pump;
mod redis;
mod scan;
mod state;
mod trap;
mod weather;
mod wire;

pub use counts::ProxyCounts;
pub use proxy::ChaosProxy;
pub use trap::{Act, ArmedTrap, Call, Moment, Transaction, Trap};
pub use weather::Weather;
pub use wire::Wire;
