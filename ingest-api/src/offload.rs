//! Decides where work on a body runs. Work on a small body runs in the task of its request, because handing
//! it over would take longer. Work on a large body runs on a thread that may block, so that it delays no
//! other connection of its thread.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Work on at most this many bytes runs in the task of its request. It takes about half a millisecond, during
/// which all other requests of the thread wait. Handing work over costs some ten microseconds.
pub const INLINE_BYTES_MAX: usize = 128 << 10;

/// Bounds the threads that work on large bodies.
#[derive(Debug)]
pub struct Offload {
    slots: Arc<Semaphore>,
}

impl Offload {
    /// Allows one large piece of work at a time for each core. More would compete for memory and time.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { slots: Arc::new(Semaphore::new(cores)) }
    }

    /// Runs work on this many bytes: in this task, or on another thread if there are more than
    /// [`INLINE_BYTES_MAX`].
    ///
    /// # Panics
    /// When the work panics.
    pub async fn run<T: Send + 'static>(&self, bytes: usize, work: impl FnOnce() -> T + Send + 'static) -> T {
        if bytes <= INLINE_BYTES_MAX { work() } else { self.run_on_thread(work).await }
    }

    /// Runs work on another thread, after waiting for a free core.
    ///
    /// # Panics
    /// When the work panics.
    pub async fn run_on_thread<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let slot = Arc::clone(&self.slots).acquire_owned().await.expect("the semaphore is never closed");
        let working = tokio::task::spawn_blocking(move || {
            // The work continues when its client leaves, and keeps its slot until it is done.
            let _slot = slot;
            work()
        });
        match working.await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Default for Offload {
    fn default() -> Self {
        Self::new()
    }
}
