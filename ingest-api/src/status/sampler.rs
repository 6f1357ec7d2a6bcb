//! The one task that queries the stream and the store for all watchers, and only while there is a watcher.
//! Every query has a time limit, and after slow answers the queries become rarer, so that an open page adds
//! little load to an overloaded installation.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use millrace_event::plan::month_of;
use millrace_store::{LetterFilter, UsageWindow};
use millrace_stream::Backlog;
use time::{OffsetDateTime, Time};
use tokio::time::{sleep, timeout};

use super::progress::{Counters, Progress};
use super::rejected::{Rejected, SAMPLED, SAMPLES_MAX, SUMS_MAX, StoredRejections};
use super::snapshot::{BacklogSize, Letter, Rates, Snapshot};
use super::today::Usage;
use crate::accounts::ProjectSummary;
use crate::health;
use crate::service::Service;

/// Between two states while the stream is fast.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// How long the stream may take for one answer.
const STREAM_TIME_MAX: Duration = Duration::from_secs(2);
/// Projects whose counters are asked for in a second, on average. With more projects, states are sent more
/// rarely.
const COUNTERS_PER_SECOND_MAX: usize = 500;
/// Between two rounds of queries to the store while it is fast.
const STORE_EVERY: Duration = Duration::from_secs(3);
/// How long the store may take for one answer.
const STORE_TIME_MAX: Duration = Duration::from_secs(2);
/// Dead letters on the page.
const LETTERS_MAX: u32 = 20;
/// After a round of queries, the pause is at least this many times as long as the round.
const REST: u32 = 9;

/// Sends states to the watchers. Never returns.
pub async fn keep_sampling(service: &Service) -> Infallible {
    let feed = &service.status.feed;
    loop {
        feed.watched().await;
        let answers = Mutex::default();
        tokio::select! {
            () = feed.unwatched() => {}
            never = send_states(service, &answers) => match never {},
            never = ask_store(service, &answers) => match never {},
        }
    }
}

/// The latest answers of the store.
#[derive(Default)]
struct StoreAnswers {
    usage: Usage,
    letters: Option<Vec<Letter>>,
    rejections: Option<StoredRejections>,
}

/// The stream's answers, and their time.
struct StreamSample {
    at: Instant,
    counters: Counters,
    backlog: Backlog,
}

async fn send_states(service: &Service, answers: &Mutex<StoreAnswers>) -> Infallible {
    let mut before: Option<StreamSample> = None;
    loop {
        let began = Instant::now();
        let projects = service.accounts.projects();
        let (sample, unready) = tokio::join!(ask_stream(service, &projects), unready(service));
        let rates = before.as_ref().zip(sample.as_ref()).map(|(before, now)| rates(before, now, answers));
        let state = state(service, &projects, sample.as_ref(), rates, &unready, answers);
        service.status.feed.send(&state);
        before = sample;
        let took = began.elapsed();
        let pause =
            SAMPLE_EVERY.max(Duration::from_secs(1) * count(projects.len()) / count(COUNTERS_PER_SECOND_MAX));
        sleep(pause.saturating_sub(took).max(took * REST)).await;
    }
}

async fn ask_stream(service: &Service, projects: &[ProjectSummary]) -> Option<StreamSample> {
    let ids: Vec<_> = projects.iter().map(|project| project.id).collect();
    let asking = async { tokio::try_join!(service.stream.backlog(), service.stream.counters(&ids)) };
    match timeout(STREAM_TIME_MAX, asking).await {
        Ok(Ok((backlog, counters))) => {
            let counters = counters.into_iter().map(|counters| (counters.project, counters)).collect();
            Some(StreamSample { at: Instant::now(), counters, backlog })
        }
        // The page shows that the stream cannot be reached. Nothing else depends on it.
        Ok(Err(_)) | Err(_) => None,
    }
}

async fn unready(service: &Service) -> Vec<String> {
    let reasons = timeout(STREAM_TIME_MAX, health::reasons(service)).await;
    reasons.unwrap_or_else(|_| vec!["the stream does not answer in time".to_owned()])
}

fn rates(before: &StreamSample, now: &StreamSample, answers: &Mutex<StoreAnswers>) -> Rates {
    let progress = Progress::between(&before.counters, &now.counters);
    lock(answers).usage.note_changes(&progress.projects, now.at);
    let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
    let rate = |events: u64| (events as f64 / seconds * 10.0).round() / 10.0;
    Rates { accepted: rate(progress.accepted), stored: rate(progress.stored) }
}

fn state(
    service: &Service,
    projects: &[ProjectSummary],
    sample: Option<&StreamSample>,
    rates: Option<Rates>,
    unready: &[String],
    answers: &Mutex<StoreAnswers>,
) -> String {
    let now_us = u64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000).unwrap_or(0);
    let backlog = sample.map(|StreamSample { backlog, .. }| BacklogSize {
        events: backlog.events,
        bytes: backlog.bytes,
        oldest_age_ms: backlog.oldest_age_ms,
    });
    let no_counters = HashMap::new();
    let counters = sample.map_or(&no_counters, |sample| &sample.counters);
    let answers = lock(answers);
    let snapshot = Snapshot {
        at_ms: now_us / 1_000,
        version: env!("CARGO_PKG_VERSION"),
        unready,
        rates,
        backlog,
        today: answers.usage.today(projects, counters, month_of(now_us)),
        letters: answers.letters.as_deref(),
        rejected: Rejected::new(answers.rejections.as_ref(), service.status.refusals.last(), projects),
    };
    serde_json::to_string(&snapshot).expect("string keys and finite numbers")
}

async fn ask_store(service: &Service, answers: &Mutex<StoreAnswers>) -> Infallible {
    loop {
        let began = Instant::now();
        ask_usage(service, answers).await;
        ask_letters(service, answers).await;
        ask_rejections(service, answers).await;
        sleep(STORE_EVERY.max(began.elapsed() * REST)).await;
    }
}

/// Asks for today's usage, project by project. The first failure or timeout ends the round.
async fn ask_usage(service: &Service, answers: &Mutex<StoreAnswers>) {
    let today = OffsetDateTime::now_utc().replace_time(Time::MIDNIGHT);
    let projects = service.accounts.projects();
    let due = lock(answers).usage.due(&projects, today.date(), Instant::now());
    for project in due {
        let asked = Instant::now();
        let answer = service.store.usage(project, today, today + time::Duration::DAY, UsageWindow::Hour);
        let Ok(Ok(rows)) = timeout(STORE_TIME_MAX, answer).await else { return };
        lock(answers).usage.note_answer(project, &rows, asked);
    }
}

async fn ask_letters(service: &Service, answers: &Mutex<StoreAnswers>) {
    let filter = LetterFilter::default();
    let answer = service.store.dead_letters(&filter, None, LETTERS_MAX);
    let Ok(Ok(letters)) = timeout(STORE_TIME_MAX, answer).await else { return };
    lock(answers).letters = Some(letters.into_iter().map(Letter::from).collect());
}

async fn ask_rejections(service: &Service, answers: &Mutex<StoreAnswers>) {
    let today = OffsetDateTime::now_utc().replace_time(Time::MIDNIGHT);
    // Read before the store is asked: its answer has everything that was written before.
    let written_until_ms = service.rejections.written_until_ms();
    let asked = async {
        tokio::try_join!(
            service.store.rejection_sums(today, today + time::Duration::DAY, SUMS_MAX),
            service.store.rejection_samples(None, &SAMPLED, SAMPLES_MAX)
        )
    };
    let Ok(Ok((sums, samples))) = timeout(STORE_TIME_MAX, asked).await else { return };
    lock(answers).rejections = Some(StoredRejections { sums, samples, written_until_ms });
}

fn lock(answers: &Mutex<StoreAnswers>) -> MutexGuard<'_, StoreAnswers> {
    answers.lock().expect("no holder panics")
}

fn count(projects: usize) -> u32 {
    u32::try_from(projects).unwrap_or(u32::MAX)
}
