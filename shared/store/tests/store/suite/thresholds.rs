//! Promises about notifications: when they are written, and who delivers them.

use millrace_event::meter::{Aggregation, Decimal};
use millrace_store::{
    DeliveryResult, MeterStart, Notification, NotificationState, PlanChange, StoreError, ThresholdDefinition,
    ThresholdPeriod, ThresholdRule, Writer,
};
use time::{OffsetDateTime, Time};

use super::metered::{call, calls, create};
use super::*;

const URL: &str = "https://hooks.example/in";
const MINUTE: Duration = Duration::from_secs(60);

pub fn quota(name: &str, percent: u8) -> ThresholdDefinition {
    let rule = ThresholdRule::Quota { percent };
    ThresholdDefinition { name: name.to_owned(), rule, url: URL.to_owned() }
}

pub fn of_meter(
    name: &str,
    aggregation: Aggregation,
    period: ThresholdPeriod,
    value: &str,
) -> ThresholdDefinition {
    let value = Decimal::of_text(value).expect("a number");
    let rule = ThresholdRule::Meter { slug: aggregation.to_string(), subject: None, period, value };
    ThresholdDefinition { name: name.to_owned(), rule, url: URL.to_owned() }
}

/// Every notification, oldest first.
pub async fn all(store: &SharedStore) -> Vec<Notification> {
    let mut all = store.notifications(None, None, None, 10_000).await.expect("notifications");
    all.reverse();
    all
}

pub async fn move_all(store: &SharedStore) {
    while store.move_additions().await.expect("moved") > 0 {}
}

/// A project with this quota.
async fn project_with_quota(store: &SharedStore, quota: u64) -> ProjectId {
    let change = PlanChange { events_per_month: Some(Some(quota)), ..PlanChange::default() };
    store.set_plan("pro", &change).await.expect("a plan");
    project(store, "p").await
}

/// Noon of the 15th of this month: a day of the month around it is on both sides.
fn mid_month_ms() -> u64 {
    let today = OffsetDateTime::now_utc().date().replace_day(15).expect("every month has one");
    let noon = today.with_time(Time::from_hms(12, 0, 0).expect("a time")).assume_utc();
    (noon.unix_timestamp() * 1_000).unsigned_abs()
}

/// Stores events of noon of the 15th that are received `hour` hours later.
async fn store_events(
    lane: &mut Box<dyn Writer>,
    project: ProjectId,
    (hour, seq): (u64, u64),
    ids: std::ops::Range<u64>,
) {
    let (at, ms) = (mid_month_ms(), mid_month_ms() + hour * 3_600_000);
    let request = request(project, new_batch_id(), entry(ms, seq), &events(at, ids.map(u128::from)));
    lane.write(&[request]).await.expect("written");
}

pub async fn a_quota_is_reached_once_by_the_events_that_are_stored(harness: &dyn Harness) {
    let store = harness.store();
    let project = project_with_quota(&store, 99).await;
    store.set_threshold("p", &quota("most", 80)).await.expect("set");
    store.set_threshold("p", &quota("all", 100)).await.expect("set");
    let mut lane = writer(&store).await;
    let count = async || all(&store).await.len();
    store_events(&mut lane, project, (0, 1), 0..79).await;
    // Duplicates use up nothing: 79.2 of 99 events are 80 percent.
    store_events(&mut lane, project, (1, 2), 0..79).await;
    assert_eq!(count().await, 0);
    store_events(&mut lane, project, (2, 3), 79..85).await;
    let [reached] = &all(&store).await[..] else { panic!("one notification") };
    assert_eq!((reached.threshold_name.as_str(), reached.kind.as_str()), ("most", "quota"));
    assert_eq!((reached.percent, reached.subject.as_str()), (Some(80), ""));
    assert_eq!((reached.threshold.as_str(), reached.value.as_str()), ("80", "85"));
    assert_eq!((reached.project, reached.period), (project, ThresholdPeriod::Month));
    assert_eq!(reached.period_start.day(), 1);
    assert_eq!(reached.delivery.state, NotificationState::Pending);
    store_events(&mut lane, project, (3, 4), 85..98).await;
    assert_eq!(count().await, 1, "once in a month");
    store_events(&mut lane, project, (4, 5), 98..99).await;
    assert_eq!(all(&store).await[1].value, "99");
    balanced(&store, project).await;
}

pub async fn an_entry_that_comes_again_reaches_no_threshold(harness: &dyn Harness) {
    let store = harness.store();
    let project = project_with_quota(&store, 10).await;
    store.set_threshold("p", &quota("all", 100)).await.expect("set");
    create(&store, Aggregation::Count, MeterStart::Now).await;
    let meter = of_meter("calls", Aggregation::Count, ThresholdPeriod::Month, "10");
    store.set_threshold("p", &meter).await.expect("set");
    let mut lane = writer(&store).await;
    let events: Vec<_> = (0..9).map(|id| call(now_ms(), id, "a", r#"{"n":1}"#)).collect();
    let request = calls(project, 1, &events);
    for _ in 0..3 {
        lane.write(&[request.clone(), request.clone()]).await.expect("written");
        move_all(&store).await;
    }
    assert_eq!(all(&store).await, []);
    lane.write(&[calls(project, 2, &[call(now_ms(), 9, "a", r#"{"n":1}"#)])]).await.expect("written");
    move_all(&store).await;
    let mut values: Vec<_> =
        all(&store).await.into_iter().map(|one| (one.threshold_name, one.value)).collect();
    values.sort();
    assert_eq!(values, [("all".to_owned(), "10".to_owned()), ("calls".to_owned(), "10".to_owned())]);
}

/// Each lane adds to hours of its own, so that no row of usage makes them take turns.
pub async fn racing_writers_reach_a_quota_exactly_once(harness: &dyn Harness) {
    const LANES: u64 = 4;
    const BATCH: u64 = 5;
    let project = project_with_quota(&harness.store(), 400).await;
    harness.store().set_threshold("p", &quota("half", 50)).await.expect("set");
    harness.store().set_threshold("p", &quota("all", 100)).await.expect("set");
    let lanes = (0..LANES).map(|lane| {
        let store = harness.another();
        tokio::spawn(async move {
            let mut writer = store.writer(&format!("lane{lane}")).await.expect("a writer");
            for round in 0..20 {
                let first = (lane * 20 + round) * BATCH;
                store_events(&mut writer, project, (lane, round), first..first + BATCH).await;
            }
        })
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.expect("no panic");
    }
    let reached = all(&harness.store()).await;
    let values: Vec<_> =
        reached.iter().map(|one| (one.threshold_name.as_str(), one.value.as_str())).collect();
    // All transactions add the same, so the transaction that reaches 200 sees 200, in any order.
    assert_eq!(values, [("half", "200"), ("all", "400")]);
    balanced(&harness.store(), project).await;
}

pub async fn racing_writers_and_movers_reach_a_threshold_of_a_meter_exactly_once(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    create(&store, Aggregation::Sum, MeterStart::Now).await;
    let meter = of_meter("much", Aggregation::Sum, ThresholdPeriod::Month, "60");
    store.set_threshold("p", &meter).await.expect("set");
    let now = now_ms();
    let lanes = (0..3_u64).map(|lane| {
        let store = harness.another();
        tokio::spawn(async move {
            let mut writer = store.writer(&format!("lane{lane}")).await.expect("a writer");
            for round in 0..20_u64 {
                let id = u128::from(lane * 20 + round);
                let subject = ["a", "b"][(id % 2) as usize];
                let events = [call(now, id, subject, r#"{"n":2}"#)];
                writer.write(&[calls(project, lane << 8 | round, &events)]).await.expect("written");
                store.move_additions().await.expect("moved");
            }
        })
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.expect("no panic");
    }
    move_all(&store).await;
    let mut reached: Vec<_> = all(&store).await.into_iter().map(|one| (one.subject, one.value)).collect();
    reached.sort();
    // Each subject has 30 events.
    assert_eq!(reached, [("a".to_owned(), "60".to_owned()), ("b".to_owned(), "60".to_owned())]);
}

pub async fn only_its_subject_reaches_a_threshold_of_one_subject(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    create(&store, Aggregation::Max, MeterStart::Now).await;
    let mut one = of_meter("peak", Aggregation::Max, ThresholdPeriod::Month, "7.5");
    if let ThresholdRule::Meter { subject, .. } = &mut one.rule {
        *subject = Some("b".to_owned());
    }
    let info = store.set_threshold("p", &one).await.expect("set").info;
    assert_eq!(info.definition, one);
    let mut lane = writer(&store).await;
    let events = [call(now_ms(), 1, "a", r#"{"n":9}"#), call(now_ms(), 2, "b", r#"{"n":7.4}"#)];
    lane.write(&[calls(project, 1, &events)]).await.expect("written");
    move_all(&store).await;
    assert_eq!(all(&store).await, []);
    let events = [call(now_ms(), 3, "b", r#"{"n":7.5}"#), call(now_ms(), 4, "b", r#"{"n":-1}"#)];
    lane.write(&[calls(project, 2, &events)]).await.expect("written");
    move_all(&store).await;
    let [reached] = &all(&store).await[..] else { panic!("one notification") };
    assert_eq!((reached.subject.as_str(), reached.meter.as_deref()), ("b", Some("max")));
    assert_eq!((reached.threshold.as_str(), reached.value.as_str()), ("7.5", "7.5"));
}

pub async fn a_period_that_ended_before_the_threshold_causes_no_notification(harness: &dyn Harness) {
    let store = harness.store();
    let project = project(&store, "p").await;
    create(&store, Aggregation::Count, MeterStart::Now).await;
    let meter = of_meter("any", Aggregation::Count, ThresholdPeriod::Hour, "1");
    store.set_threshold("p", &meter).await.expect("set");
    let mut lane = writer(&store).await;
    let now = now_ms();
    let events = [call(now - 3 * 3_600_000, 1, "a", "{}"), call(now, 2, "b", "{}")];
    lane.write(&[calls(project, 1, &events)]).await.expect("written");
    move_all(&store).await;
    let subjects: Vec<_> = all(&store).await.into_iter().map(|one| one.subject).collect();
    assert_eq!(subjects, ["b"]);
}

/// A project with `count` subjects that have reached a threshold.
async fn reached(store: &SharedStore, name: &str, count: u128) -> ProjectId {
    let project = project(store, name).await;
    let definition = super::metered::definition(Aggregation::Count);
    store.create_meter(name, &definition, MeterStart::FirstEvent).await.expect("a meter");
    let infos = store.meters(Some(project)).await.expect("meters");
    while !store.backfill(infos[0].meter.id, 100).await.expect("a step").is_last() {}
    let meter = of_meter("any", Aggregation::Count, ThresholdPeriod::Month, "1");
    store.set_threshold(name, &meter).await.expect("set");
    let mut lane = writer(store).await;
    let subjects = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let events: Vec<_> =
        (0..count).map(|id| call(now_ms(), id, subjects[usize::try_from(id).expect("few")], "{}")).collect();
    lane.write(&[calls(project, 1, &events)]).await.expect("written");
    move_all(store).await;
    project
}

pub async fn a_notification_is_claimed_by_one_worker_at_a_time(harness: &dyn Harness) {
    let store = harness.store();
    reached(&store, "p", 3).await;
    let (one, other) = (harness.another(), harness.another());
    let (one, other) = tokio::join!(one.claim_notifications(MINUTE, 2), other.claim_notifications(MINUTE, 2));
    let claimed: Vec<_> = one.expect("claims").into_iter().chain(other.expect("claims")).collect();
    let mut ids: Vec<_> = claimed.iter().map(|claimed| claimed.notification.notification_id).collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "no notification was claimed twice");
    assert!(claimed.iter().all(|claimed| claimed.url == URL && claimed.notification.delivery.attempts == 1));
    assert!(claimed.iter().all(|claimed| claimed.secrets.len() == 1 && claimed.secrets[0].len() == 32));
    // With a lease that is over at once, another one takes it over with the same message id.
    let rest = store.claim_notifications(Duration::ZERO, 10).await.expect("claims");
    assert_eq!(count + rest.len(), 3);
    let again = store.claim_notifications(MINUTE, 10).await.expect("claims");
    for (first, second) in rest.iter().zip(&again) {
        assert_eq!(first.notification.webhook_id, second.notification.webhook_id);
        assert_eq!(second.notification.delivery.attempts, 2);
        let done = DeliveryResult { status: Some(200), error: None, retry_after: None };
        let id = first.notification.notification_id;
        assert!(
            !store.finish_delivery(id, first.claim, &done).await.expect("an answer"),
            "it was taken over"
        );
        assert!(store.finish_delivery(id, second.claim, &done).await.expect("an answer"));
        assert!(!store.finish_delivery(id, second.claim, &done).await.expect("an answer"), "it is finished");
    }
}

pub async fn a_delivery_is_retried_until_it_is_delivered_or_given_up(harness: &dyn Harness) {
    let store = harness.store();
    let project = reached(&store, "p", 1).await;
    let claim = async || {
        let mut claimed = store.claim_notifications(MINUTE, 10).await.expect("claims");
        assert!(claimed.len() <= 1);
        claimed.pop()
    };
    let end = async |status, error: Option<&str>, retry_after| {
        let claimed = claim().await.expect("it is due");
        let result = DeliveryResult { status, error: error.map(str::to_owned), retry_after };
        let id = claimed.notification.notification_id;
        assert!(store.finish_delivery(id, claimed.claim, &result).await.expect("an answer"));
        all(&store).await.remove(0).delivery
    };
    let failed = end(Some(500), Some("the answer was 500"), Some(Duration::ZERO)).await;
    assert_eq!((failed.state, failed.status, failed.attempts), (NotificationState::Pending, Some(500), 1));
    assert_eq!(failed.error.as_deref(), Some("the answer was 500"));
    let dead = end(None, Some("no connection"), None).await;
    assert_eq!((dead.state, dead.status, dead.attempts), (NotificationState::Dead, None, 2));
    assert!(claim().await.is_none());
    let backlog = store.notification_backlog().await.expect("a backlog");
    assert_eq!((backlog.pending, backlog.dead), (0, 1));
    let id = all(&store).await[0].notification_id;
    assert!(store.retry_notification(id).await.expect("an answer"));
    assert!(!store.retry_notification(id + 1).await.expect("an answer"));
    assert_eq!(store.notification_backlog().await.expect("a backlog").pending, 1);
    let later = end(Some(429), Some("later"), Some(MINUTE)).await;
    assert_eq!((later.state, later.attempts), (NotificationState::Pending, 1));
    assert!(claim().await.is_none(), "it waits for a minute");
    assert!(store.retry_notification(id).await.expect("an answer"));
    assert_eq!(end(Some(204), None, None).await.state, NotificationState::Delivered);
    let of =
        async |state| store.notifications(Some(project), Some(state), None, 10).await.expect("some").len();
    assert_eq!((of(NotificationState::Delivered).await, of(NotificationState::Dead).await), (1, 0));
    assert_eq!(store.forget_notifications().await.expect("a count"), 0);
}

pub async fn one_project_does_not_hold_up_the_notifications_of_another(harness: &dyn Harness) {
    let store = harness.store();
    reached(&store, "busy", 8).await;
    let other = reached(&store, "other", 1).await;
    let claimed = store.claim_notifications(MINUTE, 5).await.expect("claims");
    assert!(claimed.iter().any(|claimed| claimed.notification.project == other));
}

pub async fn a_deleted_threshold_causes_and_delivers_nothing_more(harness: &dyn Harness) {
    let store = harness.store();
    let project = reached(&store, "p", 2).await;
    let first = all(&store).await[0].notification_id;
    assert!(store.delete_threshold("p", "any").await.expect("an answer"));
    assert!(!store.delete_threshold("p", "any").await.expect("an answer"));
    assert!(store.thresholds(None).await.expect("thresholds").is_empty());
    let states: Vec<_> = all(&store).await.into_iter().map(|one| one.delivery.state).collect();
    assert_eq!(states, [NotificationState::Dead; 2]);
    assert!(matches!(store.retry_notification(first).await, Err(StoreError::Invalid(_))));
    // A meter takes its thresholds along.
    let meter = of_meter("again", Aggregation::Count, ThresholdPeriod::Month, "1");
    store.set_threshold("p", &meter).await.expect("set");
    assert!(store.delete_meter("p", "count").await.expect("an answer"));
    assert!(store.thresholds(Some(project)).await.expect("thresholds").is_empty());
}

pub async fn a_threshold_that_changes_begins_again_and_one_with_another_url_does_not(harness: &dyn Harness) {
    let store = harness.store();
    reached(&store, "p", 1).await;
    let mut meter = of_meter("any", Aggregation::Count, ThresholdPeriod::Month, "1");
    meter.url = "https://other.example/".to_owned();
    let moved = store.set_threshold("p", &meter).await.expect("set");
    assert_eq!((moved.secret, moved.info.definition.url.as_str()), (None, "https://other.example/"));
    let claimed = store.claim_notifications(MINUTE, 10).await.expect("claims");
    assert_eq!(claimed[0].url, "https://other.example/");
    let changed = of_meter("any", Aggregation::Count, ThresholdPeriod::Month, "2");
    let changed = store.set_threshold("p", &changed).await.expect("set").info;
    assert_ne!(changed.threshold_id, moved.info.threshold_id);
    assert_eq!(all(&store).await[0].delivery.state, NotificationState::Dead);
}

pub async fn a_project_has_one_webhook_secret_that_can_be_rotated(harness: &dyn Harness) {
    let store = harness.store();
    project(&store, "p").await;
    let first = store.set_threshold("p", &quota("a", 80)).await.expect("set").secret.expect("a secret");
    assert!(first.starts_with("whsec_"), "{first}");
    assert_eq!(store.set_threshold("p", &quota("b", 90)).await.expect("set").secret, None);
    let second = store.rotate_webhook_secret("p", MINUTE).await.expect("a secret");
    assert_ne!(first, second);
    let unknown = store.rotate_webhook_secret("unknown", MINUTE).await;
    assert!(matches!(unknown, Err(StoreError::Missing(_))));
}

pub async fn a_rotated_webhook_secret_signs_with_the_new_one_until_it_ends(harness: &dyn Harness) {
    let store = harness.store();
    reached(&store, "p", 1).await;
    let secrets = async || {
        let claimed = store.claim_notifications(Duration::ZERO, 10).await.expect("claims");
        claimed.into_iter().next().expect("it is due").secrets
    };
    let first = secrets().await;
    store.rotate_webhook_secret("p", MINUTE).await.expect("a secret");
    let both = secrets().await;
    assert_eq!((both.len(), &both[1]), (2, &first[0]));
    store.rotate_webhook_secret("p", Duration::ZERO).await.expect("a secret");
    let last = secrets().await;
    assert_eq!(last.len(), 1);
    assert_ne!(last[0], both[0]);
}

pub async fn a_threshold_that_is_not_usable_is_refused(harness: &dyn Harness) {
    let store = harness.store();
    project(&store, "p").await;
    create(&store, Aggregation::Avg, MeterStart::Now).await;
    let refused = async |project: &str, definition: &ThresholdDefinition, part: &str| {
        let text = match store.set_threshold(project, definition).await {
            Err(StoreError::Invalid(text) | StoreError::Missing(text)) => text,
            other => panic!("{definition:?}: {:?}", other.map(|_| ())),
        };
        assert!(text.contains(part), "{text}");
    };
    refused("unknown", &quota("a", 80), "no project \"unknown\"").await;
    refused("p", &quota("A b", 80), "name \"A b\"").await;
    refused("p", &quota("a", 0), "from 1% to 100%").await;
    refused("p", &of_meter("a", Aggregation::Sum, ThresholdPeriod::Day, "1"), "no meter \"sum\"").await;
    refused("p", &of_meter("a", Aggregation::Avg, ThresholdPeriod::Day, "1"), "rise and fall").await;
    refused("p", &of_meter("a", Aggregation::Avg, ThresholdPeriod::Day, "-1"), "greater than 0").await;
    assert!(store.thresholds(None).await.expect("thresholds").is_empty());
}
