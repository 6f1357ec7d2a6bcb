//! From one sampler to everybody who watches. Each watcher is told the newest state when it can take it and misses what it
//! was too slow for, so nothing is kept for anybody; one whose connection takes nothing at all is ended by the socket's
//! own time limit.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use crate::answer::Told;
use crate::service::{Stage, reached};

/// How many may watch at once.
pub const WATCHERS_MAX: usize = 32;
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// First words: how long a browser should wait before it comes again, in milliseconds.
const GREETING: Bytes = Bytes::from_static(b"retry: 2000\n\n");
const HEARTBEAT: Bytes = Bytes::from_static(b": still here\n\n");

/// The newest state, and who watches it.
#[derive(Debug)]
pub struct Feed {
    places: Arc<Semaphore>,
    /// As it goes over the wire; `None` before the first sample.
    newest: watch::Sender<Option<Bytes>>,
    wanted: Notify,
    /// A watcher that was told nothing for so long is told that we are there.
    silence_max: Duration,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(WATCHERS_MAX)),
            newest: watch::Sender::new(None),
            wanted: Notify::new(),
            silence_max: SILENCE_MAX,
        }
    }
}

struct Watcher {
    newest: watch::Receiver<Option<Bytes>>,
    stage: watch::Receiver<Stage>,
    silence_max: Duration,
    _place: OwnedSemaphorePermit,
}

impl Feed {
    /// One more watcher, until it leaves or the server begins to stop. `None` when there are as many as may be.
    pub fn watch(&self, stage: watch::Receiver<Stage>) -> Option<Told> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let mut newest = self.newest.subscribe();
        // What is there already is new to this one.
        newest.mark_changed();
        self.wanted.notify_one();
        let watcher = Watcher { newest, stage, silence_max: self.silence_max, _place: place };
        let states = stream::unfold(watcher, async |mut watcher| {
            let told = watcher.next().await?;
            Some((told, watcher))
        });
        let frames = stream::once(async { GREETING }).chain(states);
        let frames = frames.map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        Some(StreamBody::new(frames.boxed()))
    }

    /// Returns when somebody has begun to watch.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Returns when nobody watches any more. What they were told is forgotten.
    pub async fn deserted(&self) {
        self.newest.closed().await;
        self.newest.send_replace(None);
    }

    /// Tells everybody this, on one line of JSON.
    pub fn tell(&self, json: &str) {
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

/// The next state. `None` when there will be none.
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

    async fn next(told: &mut Told) -> Option<Bytes> {
        Some(told.frame().await?.unwrap().into_data().unwrap())
    }

    #[tokio::test]
    async fn somebody_is_wanted_from_the_first_watcher_to_the_last() {
        let (_stage, stages) = watch::channel(Stage::Serving);
        let feed = Feed::default();
        assert!(feed.wanted().now_or_never().is_none());
        let (first, second) = (feed.watch(stages.clone()).unwrap(), feed.watch(stages).unwrap());
        feed.wanted().await;
        drop(first);
        assert!(feed.deserted().now_or_never().is_none());
        drop(second);
        feed.deserted().await;
    }

    #[tokio::test]
    async fn who_is_slow_misses_states_and_gets_the_newest() {
        let (_stage, stages) = watch::channel(Stage::Serving);
        let feed = Feed::default();
        let mut told = feed.watch(stages.clone()).unwrap();
        for state in ["1", "2", "3"] {
            feed.tell(state);
        }
        assert_eq!(next(&mut told).await, Some(GREETING));
        assert_eq!(next(&mut told).await.unwrap(), "data: 3\n\n");
        assert!(next(&mut told).now_or_never().is_none(), "once");
        let mut later = feed.watch(stages).unwrap();
        next(&mut later).await;
        assert_eq!(next(&mut later).await.unwrap(), "data: 3\n\n", "at once");
    }

    #[tokio::test]
    async fn silence_is_broken_by_a_comment_and_ended_by_the_drain() {
        let (stage, stages) = watch::channel(Stage::Serving);
        let feed = Feed { silence_max: Duration::from_millis(1), ..Feed::default() };
        let mut told = feed.watch(stages).unwrap();
        next(&mut told).await;
        assert_eq!(next(&mut told).await, Some(HEARTBEAT));
        stage.send_replace(Stage::Draining);
        assert_eq!(next(&mut told).await, None);
    }
}
