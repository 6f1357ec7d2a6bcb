//! Values that are read before each scrape instead of being recorded when they change.

use std::sync::{Mutex, PoisonError};

/// Reads values and records them. Returns false when it must not be called again.
type Sampler = Box<dyn Fn() -> bool + Send>;

/// Global like the recorder: a process has one, and the code that registers samplers has no access to the
/// listener that serves scrapes.
static SAMPLERS: Mutex<Vec<Sampler>> = Mutex::new(Vec::new());

/// Calls `read` before each scrape until it returns false. It runs on a thread of the runtime and must not
/// block.
pub fn at_scrape(read: impl Fn() -> bool + Send + 'static) {
    SAMPLERS.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(read));
}

/// Calls all samplers that [`at_scrape`] registered.
pub(super) fn read_samples() {
    SAMPLERS.lock().unwrap_or_else(PoisonError::into_inner).retain(|read| read());
}
