//! Sends the states of one sampler to all watchers. Each watcher receives the newest state when its
//! connection has room. A slow watcher misses states, so no state is queued. A watcher that reads nothing is
//! disconnected by the time limit of its socket.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use crate::answer::EventStream;
use crate::stage::{Stage, reached};

/// Clients that may watch.
pub const WATCHERS_MAX: usize = 32;
/// A watcher without a new state for this long receives a comment, so that it knows that the connection
/// works.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The first message: how long a browser should wait before it connects again, in milliseconds.
const GREETING: Bytes = Bytes::from_static(b"retry: 2000\n\n");
const HEARTBEAT: Bytes = Bytes::from_static(b": no news\n\n");

/// The newest state, and its watchers.
#[derive(Debug)]
pub struct Feed {
    slots: Arc<Semaphore>,
    /// As it is sent. `None` before the first sample.
    newest: watch::Sender<Option<Bytes>>,
    watched: Notify,
    silence_max: Duration,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            slots: Arc::new(Semaphore::new(WATCHERS_MAX)),
            newest: watch::Sender::new(None),
            watched: Notify::new(),
            silence_max: SILENCE_MAX,
        }
    }
}

struct Watcher {
    newest: watch::Receiver<Option<Bytes>>,
    stage: watch::Receiver<Stage>,
    silence_max: Duration,
    _slot: OwnedSemaphorePermit,
}

impl Feed {
    /// Adds a watcher, until it leaves or the server begins to stop. `None` when there are too many.
    pub fn watch(&self, stage: watch::Receiver<Stage>) -> Option<EventStream> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().ok()?;
        let mut newest = self.newest.subscribe();
        // The present state is new to this watcher.
        newest.mark_changed();
        self.watched.notify_one();
        let watcher = Watcher { newest, stage, silence_max: self.silence_max, _slot: slot };
        let states = stream::unfold(watcher, async |mut watcher| {
            let message = watcher.next().await?;
            Some((message, watcher))
        });
        let frames = stream::once(async { GREETING }).chain(states);
        let frames = frames.map(|message| Ok::<_, Infallible>(Frame::data(message)));
        Some(StreamBody::new(frames.boxed()))
    }

    /// Returns when there is a watcher.
    pub async fn watched(&self) {
        self.watched.notified().await;
    }

    /// Returns when the last watcher has left. The newest state is forgotten.
    pub async fn unwatched(&self) {
        self.newest.closed().await;
        self.newest.send_replace(None);
    }

    /// Sends a state to all watchers. It must be one line of JSON.
    pub fn send(&self, json: &str) {
        self.newest.send_replace(Some(format!("data: {json}\n\n").into()));
    }
}

impl Watcher {
    async fn next(&mut self) -> Option<Bytes> {
        tokio::select! {
            () = reached(self.stage.clone(), Stage::Draining) => None,
            state = timeout(self.silence_max, newest(&mut self.newest)) => state.unwrap_or(Some(HEARTBEAT)),
        }
    }
}

/// The next state. `None` when the feed has ended.
async fn newest(states: &mut watch::Receiver<Option<Bytes>>) -> Option<Bytes> {
    loop {
        states.changed().await.ok()?;
        if let Some(state) = states.borrow_and_update().clone() {
            return Some(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use http_body_util::BodyExt;

    use super::*;

    async fn next(feed: &mut EventStream) -> Option<Bytes> {
        Some(feed.frame().await?.unwrap().into_data().unwrap())
    }

    #[tokio::test]
    async fn the_feed_is_watched_from_the_first_watcher_to_the_last() {
        let (_stage, stages) = watch::channel(Stage::Serving);
        let feed = Feed::default();
        assert!(feed.watched().now_or_never().is_none());
        let (first, second) = (feed.watch(stages.clone()).unwrap(), feed.watch(stages).unwrap());
        feed.watched().await;
        drop(first);
        assert!(feed.unwatched().now_or_never().is_none());
        drop(second);
        feed.unwatched().await;
    }

    #[tokio::test]
    async fn a_slow_watcher_misses_states_and_receives_the_newest() {
        let (_stage, stages) = watch::channel(Stage::Serving);
        let feed = Feed::default();
        let mut slow = feed.watch(stages.clone()).unwrap();
        for state in ["1", "2", "3"] {
            feed.send(state);
        }
        assert_eq!(next(&mut slow).await, Some(GREETING));
        assert_eq!(next(&mut slow).await.unwrap(), "data: 3\n\n");
        assert!(next(&mut slow).now_or_never().is_none(), "each state is sent once");
        let mut later = feed.watch(stages).unwrap();
        next(&mut later).await;
        assert_eq!(next(&mut later).await.unwrap(), "data: 3\n\n", "without waiting for a new state");
    }

    #[tokio::test]
    async fn a_silent_feed_sends_comments_and_ends_when_the_server_drains() {
        let (stage, stages) = watch::channel(Stage::Serving);
        let feed = Feed { silence_max: Duration::from_millis(1), ..Feed::default() };
        let mut watcher = feed.watch(stages).unwrap();
        next(&mut watcher).await;
        assert_eq!(next(&mut watcher).await, Some(HEARTBEAT));
        stage.send_replace(Stage::Draining);
        assert_eq!(next(&mut watcher).await, None);
    }
}
