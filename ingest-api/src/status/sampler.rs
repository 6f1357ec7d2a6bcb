//! The one task that asks stream and store on behalf of all who watch, and only while somebody does. Each question has a time
//! limit, and the slower the answers, the rarer the questions, so that a page somebody left open never adds to a trouble.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use millrace_event::plan::month_of;
use millrace_store::{LetterFilter, UsageWindow};
use millrace_stream::Backlog;
use time::{OffsetDateTime, Time};
use tokio::time::{sleep, timeout};

use super::counted::{Counters, Moved};
use super::snapshot::{Letter, Rates, Snapshot, Waiting};
use super::today::{Project, Usage};
use crate::health;
use crate::service::Service;

/// Between two states while the stream answers at once.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// How long the stream may take for one.
const STREAM_TIME_MAX: Duration = Duration::from_secs(2);
/// Counters asked for in a second, on the average: with more projects than this, states come more rarely.
const COUNTERS_PER_SECOND_MAX: usize = 500;
/// Between two rounds of questions to the store while it answers at once.
const STORE_EVERY: Duration = Duration::from_secs(3);
/// How long the store may take for one answer.
const STORE_TIME_MAX: Duration = Duration::from_secs(2);
/// Dead letters that are told.
const LETTERS_MAX: u32 = 20;
/// After answers that took a time, at least this many times as long is left to others.
const REST: u32 = 9;

/// Tells whoever watches what happens. Never returns.
pub async fn keep_telling(service: &Service) -> Infallible {
    let feed = &service.status.feed;
    loop {
        feed.wanted().await;
        let told = Mutex::default();
        tokio::select! {
            () = feed.deserted() => {}
            never = tell(service, &told) => match never {},
            never = ask_store(service, &told) => match never {},
        }
    }
}

/// What the store has said.
#[derive(Default)]
struct Told {
    usage: Usage,
    letters: Option<Vec<Letter>>,
}

/// What the stream has said, and when.
struct Seen {
    at: Instant,
    counters: Counters,
    backlog: Backlog,
}

async fn tell(service: &Service, told: &Mutex<Told>) -> Infallible {
    let mut before: Option<Seen> = None;
    loop {
        let began = Instant::now();
        let projects = service.accounts.projects();
        let (seen, unready) = tokio::join!(ask_stream(service, &projects), unready(service));
        let rates = before.as_ref().zip(seen.as_ref()).map(|(before, seen)| rates(before, seen, told));
        let state = state(service, &projects, seen.as_ref(), rates, &unready, told);
        service.status.feed.tell(&state);
        before = seen;
        let took = began.elapsed();
        let pause =
            SAMPLE_EVERY.max(Duration::from_secs(1) * count(projects.len()) / count(COUNTERS_PER_SECOND_MAX));
        sleep(pause.saturating_sub(took).max(took * REST)).await;
    }
}

async fn ask_stream(service: &Service, projects: &[Project]) -> Option<Seen> {
    let numbers: Vec<_> = projects.iter().map(|(project, ..)| *project).collect();
    let asking = async { tokio::try_join!(service.stream.backlog(), service.stream.counters(&numbers)) };
    match timeout(STREAM_TIME_MAX, asking).await {
        Ok(Ok((backlog, counters))) => {
            let counters = counters.into_iter().map(|counters| (counters.project, counters)).collect();
            Some(Seen { at: Instant::now(), counters, backlog })
        }
        // The page says that the stream cannot be asked; nothing else depends on it.
        Ok(Err(_)) | Err(_) => None,
    }
}

async fn unready(service: &Service) -> Vec<&'static str> {
    let reasons = timeout(STREAM_TIME_MAX, health::reasons(service)).await;
    reasons.unwrap_or_else(|_| vec!["the stream does not answer in time"])
}

fn rates(before: &Seen, seen: &Seen, told: &Mutex<Told>) -> Rates {
    let moved = Moved::between(&before.counters, &seen.counters);
    locked(told).usage.moved(&moved.projects, seen.at);
    let seconds = seen.at.duration_since(before.at).as_secs_f64().max(0.001);
    let rate = |events: u64| (events as f64 / seconds * 10.0).round() / 10.0;
    Rates { accepted: rate(moved.accepted), stored: rate(moved.stored) }
}

fn state(
    service: &Service,
    projects: &[Project],
    seen: Option<&Seen>,
    rates: Option<Rates>,
    unready: &[&'static str],
    told: &Mutex<Told>,
) -> String {
    let now_us = u64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000).unwrap_or(0);
    let backlog = seen.map(|Seen { backlog, .. }| Waiting {
        events: backlog.events,
        bytes: backlog.bytes,
        oldest_age_ms: backlog.oldest_age_ms,
    });
    let no_counters = HashMap::new();
    let counters = seen.map_or(&no_counters, |seen| &seen.counters);
    let told = locked(told);
    let snapshot = Snapshot {
        at_ms: now_us / 1_000,
        version: env!("CARGO_PKG_VERSION"),
        unready,
        rates,
        backlog,
        today: told.usage.today(projects, counters, month_of(now_us)),
        letters: told.letters.as_deref(),
        refused: service.status.refusals.refused(),
    };
    serde_json::to_string(&snapshot).expect("string keys and finite numbers")
}

async fn ask_store(service: &Service, told: &Mutex<Told>) -> Infallible {
    loop {
        let began = Instant::now();
        ask_usage(service, told).await;
        ask_letters(service, told).await;
        sleep(STORE_EVERY.max(began.elapsed() * REST)).await;
    }
}

/// Asks for today's usage, project by project. The first answer that fails or does not come ends the round.
async fn ask_usage(service: &Service, told: &Mutex<Told>) {
    let today = OffsetDateTime::now_utc().replace_time(Time::MIDNIGHT);
    let projects = service.accounts.projects();
    let due = locked(told).usage.due(&projects, today.date(), Instant::now());
    for project in due {
        let asked = Instant::now();
        let answer = service.store.usage(project, today, today + time::Duration::DAY, UsageWindow::Hour);
        let Ok(Ok(rows)) = timeout(STORE_TIME_MAX, answer).await else { return };
        locked(told).usage.answered(project, &rows, asked);
    }
}

async fn ask_letters(service: &Service, told: &Mutex<Told>) {
    let filter = LetterFilter::default();
    let answer = service.store.dead_letters(&filter, None, LETTERS_MAX);
    let Ok(Ok(letters)) = timeout(STORE_TIME_MAX, answer).await else { return };
    locked(told).letters = Some(letters.into_iter().map(Letter::from).collect());
}

fn locked(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().expect("nobody panics with the lock")
}

fn count(projects: usize) -> u32 {
    u32::try_from(projects).unwrap_or(u32::MAX)
}
