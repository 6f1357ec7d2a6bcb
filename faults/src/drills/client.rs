//! Clients disconnect in the middle of a request, or are slow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rand::Rng;
use rand::seq::IndexedRandom;
use testkit::chaos::Weather;
use testkit::http::{HttpClient, NoAnswer};
use testkit::oracle::{Decision, Load, PlanLimits, Post, Project};
use testkit::{Upload, eventually};

use crate::node::SOON;
use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, System, Verdict};

pub(super) const ROWS: &[Row] = &[Row {
    name: "clients disconnect mid-request",
    target: "client to API",
    fault: "requests aborted in the head, in the body and after it; bodies sent in small pieces",
    expected: "no part of an aborted batch is stored; nothing is charged without an entry",
    tier: Tier::Quick,
    run: |drill| Box::pin(clients_disconnect(drill)),
}];

/// What a client does wrong.
#[derive(Clone, Copy, Debug)]
enum Misbehavior {
    /// Closes the connection.
    Closes,
    /// Resets the connection.
    Resets,
    /// Closes its half of the connection and reads.
    ClosesHalf,
    /// Sends nothing more and reads.
    FallsSilent,
    /// Sends everything in small pieces and reads.
    IsSlow,
    /// Sends everything, closes without reading, and repeats the request later.
    DoesNotRead,
}

const MISBEHAVIORS: &[Misbehavior] = &[
    Misbehavior::Closes,
    Misbehavior::Resets,
    Misbehavior::ClosesHalf,
    Misbehavior::FallsSilent,
    Misbehavior::IsSlow,
    Misbehavior::DoesNotRead,
];
const ROUNDS: usize = 4;
/// Clients that misbehave at the same time.
const CONCURRENT: usize = 60;
/// Pieces of a slow body, with a pause after each.
const PIECES: usize = 8;
const PIECE_PAUSE: Duration = Duration::from_millis(20);
/// How long an API waits for a silent client.
const TIMEOUT_MS: &str = "1000";

/// Few enough requests that a slow machine, too, sends more.
const SOON_LIMITED: PlanLimits =
    PlanLimits { requests_per_minute: 300, burst: 3, events_per_month: Some(2_000) };

async fn clients_disconnect(drill: Drill) -> Verdict {
    let mut rng = drill.rng(1);
    let layout = Layout {
        proxy_api_redis: true,
        api: &[("HEADER_TIMEOUT_MS", TIMEOUT_MS), ("BODY_TIMEOUT_MS", TIMEOUT_MS)],
        limited: SOON_LIMITED,
        ..Layout::default()
    };
    let mut system = System::start(drill, layout).await;
    // Slow enough that clients disconnect during admission.
    let wire = system.wire_api_redis.as_ref().expect("the layout has a proxy there");
    wire.set(Weather::Delay { ms: 5, jitter_ms: 20 });
    let clients = system.load(Load { clients: 3, ..Load::default() });
    clients.acknowledge(20).await;
    for _ in 0..ROUNDS {
        let mut misbehaving = Vec::new();
        for at in 0..CONCURRENT {
            let project = Arc::clone(&system.projects[at % 3].0);
            let server = system.apis[at / 3 % 2].address().await;
            let misbehavior = *MISBEHAVIORS.choose(&mut rng).expect("the list is not empty");
            misbehaving.push(misbehave(misbehavior, project, server, rng.next_u64()));
        }
        join_all(misbehaving).await;
    }
    let needs = [
        (Effect::Acknowledged, 100),
        (Effect::Aborted, 50),
        (Effect::Unknown, 20),
        (Effect::Retried, 10),
        (Effect::RateLimited, 1),
    ];
    system.finish(clients, &needs).await
}

async fn misbehave(misbehavior: Misbehavior, project: Arc<Project>, server: SocketAddr, seed: u64) {
    let mut post = Post::new(&project, seed % 10 + 1);
    let mut upload = post.upload(server, &project).await.expect("a running API accepts connections");
    let part = position_in(&upload, seed);
    // Sending fails when the API has refused the request and closed the connection.
    let sent = match misbehavior {
        Misbehavior::IsSlow => send_slowly(&mut upload).await,
        Misbehavior::DoesNotRead => upload.send(upload.left()).await,
        _ => upload.send(part).await,
    };
    match misbehavior {
        Misbehavior::IsSlow => {
            let answer = if let Err(error) = sent { Err(error) } else { upload.answer().await };
            post.note(&project, &answer);
        }
        Misbehavior::DoesNotRead => {
            drop(upload);
            post.note_unanswered(&project);
            let mut http = HttpClient::new(server);
            let decided = async || post.send(&mut http, &project).await != Decision::Unknown;
            eventually(SOON, "a batch to be decided", decided).await;
        }
        Misbehavior::Closes | Misbehavior::Resets | Misbehavior::ClosesHalf | Misbehavior::FallsSilent => {
            post.note_broken_off(&project);
            break_off(misbehavior, upload).await;
        }
    }
}

/// Ignores the answer: it cannot acknowledge a batch, and it may not arrive.
async fn break_off(misbehavior: Misbehavior, mut upload: Upload) {
    match misbehavior {
        Misbehavior::Resets => drop(upload.reset()),
        Misbehavior::ClosesHalf => {
            drop(upload.break_off().await);
            drop(upload.answer().await);
        }
        Misbehavior::FallsSilent => drop(upload.answer().await),
        _ => drop(upload),
    }
}

async fn send_slowly(upload: &mut Upload) -> Result<(), NoAnswer> {
    let piece = upload.left().div_ceil(PIECES);
    while upload.left() > 0 {
        upload.send(piece).await?;
        tokio::time::sleep(PIECE_PAUSE).await;
    }
    Ok(())
}

/// A position after the first byte and before the last one.
fn position_in(upload: &Upload, seed: u64) -> usize {
    let positions = u64::try_from(upload.left() - 1).expect("a request is small");
    usize::try_from(1 + seed % positions).expect("a request is small")
}
