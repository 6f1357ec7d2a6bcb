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
/// A watcher that was told nothing for so long is told that we are there.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(10);
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
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(WATCHERS_MAX)),
            newest: watch::Sender::new(None),
            wanted: Notify::new(),
        }
    }
}

struct Watcher {
    newest: watch::Receiver<Option<Bytes>>,
    stage: watch::Receiver<Stage>,
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
        let states = stream::unfold(Watcher { newest, stage, _place: place }, async |mut watcher| {
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
            state = timeout(HEARTBEAT_EVERY, newest(&mut self.newest)) => state.unwrap_or(Some(HEARTBEAT)),
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
