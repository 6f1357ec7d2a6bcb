//! Promises about subjects that are erased.

use millrace_event::limit::{Amount, Period};
use millrace_event::meter::{Aggregation, Decimal};
use millrace_store::{
    CancelOrder, CancelOutcome, Erasure, ErasureKind, ErasureOrder, ErasurePlace, ErasureStep, MeterInfo,
    MeterStart, RecordsPlace, RejectionKind, RejectionReport, RejectionSample, StoreError,
    ThresholdDefinition, ThresholdPeriod, ThresholdRule,
};
use time::OffsetDateTime;

use super::cancelling::{cancel, each_aggregation, event as key, figures};
use super::metered::{MINUTE_MS, call, calls, create, every_check_holds, figure, whole};
use super::redriving::{given_up_as, redrive};
use super::*;

/// The person. No other text of a test has this name in it.
const ALICE: &str = "alice@example.com";

/// An order that takes effect `after` now.
fn order(project: ProjectId, kind: ErasureKind, after: Duration) -> ErasureOrder {
    ErasureOrder {
        project,
        subject: ALICE.to_owned(),
        kind,
        received_before: OffsetDateTime::now_utc() + after,
        by: "command line: operator@workstation".to_owned(),
    }
}

/// One pass, and what it has done.
async fn pass(store: &SharedStore, erasure: &Erasure) -> ErasureStep {
    let (mut place, mut sum) = (Some(ErasurePlace::START), ErasureStep::default());
    while let Some(at) = place {
        let step = store.erase_step(erasure, at).await.expect("a step");
        sum.events += step.events;
        sum.dead_letters += step.dead_letters;
        sum.samples += step.samples;
        place = step.next;
    }
    sum
}

async fn erase(store: &SharedStore, project: ProjectId, kind: ErasureKind) -> Erasure {
    let order = order(project, kind, Duration::from_secs(60));
    let erasure = store.begin_erasure(&order).await.expect("an erasure");
    pass(store, &erasure).await;
    assert_eq!(pass(store, &erasure).await, ErasureStep::default(), "nothing is left");
    store.finish_erasure(&erasure).await.expect("finished")
}

/// What an export says, by the kind of record.
async fn exported(store: &SharedStore, project: ProjectId) -> Vec<(String, usize)> {
    let (mut place, mut counts) = (Some(RecordsPlace::START), std::collections::BTreeMap::new());
    while let Some(at) = place {
        let page = store.subject_records(project, ALICE, &at).await.expect("a page");
        for record in page.records {
            *counts.entry(record["record"].as_str().expect("a kind").to_owned()).or_insert(0) += 1;
        }
        place = page.next;
    }
    counts.into_iter().collect()
}

fn sample(project: ProjectId, payload: &str) -> RejectionSample {
    RejectionSample {
        project,
        at: OffsetDateTime::now_utc(),
        kind: RejectionKind::Event,
        code: "too_deep".to_owned(),
        field: None,
        message: "too deep".to_owned(),
        payload: Some(payload.as_bytes().to_vec()),
    }
}

/// Everything that can be stored of a person: events with duplicates, conflicts and cancellations, dead
/// letters, samples, limits, thresholds and figures of every kind.
async fn fill(store: &SharedStore, project: ProjectId, ms: u64) -> (Vec<MeterInfo>, Vec<WriteRequest>) {
    let mut meters = each_aggregation(store).await;
    let mut by_subject = super::metered::definition(Aggregation::UniqueCount);
    by_subject.slug = "people".to_owned();
    by_subject.value = Some("subject".parse().expect("a path"));
    by_subject.groups[0].path = "subject".parse().expect("a path");
    meters.push(store.create_meter("p", &by_subject, MeterStart::Now).await.expect("a meter"));
    let limit = Amount::parse("5000").expect("an amount");
    store.set_limit("p", "sum", Period::Month, Some(ALICE), limit).await.expect("a limit");
    let threshold = ThresholdDefinition {
        name: "much".to_owned(),
        rule: ThresholdRule::Meter {
            slug: "sum".to_owned(),
            subject: Some(ALICE.to_owned()),
            period: ThresholdPeriod::Month,
            value: Decimal::of_text("16").expect("a number"),
        },
        url: "https://example.org/hook".to_owned(),
    };
    store.set_threshold("p", &threshold).await.expect("a threshold");
    let stored = calls(
        project,
        1,
        &[
            call(ms, 1, ALICE, r#"{"n":1.5,"mail":"a"}"#),
            call(ms + 1, 2, ALICE, r#"{"n":8}"#),
            call(ms + 2, 3, "bob", r#"{"n":-2}"#),
            call(ms + 3, 4, ALICE, r#"{"n":7}"#),
            call(ms + 4, 5, ALICE, "{}"),
            call(ms + 5, 6, "bob", r#"{"n":8}"#),
        ],
    );
    let conflict = calls(project, 2, &[call(ms, 1, ALICE, r#"{"n":99}"#)]);
    let mixed = given_up_as(&calls(
        project,
        3,
        &[call(ms, 7, ALICE, r#"{"n":1}"#), call(ms, 8, "bob", r#"{"n":1}"#), call(ms, 9, ALICE, "{}")],
    ));
    let own = given_up_as(&calls(project, 4, &[call(ms, 10, ALICE, r#"{"n":1}"#)]));
    let undeliverable = call_row(project, "invalid_type", format!(r#"{{"userId":"{ALICE}"}}"#).as_bytes());
    let refused = request_of_rows(project, entry(now_ms(), 5), &[undeliverable]);
    let requests = vec![stored, conflict, mixed, own, refused];
    writer(store).await.write(&requests).await.expect("written");
    let cancelled = CancelOrder {
        project,
        events: vec![key(ms + 3, 4)],
        by: "key 1".to_owned(),
        reason: Some(format!("{ALICE} asked for it")),
        received_from: None,
    };
    assert_eq!(store.cancel_events(&cancelled).await.expect("an answer"), [CancelOutcome::Cancelled]);
    let samples = vec![sample(project, &format!(r#"{{"userId":"{ALICE}"}}"#)), sample(project, "bob")];
    let report = RejectionReport { source: Uuid::now_v7(), number: 1, counts: Vec::new(), samples };
    store.add_rejections(&report).await.expect("added");
    (meters, requests)
}

async fn leaves_no_trace(harness: &dyn Harness, kind: ErasureKind) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let ms = now_ms() / (15 * MINUTE_MS) * 15 * MINUTE_MS;
    let (meters, requests) = fill(&store, project, ms).await;
    let before = (figures(&store, &meters, ms).await, balanced(&store, project).await);
    let kinds: Vec<_> = exported(&store, project).await;
    let count = |kind: &str| kinds.iter().find(|(found, _)| found == kind).map_or(0, |(_, count)| *count);
    assert_eq!(["event", "dead_letter", "limit", "threshold"].map(count), [4, 3, 1, 1], "{kinds:?}");
    assert!(count("sample") >= 1 && count("meter_figure") >= 7, "{kinds:?}");
    assert_ne!(harness.traces(ALICE).await, [""; 0]);
    let finished = erase(&store, project, kind).await;
    assert_eq!((finished.subject.as_deref(), finished.events, finished.dead_letters), (None, 4, 4));
    assert!(finished.finished_at.is_some() && finished.samples >= 1, "{finished:?}");
    assert_eq!(store.erasures(Some(project), 10).await.expect("erasures"), std::slice::from_ref(&finished));
    assert_eq!(harness.traces(ALICE).await, [""; 0]);
    assert_eq!(exported(&store, project).await, []);
    let totals = balanced(&store, project).await;
    every_check_holds(&store).await;
    assert_eq!(figures(&store, &meters, ms).await, before.0, "the bill stays");
    let counts = |totals: &millrace_store::ProjectTotals| {
        (totals.stored, totals.cancelled, totals.duplicate, totals.dead)
    };
    assert_eq!(counts(&totals), counts(&before.1));
    // What is delivered again is in the ledger.
    let again = writer(&store).await.write(&requests).await.expect("written");
    assert_eq!(again.len(), requests.len());
    assert_eq!(counts(&balanced(&store, project).await), counts(&before.1));
    // Of the dead letters, those of others are left.
    assert_eq!(redrive(&store).await.stored, 1);
    let events = harness.events(project).await;
    let subjects: Vec<_> = events.iter().map(|event| event.subject.as_deref().expect("a subject")).collect();
    assert_eq!(subjects.iter().filter(|subject| **subject == "bob").count(), 3);
    let renamed: Vec<_> =
        events.iter().filter(|event| event.subject.as_deref() == Some(&finished.pseudonym)).collect();
    assert_eq!(renamed.len(), if kind.keeps_events() { 4 } else { 0 });
    assert!(renamed.iter().all(|event| event.client_id.is_none() && event.context.is_none()));
    let with_properties = renamed.iter().filter(|event| event.properties.is_some()).count();
    assert_eq!(with_properties, if kind == ErasureKind::Anonymize { 4 } else { 0 });
    assert_eq!(harness.traces(ALICE).await, [""; 0]);
    balanced(&store, project).await;
    // Anonymized events are not counted again, and cannot be taken back.
    if kind.keeps_events() {
        assert_eq!(cancel(&store, project, &[key(ms, 1)]).await, [CancelOutcome::TooOld]);
    }
    assert!(store.delete_meter("p", "count").await.expect("deleted"));
    let count = create(&store, Aggregation::Count, MeterStart::FirstEvent).await;
    while !store.backfill(count.meter.id, 10).await.expect("a step").is_last() {}
    assert_eq!(figure(&store, &count, &whole(ms, ms)).await.0, 3);
    balanced(&store, project).await;
}

pub async fn an_erased_subject_leaves_no_trace_and_the_bill_stays(harness: &dyn Harness) {
    leaves_no_trace(harness, ErasureKind::Erase).await;
}

pub async fn an_anonymized_subject_leaves_its_events_without_a_name(harness: &dyn Harness) {
    leaves_no_trace(harness, ErasureKind::Anonymize).await;
}

pub async fn an_anonymized_subject_can_leave_its_events_without_properties(harness: &dyn Harness) {
    leaves_no_trace(harness, ErasureKind::AnonymizeWithoutProperties).await;
}

pub async fn an_erasure_that_is_interrupted_after_any_step_continues_with_balanced_books(
    harness: &dyn Harness,
) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let ms = now_ms() / (15 * MINUTE_MS) * 15 * MINUTE_MS;
    let (meters, _) = fill(&store, project, ms).await;
    let before = figures(&store, &meters, ms).await;
    let order = order(project, ErasureKind::Erase, Duration::from_secs(60));
    let first = store.begin_erasure(&order).await.expect("an erasure");
    let mut is_complete = false;
    for steps in 1.. {
        let erasure = harness.another().begin_erasure(&order).await.expect("an erasure");
        assert_eq!((erasure.id, &erasure.pseudonym), (first.id, &first.pseudonym));
        let mut place = Some(ErasurePlace::START);
        for _ in 0..steps {
            let Some(at) = place else {
                is_complete = true;
                break;
            };
            place = store.erase_step(&erasure, at).await.expect("a step").next;
        }
        balanced(&store, project).await;
        assert_eq!(figures(&store, &meters, ms).await, before);
        if is_complete {
            break;
        }
    }
    let other = ErasureOrder { kind: ErasureKind::Anonymize, ..order.clone() };
    let refused = store.begin_erasure(&other).await.expect_err("another kind");
    assert!(matches!(refused, StoreError::Conflict(_)), "{refused}");
    let finished = store.finish_erasure(&first).await.expect("finished");
    assert_eq!((finished.events, finished.dead_letters), (4, 4));
    assert_eq!(harness.traces(ALICE).await, [""; 0]);
    assert_eq!(figures(&store, &meters, ms).await, before);
    balanced(&store, project).await;
    store.finish_erasure(&first).await.expect_err("it is finished");
    let empty = ErasureOrder { subject: String::new(), ..order };
    let refused = store.begin_erasure(&empty).await.expect_err("no event has it");
    assert!(matches!(refused, StoreError::Invalid(_)), "{refused}");
}

pub async fn what_is_received_after_the_order_is_kept_and_counted(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let meters = each_aggregation(&store).await;
    let (now, old) = (now_ms(), now_ms() / DAY_MS * DAY_MS - 300 * DAY_MS);
    let entry_of = |ms, seq, batch: &[super::metered::Call]| WriteRequest {
        entry: entry(ms, seq),
        ..calls(project, seq, batch)
    };
    let mut lane = writer(&store).await;
    let early = [
        call(old, 1, ALICE, r#"{"n":1}"#),
        call(old, 2, "bob", r#"{"n":2}"#),
        call(now, 3, ALICE, r#"{"n":4}"#),
    ];
    lane.write(&[entry_of(now - 5 * DAY_MS, 1, &early)]).await.expect("written");
    let kept = [call(old, 4, ALICE, r#"{"n":8}"#), call(now, 5, ALICE, r#"{"n":16}"#)];
    lane.write(&[entry_of(now, 2, &kept)]).await.expect("written");
    // On SQLite, and for days without a partition, retention goes by the time of receipt.
    let policy = UpkeepPolicy { retention_days: Some(2), ..keep_all() };
    store.upkeep(&policy).await.expect("upkeep").expect("no other process does the upkeep");
    balanced(&store, project).await;
    let all = whole(old - DAY_MS, now);
    let erasure = store.begin_erasure(&order(project, ErasureKind::Erase, Duration::ZERO)).await;
    let erasure = erasure.expect("an erasure");
    let late = [
        call(old, 6, ALICE, r#"{"n":32}"#),
        call(old, 7, "bob", r#"{"n":64}"#),
        call(now, 8, ALICE, r#"{"n":128}"#),
    ];
    lane.write(&[entry_of(now + 60_000, 3, &late)]).await.expect("written");
    let before = figure(&store, &meters[1], &all).await;
    pass(&store, &erasure).await;
    pass(&store, &erasure).await;
    store.finish_erasure(&erasure).await.expect("finished");
    let events = harness.events(project).await;
    let of_alice = events.iter().filter(|event| event.subject.as_deref() == Some(ALICE)).count();
    assert_eq!(of_alice, 2, "what was received later");
    balanced(&store, project).await;
    every_check_holds(&store).await;
    assert_eq!(figure(&store, &meters[1], &all).await, before);
    let mut own = all.clone();
    own.subjects = vec![ALICE.to_owned()];
    assert_eq!(figure(&store, &meters[1], &own).await, (2, "160".to_owned()));
    assert_eq!(figure(&store, &meters[0], &own).await, (2, "2".to_owned()));
}

pub async fn an_erasure_next_to_writers_and_movers_ends_with_exact_figures(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    for aggregation in [Aggregation::Sum, Aggregation::Max, Aggregation::UniqueCount] {
        create(&store, aggregation, MeterStart::Now).await;
    }
    let mut tasks = tokio::task::JoinSet::new();
    for lane in 0..2_u64 {
        let store = if lane == 0 { harness.store() } else { harness.another() };
        tasks.spawn(async move {
            let mut writer = writer(&store).await;
            for round in 0..30_u64 {
                let batch: Vec<_> = (0..10_u64)
                    .map(|part| {
                        let subject = if part % 2 == 0 { ALICE } else { "bob" };
                        let id = u128::from(lane << 40 | round << 8 | part);
                        call(now - part * MINUTE_MS, id, subject, &format!(r#"{{"n":{part}}}"#))
                    })
                    .collect();
                writer.write(&[calls(project, lane << 20 | round, &batch)]).await.expect("written");
            }
        });
    }
    let (erasing, moving) = (harness.another(), harness.another());
    tasks.spawn(async move {
        let order = order(project, ErasureKind::Erase, Duration::from_secs(3_600));
        for _ in 0..5 {
            let erasure = erasing.begin_erasure(&order).await.expect("an erasure");
            pass(&erasing, &erasure).await;
        }
    });
    tasks.spawn(async move {
        for _ in 0..30 {
            moving.move_additions().await.expect("moved");
            tokio::task::yield_now().await;
        }
    });
    tasks.join_all().await;
    let finished = erase(&store, project, ErasureKind::Erase).await;
    assert_eq!(finished.events, 300);
    every_check_holds(&store).await;
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, harness.events(project).await.len()), (600, 300));
    let meters = store.meters(Some(project)).await.expect("meters");
    let sum = meters.iter().find(|info| info.meter.definition.aggregation == Aggregation::Sum);
    let expected = (600, (2 * 30 * 45).to_string());
    assert_eq!(figure(&store, sum.expect("the meter"), &whole(now - DAY_MS, now)).await, expected);
    assert_eq!(harness.traces(ALICE).await, [""; 0]);
}

pub async fn an_index_on_the_subject_changes_nothing_but_the_time(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let batch: Vec<_> = (0..50)
        .map(|id| call(now - id * DAY_MS, id.into(), if id % 2 == 0 { ALICE } else { "bob" }, "{}"))
        .collect();
    writer(&store).await.write(&[calls(project, 1, &batch)]).await.expect("written");
    assert!(!store.has_subject_index().await.expect("an answer"));
    assert!(store.create_subject_index().await.expect("created"));
    assert!(store.has_subject_index().await.expect("an answer"));
    assert!(!store.create_subject_index().await.expect("there is one"));
    store.upkeep(&keep_all()).await.expect("upkeep");
    let later = calls(project, 2, &[call(now - 900 * DAY_MS, 99, ALICE, "{}")]);
    writer(&store).await.write(&[later]).await.expect("written");
    assert!(store.has_subject_index().await.expect("an answer"), "new days have it, too");
    assert_eq!(exported(&store, project).await, [("event".to_owned(), 26)]);
    assert_eq!(erase(&store, project, ErasureKind::Erase).await.events, 26);
    assert_eq!(harness.traces(ALICE).await, [""; 0]);
    balanced(&store, project).await;
    assert!(store.drop_subject_index().await.expect("dropped"));
    assert!(!store.drop_subject_index().await.expect("there is none"));
    assert!(!store.has_subject_index().await.expect("an answer"));
}
