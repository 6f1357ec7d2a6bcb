//! The threads that serve connections. Each has a runtime of its own, and a connection stays on the thread
//! that it was given to: its requests wake no other thread, and what they use is in the caches of one core.
//!
//! One task accepts for all threads, and gives each connection to the thread that has the fewest. A listener
//! for each thread (`SO_REUSEPORT`) would spread connections by a hash: four of them may all meet on one
//! thread, another process of the same user could take a share of them, and macOS spreads none.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;

/// The threads of one server, each with a state of type `S`. They end when this is dropped.
pub struct Cores<S>(Vec<Core<S>>);

struct Core<S> {
    runtime: Handle,
    state: Arc<S>,
    connections: Arc<AtomicUsize>,
    /// Ends the thread when dropped.
    _stop: oneshot::Sender<()>,
}

/// A connection of a thread. It is no longer counted when this is dropped.
struct Place(Arc<AtomicUsize>);

impl<S: Send + Sync + 'static> Cores<S> {
    /// Starts this many threads, and at least one.
    ///
    /// # Errors
    /// When the system has no more threads or file descriptors.
    pub fn start(threads: usize, state: impl Fn() -> S) -> io::Result<Self> {
        (0..threads.max(1)).map(|_| Core::start(state())).collect::<io::Result<_>>().map(Self)
    }

    /// Serves a connection on the thread that has the fewest.
    pub fn serve<F: Future<Output = ()> + Send + 'static>(
        &self,
        serve: impl FnOnce(Arc<S>) -> F + Send + 'static,
    ) {
        let fewest = self.0.iter().min_by_key(|core| core.connections.load(Ordering::Relaxed));
        let Core { runtime, state, connections, .. } = fewest.expect("there is at least one thread");
        connections.fetch_add(1, Ordering::Relaxed);
        let (state, place) = (Arc::clone(state), Place(Arc::clone(connections)));
        runtime.spawn(async move {
            // A panic drops it, too.
            let _place = place;
            serve(state).await;
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<S> Core<S> {
    fn start(state: S) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new().name("serve".to_owned()).spawn(move || {
            // Dropping the sender ends the thread, so the error is expected.
            runtime.block_on(stopped).ok();
            // No client waits any more for work on a body that runs on a thread that may block.
            runtime.shutdown_background();
        })?;
        Ok(Self { runtime: handle, state: Arc::new(state), connections: Arc::default(), _stop: stop })
    }
}

#[cfg(test)]
mod tests {
    use std::thread::ThreadId;

    use tokio::sync::mpsc;

    use super::*;

    /// A connection that is served until this is dropped.
    struct Client {
        thread: ThreadId,
        _leave: oneshot::Sender<()>,
    }

    async fn connect(cores: &Cores<()>) -> Client {
        let (leave, left) = oneshot::channel();
        let (served, mut serving) = mpsc::channel(1);
        cores.serve(|_| async move {
            served.send(thread::current().id()).await.unwrap();
            left.await.unwrap_err();
        });
        Client { thread: serving.recv().await.unwrap(), _leave: leave }
    }

    fn count(clients: &[Client], thread: ThreadId) -> usize {
        clients.iter().filter(|client| client.thread == thread).count()
    }

    #[tokio::test]
    async fn connections_are_spread_evenly_over_the_threads() {
        let cores = Cores::start(3, || ()).unwrap();
        let mut clients = Vec::new();
        for _ in 0..9 {
            clients.push(connect(&cores).await);
        }
        assert!(clients.iter().all(|client| count(&clients, client.thread) == 3));
    }

    #[tokio::test]
    async fn a_connection_that_ends_makes_room_on_its_thread() {
        let cores = Cores::start(2, || ()).unwrap();
        let [first, second] = [connect(&cores).await, connect(&cores).await];
        assert_ne!(first.thread, second.thread);
        let (thread, connections) = (first.thread, cores.0.iter().map(|core| Arc::clone(&core.connections)));
        let connections: Vec<_> = connections.collect();
        drop(first);
        while connections.iter().all(|connections| connections.load(Ordering::Relaxed) == 1) {
            tokio::task::yield_now().await;
        }
        assert_eq!(connect(&cores).await.thread, thread);
    }

    #[tokio::test]
    async fn a_connection_that_panics_makes_room_too() {
        let cores = Cores::start(1, || ()).unwrap();
        cores.serve(|_| async { panic!("as a defect does") });
        while cores.0[0].connections.load(Ordering::Relaxed) > 0 {
            tokio::task::yield_now().await;
        }
        connect(&cores).await;
    }

    #[tokio::test]
    async fn the_threads_end_with_their_connections_when_they_are_dropped() {
        let cores = Cores::start(2, || ()).unwrap();
        let (held, mut ended) = mpsc::channel::<()>(1);
        for _ in 0..4 {
            let held = held.clone();
            cores.serve(|_| async move {
                let _held = held;
                std::future::pending().await
            });
        }
        drop((held, cores));
        assert_eq!(ended.recv().await, None);
    }
}
