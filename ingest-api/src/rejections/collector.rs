//! Counts and samples in memory, between two reports to the store. Its size has a limit that no client can
//! raise: counts are kept by project and code, and only the last samples are kept.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use hyper::StatusCode;
use millrace_event::event::Rejection;
use millrace_event::plan::ProjectId;
use millrace_store::{RejectionCount, RejectionKind, RejectionReport, RejectionSample};
use time::OffsetDateTime;
use uuid::Uuid;

use super::excerpt::Excerpt;
use crate::error::Problem;
use crate::problem_code::ProblemCode;
use crate::text::clip;

/// Samples of each project and kind in one report, and taken between two attempts to write one.
const SAMPLES_MAX: usize = 20;
/// Bytes of all samples of one report.
const SAMPLE_BYTES_MAX: usize = 8 << 20;
/// What a sample takes besides its texts, about.
const SAMPLE_BYTES: usize = 256;
/// Counts of one report. Above it, a count is added to the latest hour that its project and code have, so
/// that an outage of any length takes bounded memory and every sum stays exact.
const COUNTS_MAX: usize = 20_000;
const HOUR_S: u64 = 3_600;

/// What was refused and is not in the store yet.
#[derive(Debug)]
pub struct Collector {
    state: Mutex<State>,
    /// Milliseconds since 1970. What was noted before this time is in the store.
    written_until_ms: AtomicU64,
}

#[derive(Debug)]
struct State {
    source: Uuid,
    /// The number of the newest report.
    number: u64,
    open: Open,
    /// The report that is being written, with the time at which it was closed. It stays the same until the
    /// store has confirmed it, because a lost answer may hide that it was added.
    sealed: Option<(Arc<RejectionReport>, u64)>,
}

/// The next report.
#[derive(Debug, Default)]
struct Open {
    counts: BTreeMap<CountKey, u64>,
    samples: HashMap<(ProjectId, RejectionKind), Recent>,
    sample_bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct CountKey {
    project: ProjectId,
    kind: RejectionKind,
    code: &'static str,
    /// Seconds since 1970.
    hour_s: u64,
}

/// The last samples of one project and kind.
#[derive(Debug, Default)]
struct Recent {
    last: VecDeque<RejectionSample>,
    /// Samples taken since the last attempt to write a report.
    taken: usize,
}

impl Default for Collector {
    fn default() -> Self {
        let state = State { source: Uuid::new_v4(), number: 0, open: Open::default(), sealed: None };
        Self { state: Mutex::new(state), written_until_ms: AtomicU64::new(0) }
    }
}

impl Collector {
    /// Counts the refused events of one batch. Returns how many samples of them are wanted.
    pub fn count_events(&self, project: ProjectId, rejected: &[Rejection]) -> usize {
        let mut state = self.lock();
        let now_s = now_ms() / 1_000;
        for alike in rejected.chunk_by(|one, next| one.code == next.code) {
            state.open.count(project, RejectionKind::Event, alike[0].code.into(), alike.len() as u64, now_s);
        }
        state.open.wanted(project, RejectionKind::Event).min(rejected.len())
    }

    /// Adds samples of refused events, each with its text.
    pub fn sample_events(&self, project: ProjectId, samples: Vec<(Rejection, Excerpt)>) {
        let at = OffsetDateTime::now_utc();
        let mut state = self.lock();
        for (rejection, Excerpt(payload)) in samples {
            state.open.sample(RejectionSample {
                project,
                at,
                kind: RejectionKind::Event,
                code: <&str>::from(rejection.code).to_owned(),
                field: rejection.field.map(|field| clip(&field).to_owned()),
                message: clip(&rejection.message).to_owned(),
                payload: Some(payload),
            });
        }
    }

    /// Counts a whole request. It becomes a sample if its client must change it, and if its events are not
    /// samples themselves.
    pub fn note_request(&self, project: ProjectId, problem: &Problem) {
        let mut state = self.lock();
        let code = problem.code.into();
        state.open.count(project, RejectionKind::Request, code, 1, now_ms() / 1_000);
        let status = problem.code.status();
        let is_sample = status.is_client_error()
            && status != StatusCode::TOO_MANY_REQUESTS
            && problem.code != ProblemCode::NoValidEvent;
        if is_sample && state.open.wanted(project, RejectionKind::Request) > 0 {
            state.open.sample(RejectionSample {
                project,
                at: OffsetDateTime::now_utc(),
                kind: RejectionKind::Request,
                code: code.to_owned(),
                field: problem.field().map(str::to_owned),
                message: clip(&problem.message).to_owned(),
                payload: problem.excerpt().map(|Excerpt(payload)| payload.clone()),
            });
        }
    }

    /// The report to write now: the one that was not confirmed yet, or a new one. `None` when there is
    /// nothing to write.
    pub(super) fn report(&self) -> Option<Arc<RejectionReport>> {
        let mut state = self.lock();
        for recent in state.open.samples.values_mut() {
            recent.taken = 0;
        }
        if state.sealed.is_none() && !state.open.counts.is_empty() {
            state.number += 1;
            let (source, number) = (state.source, state.number);
            let report = std::mem::take(&mut state.open).into_report(source, number);
            state.sealed = Some((Arc::new(report), now_ms()));
        }
        state.sealed.as_ref().map(|(report, _)| Arc::clone(report))
    }

    /// The store has this report.
    pub(super) fn confirm(&self, report: &RejectionReport) {
        let mut state = self.lock();
        if let Some((_, sealed_ms)) = state.sealed.take_if(|(sealed, _)| sealed.number == report.number) {
            self.written_until_ms.store(sealed_ms, Ordering::Relaxed);
        }
    }

    /// Keeps only the counts of this report, because the store refuses its samples.
    pub(super) fn drop_samples(&self, report: &RejectionReport) {
        let mut state = self.lock();
        if let Some((sealed, _)) = state.sealed.as_mut().filter(|(sealed, _)| sealed.number == report.number)
        {
            *sealed = Arc::new(RejectionReport { samples: Vec::new(), ..report.clone() });
        }
    }

    /// Milliseconds since 1970: what was refused before this time is in the store.
    pub fn written_until_ms(&self) -> u64 {
        self.written_until_ms.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl Open {
    fn count(&mut self, project: ProjectId, kind: RejectionKind, code: &'static str, count: u64, now_s: u64) {
        let key = |hour_s| CountKey { project, kind, code, hour_s };
        let mut here = key(now_s / HOUR_S * HOUR_S);
        if self.counts.len() >= COUNTS_MAX && !self.counts.contains_key(&here) {
            let latest = self.counts.range(key(0)..=key(u64::MAX)).next_back();
            here = latest.map_or(here, |(latest, _)| *latest);
        }
        *self.counts.entry(here).or_default() += count;
    }

    /// How many samples of this kind may still be taken before the next report.
    fn wanted(&self, project: ProjectId, kind: RejectionKind) -> usize {
        SAMPLES_MAX - self.samples.get(&(project, kind)).map_or(0, |recent| recent.taken)
    }

    /// Adds a sample, which may replace an older one of the same project and kind, and no other.
    fn sample(&mut self, sample: RejectionSample) {
        let recent = self.samples.entry((sample.project, sample.kind)).or_default();
        if recent.taken == SAMPLES_MAX {
            return;
        }
        recent.taken += 1;
        self.sample_bytes += bytes_of(&sample);
        recent.last.push_back(sample);
        while recent.last.len() > SAMPLES_MAX || self.sample_bytes > SAMPLE_BYTES_MAX {
            let Some(oldest) = recent.last.pop_front() else { break };
            self.sample_bytes -= bytes_of(&oldest);
        }
    }

    fn into_report(self, source: Uuid, number: u64) -> RejectionReport {
        let count = |(key, count): (CountKey, u64)| {
            let seconds = i64::try_from(key.hour_s).unwrap_or(0);
            let hour = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
            let CountKey { project, kind, code, .. } = key;
            RejectionCount { hour, project, kind, code: code.to_owned(), count }
        };
        let mut samples: Vec<_> = self.samples.into_values().flat_map(|recent| recent.last).collect();
        samples.sort_by_key(|sample| sample.at);
        RejectionReport { source, number, counts: self.counts.into_iter().map(count).collect(), samples }
    }
}

fn bytes_of(sample: &RejectionSample) -> usize {
    let RejectionSample { code, field, message, payload, .. } = sample;
    let texts = code.len() + field.as_ref().map_or(0, String::len) + message.len();
    SAMPLE_BYTES + texts + payload.as_ref().map_or(0, Vec::len)
}

pub(super) fn now_ms() -> u64 {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use millrace_event::event::RejectionCode;

    use super::*;

    const SHOP: ProjectId = ProjectId(7);

    fn rejection(message: String) -> Rejection {
        Rejection { index: 0, code: RejectionCode::TooDeep, field: None, message }
    }

    fn note(collector: &Collector, project: ProjectId, message: &str) {
        let rejected = rejection(message.to_owned());
        if collector.count_events(project, std::slice::from_ref(&rejected)) > 0 {
            collector.sample_events(project, vec![(rejected, Excerpt(vec![b'x'; 4_096]))]);
        }
    }

    fn total(report: &RejectionReport) -> u64 {
        report.counts.iter().map(|count| count.count).sum()
    }

    #[test]
    fn a_flood_of_distinct_messages_takes_few_samples_and_is_counted_exactly() {
        let collector = Collector::default();
        for number in 0..10_000 {
            note(&collector, SHOP, &format!("{number}{}", "é".repeat(5_000)));
        }
        let report = collector.report().unwrap();
        assert_eq!((total(&report), report.counts.len()), (10_000, 1));
        assert_eq!(report.samples.len(), SAMPLES_MAX);
        assert!(report.samples.iter().all(|sample| sample.message.len() < 500), "messages are cut");
    }

    #[test]
    fn many_projects_share_the_memory_of_samples() {
        let collector = Collector::default();
        for round in 0..3 {
            for project in 0..2_000 {
                note(&collector, ProjectId(project), &format!("round {round}"));
            }
        }
        let report = collector.report().unwrap();
        assert_eq!((total(&report), report.counts.len()), (6_000, 2_000));
        let bytes: usize = report.samples.iter().map(bytes_of).sum();
        assert!(bytes <= SAMPLE_BYTES_MAX && bytes > SAMPLE_BYTES_MAX / 2, "{bytes}");
    }

    #[test]
    fn a_report_stays_the_same_until_it_is_confirmed_and_the_next_has_the_rest() {
        let collector = Collector::default();
        assert!(collector.report().is_none());
        note(&collector, SHOP, "first");
        let first = collector.report().unwrap();
        for number in 0..100 {
            note(&collector, SHOP, &format!("during the outage {number}"));
            assert_eq!(collector.report().unwrap(), first, "the same number, counts and samples");
        }
        assert_eq!(collector.written_until_ms(), 0);
        collector.confirm(&first);
        assert!(collector.written_until_ms() > 0);
        let second = collector.report().unwrap();
        assert_eq!((second.number, total(&second)), (first.number + 1, 100));
        assert_eq!(second.samples.len(), SAMPLES_MAX);
        assert_eq!(second.samples.last().unwrap().message, "during the outage 99", "the last are kept");
        collector.confirm(&first);
        assert_eq!(collector.report().unwrap(), second, "an old confirmation changes nothing");
        collector.drop_samples(&second);
        let bare = collector.report().unwrap();
        assert_eq!((bare.number, total(&bare), bare.samples.len()), (second.number, 100, 0));
        collector.confirm(&bare);
        assert!(collector.report().is_none());
    }

    #[test]
    fn an_outage_of_any_length_takes_bounded_memory_and_keeps_every_sum() {
        let mut open = Open::default();
        let hours = COUNTS_MAX as u64 + 500;
        for hour in 0..hours {
            open.count(SHOP, RejectionKind::Request, "invalid_json", 2, hour * HOUR_S + 5);
        }
        open.count(ProjectId(8), RejectionKind::Event, "too_deep", 1, 9);
        assert_eq!(open.counts.len(), COUNTS_MAX + 1, "another project is not forgotten");
        assert_eq!(total(&open.into_report(Uuid::nil(), 1)), 2 * hours + 1);
    }

    #[test]
    fn a_request_is_a_sample_only_if_its_client_must_change_it() {
        let collector = Collector::default();
        for problem in [
            Problem::rate_limited(1),
            Problem::backlog_full(),
            Problem::new(ProblemCode::NoValidEvent, "its events are samples"),
            Problem::new(ProblemCode::EmptyBatch, "empty"),
        ] {
            collector.note_request(SHOP, &problem);
        }
        let report = collector.report().unwrap();
        let counted: Vec<_> = report.counts.iter().map(|count| (count.code.as_str(), count.count)).collect();
        let all = ["backlog_full", "empty_batch", "no_valid_event", "rate_limited"];
        assert_eq!(counted, all.map(|code| (code, 1)));
        let sampled: Vec<_> = report.samples.iter().map(|sample| sample.code.as_str()).collect();
        assert_eq!(sampled, ["empty_batch"]);
    }
}
