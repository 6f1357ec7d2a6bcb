//! Values that are read when a scrape asks for them, and not before.

use std::sync::{Mutex, PoisonError};

/// Reads its values again; returns false when there is nothing left to read.
type Sampler = Box<dyn Fn() -> bool + Send>;

/// Global for the same reason as the recorder: a process has one, and the parts that register samplers do not know the
/// listener that serves scrapes.
static SAMPLERS: Mutex<Vec<Sampler>> = Mutex::new(Vec::new());

/// Calls `read` before every scrape, until it returns false. It runs on the listener's thread and must not block.
pub fn at_scrape(read: impl Fn() -> bool + Send + 'static) {
    SAMPLERS.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(read));
}

/// Reads everything that was registered with [`at_scrape`].
pub(super) fn read_samples() {
    SAMPLERS.lock().unwrap_or_else(PoisonError::into_inner).retain(|read| read());
}
