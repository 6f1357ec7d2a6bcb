//! Clients go away in the middle of a request, or are slow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rand::Rng;
use rand::seq::IndexedRandom;
use testkit::chaos::Weather;
use testkit::http::{HttpClient, NoAnswer};
use testkit::oracle::{Decision, Load, Post, Project};
use testkit::{Upload, eventually};

use crate::matrix::{Row, Tier};
use crate::node::SOON;
use crate::{Drill, Layout, Sight, System, Verdict};

pub(super) const ROWS: &[Row] = &[Row {
    name: "client gone in the middle",
    target: "client to API",
    fault: "requests broken off in the head, in the body and behind it; bodies that come drop by drop",
    expected: "no part of a batch is stored; nothing is charged without an entry",
    tier: Tier::Quick,
    hold: |drill| Box::pin(client_gone(drill)),
}];

/// How a client misbehaves.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// Closes its connection in the middle.
    Closes,
    /// Resets it in the middle.
    Resets,
    /// Says in the middle that no more will come, and listens.
    BreaksOff,
    /// Falls silent in the middle, and listens.
    FallsSilent,
    /// Sends all in pieces, and listens.
    Dawdles,
    /// Sends all, and closes without listening; asks again later.
    DoesNotListen,
}

const MANNERS: &[Manner] = &[
    Manner::Closes,
    Manner::Resets,
    Manner::BreaksOff,
    Manner::FallsSilent,
    Manner::Dawdles,
    Manner::DoesNotListen,
];
const ROUNDS: usize = 4;
/// Clients that misbehave at once.
const AT_ONCE: usize = 60;
/// In so many pieces a body dawdles in, with a pause behind each.
const PIECES: usize = 8;
const PIECE_PAUSE: Duration = Duration::from_millis(20);
/// So long an API waits for a client that is silent.
const PATIENCE_MS: &str = "1000";

async fn client_gone(drill: Drill) -> Verdict {
    let mut rng = drill.rng(1);
    let layout = Layout {
        proxy_api_redis: true,
        api: &[("HEADER_TIMEOUT_MS", PATIENCE_MS), ("BODY_TIMEOUT_MS", PATIENCE_MS)],
        ..Layout::default()
    };
    let mut system = System::start(drill, layout).await;
    // Slow enough for a client to be gone while its batch is admitted.
    let wire = system.wire_api_redis.as_ref().expect("the layout has a proxy there");
    wire.set(Weather::Delay { ms: 5, jitter_ms: 20 });
    let clients = system.load(Load { clients: 2, ..Load::default() });
    clients.acknowledge(20).await;
    for _ in 0..ROUNDS {
        let mut misbehaving = Vec::new();
        for at in 0..AT_ONCE {
            let project = Arc::clone(&system.projects[at % 3].0);
            let server = system.apis[at / 3 % 2].address().await;
            let manner = *MANNERS.choose(&mut rng).expect("there are some");
            misbehaving.push(misbehave(manner, project, server, rng.next_u64()));
        }
        join_all(misbehaving).await;
    }
    let needs = [
        (Sight::Acknowledged, 100),
        (Sight::BrokenOff, 50),
        (Sight::Unknown, 20),
        (Sight::Retried, 10),
        (Sight::RateLimited, 1),
    ];
    system.finish(clients, &needs).await
}

async fn misbehave(manner: Manner, project: Arc<Project>, server: SocketAddr, seed: u64) {
    let mut post = Post::new(&project, seed % 10 + 1);
    let mut upload = post.upload(server, &project).await.expect("an API that runs accepts connections");
    let part = place_in(&upload, seed);
    // It fails where the API has refused before it has read everything, and closed.
    let sent = match manner {
        Manner::Dawdles => dawdle(&mut upload).await,
        Manner::DoesNotListen => upload.send(upload.left()).await,
        _ => upload.send(part).await,
    };
    match manner {
        Manner::Dawdles => {
            let answer = if let Err(error) = sent { Err(error) } else { upload.answer().await };
            post.note(&project, &answer);
        }
        Manner::DoesNotListen => {
            drop(upload);
            post.note_unanswered(&project);
            let mut http = HttpClient::new(server);
            let decided = async || post.send(&mut http, &project).await != Decision::Unknown;
            eventually(SOON, "a batch to be decided", decided).await;
        }
        Manner::Closes | Manner::Resets | Manner::BreaksOff | Manner::FallsSilent => {
            post.note_broken_off(&project);
            break_off(manner, upload).await;
        }
    }
}

/// What comes back is not looked at: it cannot be about a batch, and it does not come where the API was faster.
async fn break_off(manner: Manner, mut upload: Upload) {
    match manner {
        Manner::Resets => drop(upload.reset()),
        Manner::BreaksOff => {
            drop(upload.break_off().await);
            drop(upload.answer().await);
        }
        Manner::FallsSilent => drop(upload.answer().await),
        _ => drop(upload),
    }
}

async fn dawdle(upload: &mut Upload) -> Result<(), NoAnswer> {
    let piece = upload.left().div_ceil(PIECES);
    while upload.left() > 0 {
        upload.send(piece).await?;
        tokio::time::sleep(PIECE_PAUSE).await;
    }
    Ok(())
}

/// A place behind the first byte and before the last one.
fn place_in(upload: &Upload, seed: u64) -> usize {
    let places = u64::try_from(upload.left() - 1).expect("a request is small");
    usize::try_from(1 + seed % places).expect("a request is small")
}
