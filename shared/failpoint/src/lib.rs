//! Named points at which a fault drill can kill or stop a process.
//!
//! The code calls [`reach`] at each [`Point`]. In an ordinary build these calls do nothing. In a build with
//! the feature `failpoints`, the environment variable `FAILPOINTS` arms points in the syntax of the crate
//! `fail`: `FAILPOINTS="store::after_commit=2*off->1*return(kill)"` kills the process when it reaches the
//! point for the third time. `return` takes `kill` (SIGKILL), `stop` (SIGSTOP) or `term` (SIGTERM). The
//! signal goes to the process itself and is logged first. The actions `sleep(ms)` and `pause` of the crate
//! `fail` block the thread and are not logged.
//!
//! This crate must never change what an ordinary build does, nor the order in which it does it.

#[cfg(feature = "failpoints")]
mod armed;
#[cfg(not(feature = "failpoints"))]
mod disarmed;
mod point;
mod setting;

#[cfg(feature = "failpoints")]
pub use armed::{arm, reach, reach_after, reach_once_sent};
#[cfg(not(feature = "failpoints"))]
pub use disarmed::{arm, reach, reach_after, reach_once_sent};
pub use point::Point;
pub use setting::UnknownSetting;
