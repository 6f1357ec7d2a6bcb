//! The functions of an ordinary build. They do nothing, and the compiler removes every call.

use crate::point::Point;
use crate::setting::UnknownSetting;

/// Arms no points.
///
/// # Errors
/// Never.
pub const fn arm() -> Result<(), UnknownSetting> {
    Ok(())
}

/// Does nothing.
#[inline(always)]
pub const fn reach(_: Point) {}

/// Does nothing.
#[inline(always)]
pub async fn reach_once_sent(_: Point) {}

/// Returns `work` without awaiting it, so that it can be pipelined with the statements that follow.
#[inline(always)]
pub async fn reach_after<T, E, F: Future<Output = Result<T, E>>>(_: Point, work: F) -> F {
    work
}

/// Fails to compile if a point has a cost at run time.
const _: () = reach(Point::AfterAuth);
