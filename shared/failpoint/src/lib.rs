//! Named points at which a process can be made to die or to fall silent, for drills.
//!
//! What stands at a point in the code is [`reach`], which is nothing at all unless the program was built with the
//! feature `failpoints`. In such a build the environment variable `FAILPOINTS` arms points in the syntax of the crate
//! `fail`: `FAILPOINTS="store::after_commit=2*off->1*return(kill)"` kills the process when it gets there the third time.
//! `return` takes `kill` (SIGKILL), `stop` (SIGSTOP) or `term` (SIGTERM), each to the process itself and told in the log
//! before; `sleep(ms)` and `pause` are the library's, and block the thread without a word.
//!
//! This room must never change what an ordinary build does, nor the order in which it does it.

mod setting;

#[cfg(feature = "failpoints")]
mod armed;
mod point;

#[cfg(feature = "failpoints")]
pub use armed::{arm, reach, reach_after, reach_once_sent};

pub use point::Point;
pub use setting::UnknownSetting;

/// Arms the points that the environment names: none, in this build.
///
/// # Errors
/// Never, in this build.
#[cfg(not(feature = "failpoints"))]
pub const fn arm() -> Result<(), UnknownSetting> {
    Ok(())
}

/// Acts when the point is armed.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub const fn reach(_: Point) {}

/// Acts when the point is armed, after our connections, which are tasks of their own, had time to send what they were given.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub async fn reach_once_sent(_: Point) {}

/// Returns `work` as it is, so that it can be pipelined with what comes behind it. Only where this point is armed, `work`
/// is brought to its end here, and the point is reached before anything else is sent.
#[cfg(not(feature = "failpoints"))]
#[inline(always)]
pub async fn reach_after<T, E, F: Future<Output = Result<T, E>>>(_: Point, work: F) -> F {
    work
}
