//! The moments at which a load begins, is measured, and ends.

use std::time::Instant;

#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// When the first request is due.
    pub begin: Instant,
    /// When the warm-up ends and the measured window begins.
    pub measured_from: Instant,
    /// When the window ends. No request is due after it.
    pub end: Instant,
}
