//! Promises about the data that operators list and change.

use std::time::{Duration, Instant};

use millrace_event::plan::Plan;
use millrace_event::policy::{Dedupe, KeyScope, OutOfBounds, ProjectPolicy};
use millrace_store::{
    ChangeMark, KeyInfo, KeyOptions, KeyUse, NewKey, PlanChange, PlanUpdate, PolicyChange, PolicyUpdate,
    StoreError,
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);
const CHANGED_LATEST: Duration = Duration::from_secs(120);

fn refused(error: StoreError, advice: &str) {
    assert!(
        matches!(&error, StoreError::Invalid(text) | StoreError::Missing(text) | StoreError::Conflict(text) if text.contains(advice)),
        "{advice:?}: {error}"
    );
}

async fn key(store: &SharedStore, key_id: i64) -> KeyInfo {
    let keys = store.keys(None).await.expect("keys");
    keys.into_iter().find(|key| key.key_id == key_id).expect("a key stays listed")
}

async fn plan(store: &SharedStore, name: &str) -> Plan {
    let plans = store.plans().await.expect("plans");
    plans.into_iter().find(|plan| plan.name == name).expect("the plan is there")
}

pub async fn projects_are_listed_with_their_plan_their_live_keys_and_their_last_use(harness: &dyn Harness) {
    let store = harness.store();
    assert_eq!(store.projects().await.expect("projects"), []);
    let (shop, first) = store
        .create_project("shop", "pro", &PolicyChange::default(), &KeyOptions::default())
        .await
        .expect("a project");
    let (quiet, _) = store
        .create_project("quiet", "free", &PolicyChange::default(), &KeyOptions::default())
        .await
        .expect("a project");
    let second = store.create_key("shop", &KeyOptions::default()).await.expect("a key");
    store.create_key("shop", &KeyOptions::default()).await.expect("a key");
    let now = OffsetDateTime::now_utc();
    let key_use = |key: &NewKey, at| KeyUse { key_id: key.key_id, at };
    store.touch_keys(&[key_use(&first, now - HOUR), key_use(&second, now)]).await.expect("touched");
    store.revoke_key(first.key_id).await.expect("revoked");
    store.rotate_key(second.key_id, Duration::ZERO, None).await.expect("rotated");

    let projects = store.projects().await.expect("projects");
    assert_eq!(projects.iter().map(|project| project.name.as_str()).collect::<Vec<_>>(), ["quiet", "shop"]);
    let facts = |at: usize| (projects[at].project, projects[at].plan.as_str(), projects[at].live_keys);
    assert_eq!((facts(0), facts(1)), ((quiet, "free", 1), (shop, "pro", 2)));
    assert_eq!(projects[0].last_used_at, None);
    assert_eq!(projects[1].last_used_at.map(OffsetDateTime::unix_timestamp), Some(now.unix_timestamp()));
    assert!((now - projects[0].created_at).abs() < time::Duration::HOUR, "{projects:?}");
}

pub async fn a_project_is_moved_to_another_plan(harness: &dyn Harness) {
    let store = harness.store();
    let shop = project(&store, "shop").await;
    store.move_project(shop, "enterprise").await.expect("moved");
    let accounts = store.accounts().await.expect("accounts");
    assert_eq!(accounts[0].plan.name, "enterprise");
    refused(store.move_project(shop, "gold").await.expect_err("refused"), "no plan named \"gold\"");
    refused(store.move_project(ProjectId(99), "free").await.expect_err("refused"), "no project");
}

pub async fn a_key_and_the_one_that_replaces_it_have_the_scope_and_the_origins_of_their_owner(
    harness: &dyn Harness,
) {
    let store = harness.store();
    project(&store, "shop").await;
    let origins = ["https://b.example", "HTTPS://A.example:443/", "https://b.example"].map(str::to_owned);
    let web =
        KeyOptions { scope: KeyScope::Write, allowed_origins: origins.to_vec(), ..KeyOptions::default() };
    let made = store.create_key("shop", &web).await.expect("a key");
    let expected = (KeyScope::Write, vec!["https://a.example".to_owned(), "https://b.example".to_owned()]);
    let listed = key(&store, made.key_id).await;
    assert_eq!((listed.scope, listed.allowed_origins), expected);
    let rotated = store.rotate_key(made.key_id, HOUR, None).await.expect("rotated").new;
    for key_id in [made.key_id, rotated.key_id] {
        let accounts = store.accounts().await.expect("accounts");
        let account = accounts.into_iter().find(|account| account.key_id == key_id).expect("a live key");
        assert_eq!((account.scope, account.allowed_origins), expected, "{key_id}");
    }
    let first = &store.keys(None).await.expect("keys")[0];
    assert_eq!((first.scope, first.allowed_origins.as_slice()), (KeyScope::Full, [].as_slice()));
    let wrong = KeyOptions { allowed_origins: vec!["*".to_owned()], ..KeyOptions::default() };
    refused(store.create_key("shop", &wrong).await.expect_err("refused"), "is no origin");
}

pub async fn a_project_has_the_policy_it_was_created_with_until_it_is_changed(harness: &dyn Harness) {
    let store = harness.store();
    let plain = project(&store, "plain").await;
    let change = PolicyChange {
        dedupe: Some(Dedupe::Id),
        oldest_s: Some(Some(31_536_000)),
        newest_s: Some(Some(86_400)),
        out_of_bounds: Some(OutOfBounds::Refuse),
        store_ip: Some(true),
    };
    let (strict, _) =
        store.create_project("strict", "free", &change, &KeyOptions::default()).await.expect("a project");
    let made = change.apply(ProjectPolicy::default()).expect("in range");
    let policies = async || {
        let listed: Vec<_> =
            store.projects().await.expect("projects").iter().map(|project| project.policy).collect();
        let mut accounts = store.accounts().await.expect("accounts");
        accounts.sort_unstable_by_key(|account| account.project);
        assert_eq!(listed, accounts.iter().map(|account| account.policy).collect::<Vec<_>>());
        listed
    };
    assert_eq!(policies().await, [ProjectPolicy::default(), made]);
    let open = PolicyChange { oldest_s: Some(None), ..PolicyChange::default() };
    let PolicyUpdate { before, after } = store.set_policy(strict, &open).await.expect("changed");
    assert_eq!((before, after), (made, ProjectPolicy { oldest_s: None, ..made }));
    assert_eq!(policies().await, [ProjectPolicy::default(), after]);
    let far = PolicyChange { newest_s: Some(Some(u64::MAX)), ..PolicyChange::default() };
    refused(store.set_policy(plain, &far).await.expect_err("refused"), "newest must be from 1");
    refused(store.set_policy(ProjectId(99), &open).await.expect_err("refused"), "no project");
    assert_eq!(policies().await, [ProjectPolicy::default(), after], "a refused change changes nothing");
}

pub async fn keys_are_listed_without_their_text(harness: &dyn Harness) {
    let store = harness.store();
    let (shop, plain) = store
        .create_project("shop", "pro", &PolicyChange::default(), &KeyOptions::default())
        .await
        .expect("a project");
    let (_, signed) = store
        .create_project(
            "bank",
            "pro",
            &PolicyChange::default(),
            &KeyOptions { signed: true, ..KeyOptions::default() },
        )
        .await
        .expect("a project");
    store.revoke_key(plain.key_id).await.expect("revoked");
    let keys = store.keys(None).await.expect("keys");
    let facts: Vec<_> = keys.iter().map(|key| (key.key_id, key.project.as_str(), key.signed)).collect();
    assert_eq!(facts, [(plain.key_id, "shop", false), (signed.key_id, "bank", true)]);
    assert!(keys[0].revoked_at.is_some() && keys[1].revoked_at.is_none(), "{keys:?}");
    assert!(keys.iter().all(|key| key.expires_at.is_none() && key.last_used_at.is_none()), "{keys:?}");
    assert_eq!(store.keys(Some(shop)).await.expect("keys"), keys[..1]);
    assert_eq!(store.keys(Some(ProjectId(99))).await.expect("keys"), []);
}

pub async fn a_rotated_key_is_valid_with_the_new_one_until_it_expires(harness: &dyn Harness) {
    let store = harness.store();
    let (shop, old) = store
        .create_project(
            "shop",
            "pro",
            &PolicyChange::default(),
            &KeyOptions { signed: true, ..KeyOptions::default() },
        )
        .await
        .expect("a project");
    let chosen = "the-next-key-of-the-shop";
    let rotated = store.rotate_key(old.key_id, HOUR, Some(chosen)).await.expect("rotated");
    assert_eq!((rotated.project.as_str(), rotated.new.key.as_str()), ("shop", chosen));
    let secret = rotated.new.signing_secret.clone().expect("a signed key is replaced with a signed key");
    assert_ne!(Some(secret), old.signing_secret, "the new key has another secret");
    let ahead = rotated.old_expires_at - OffsetDateTime::now_utc();
    assert!(ahead > HOUR / 2 && ahead <= HOUR + Duration::from_secs(60), "{rotated:?}");

    let both = store.accounts().await.expect("accounts");
    let facts: Vec<_> = both.iter().map(|account| (account.key_id, account.expires_at)).collect();
    assert_eq!(facts, [(old.key_id, Some(rotated.old_expires_at)), (rotated.new.key_id, None)]);
    assert!(both.iter().all(|account| account.project == shop && account.signing_secrets.len() == 1));
    assert_eq!(key(&store, old.key_id).await.expires_at, Some(rotated.old_expires_at));

    let next = store.rotate_key(rotated.new.key_id, Duration::ZERO, None).await.expect("rotated");
    let left = store.accounts().await.expect("accounts");
    let left: Vec<_> = left.iter().map(|account| account.key_id).collect();
    assert_eq!(left, [old.key_id, next.new.key_id], "without overlap the old key expires immediately");
}

pub async fn a_key_is_rotated_once_and_only_while_it_is_live(harness: &dyn Harness) {
    let store = harness.store();
    let (_, first) = store
        .create_project("shop", "pro", &PolicyChange::default(), &KeyOptions::default())
        .await
        .expect("a project");
    let rotate = async |key_id, overlap, chosen| store.rotate_key(key_id, overlap, chosen).await;
    refused(rotate(987_654, HOUR, None).await.expect_err("refused"), "no key with number 987654");
    refused(rotate(first.key_id, HOUR, Some("short")).await.expect_err("refused"), "16 to 200");
    refused(rotate(first.key_id, HOUR, Some(&first.key)).await.expect_err("refused"), "exists already");
    assert_eq!(key(&store, first.key_id).await.expires_at, None, "a refused rotation leaves the key live");

    let second = rotate(first.key_id, HOUR, None).await.expect("rotated").new;
    refused(rotate(first.key_id, HOUR, None).await.expect_err("refused"), "was rotated already");
    let third = rotate(second.key_id, Duration::ZERO, None).await.expect("rotated").new;
    refused(rotate(second.key_id, HOUR, None).await.expect_err("refused"), "has expired");
    store.revoke_key(third.key_id).await.expect("revoked");
    refused(rotate(third.key_id, HOUR, None).await.expect_err("refused"), "is revoked");
    assert_eq!(store.keys(None).await.expect("keys").len(), 3, "a refused rotation creates no key");
}

pub async fn a_change_of_a_plan_leaves_its_other_limits(harness: &dyn Harness) {
    let store = harness.store();
    let nothing = PlanChange::default();
    refused(store.set_plan("hobby", &nothing).await.expect_err("refused"), "no plan named \"hobby\"");
    refused(store.set_plan("", &nothing).await.expect_err("refused"), "1 to 100");
    let slow = PlanChange { requests_per_minute: Some(10), events_per_month: Some(Some(500)), ..nothing };
    let PlanUpdate { before, after: made } = store.set_plan("hobby", &slow).await.expect("created");
    assert_eq!((before, &made), (None, &plan(&store, "hobby").await));
    assert_eq!((made.requests_per_minute, made.burst, made.events_per_month), (10, 10, Some(500)));

    let burst = PlanChange { burst: Some(30), ..nothing };
    let PlanUpdate { before, after: changed } = store.set_plan("hobby", &burst).await.expect("changed");
    assert_eq!((before.as_ref(), &changed), (Some(&made), &Plan { burst: 30, ..made.clone() }));
    let unlimited = PlanChange { events_per_month: Some(None), events_per_batch: Some(7), ..nothing };
    let unlimited = store.set_plan("hobby", &unlimited).await.expect("changed").after;
    let expected = Plan { events_per_month: None, events_per_batch: 7, ..changed };
    assert_eq!((&unlimited, &plan(&store, "hobby").await), (&expected, &expected));
    let none = PlanChange { burst: Some(0), ..nothing };
    refused(store.set_plan("hobby", &none).await.expect_err("refused"), "burst must be from 1");
}

pub async fn changes_by_operators_are_noticed_immediately(harness: &dyn Harness) {
    let store = harness.store();
    let shop = project(&store, "shop").await;
    let mut key_id = store.create_key("shop", &KeyOptions::default()).await.expect("a key").key_id;
    // A wait may return early, so one that returns proves nothing by itself. Every wait must return.
    let started = Instant::now();
    let mut mark = ChangeMark::default();
    for round in 1..=3 {
        let rotating = async {
            let rotated = harness.another().rotate_key(key_id, HOUR, None).await;
            key_id = rotated.expect("rotated").new.key_id;
        };
        mark = tokio::join!(rotating, store.accounts_changed(mark, CHANGED_LATEST)).1.mark;
        let moving = async {
            harness.another().move_project(shop, ["free", "pro"][round % 2]).await.expect("moved");
        };
        mark = tokio::join!(moving, store.accounts_changed(mark, CHANGED_LATEST)).1.mark;
        let bounding = async {
            let change = PolicyChange { oldest_s: Some(Some(round as u64)), ..PolicyChange::default() };
            harness.another().set_policy(shop, &change).await.expect("changed");
        };
        mark = tokio::join!(bounding, store.accounts_changed(mark, CHANGED_LATEST)).1.mark;
        let changing = async {
            let change = PlanChange { burst: Some(round as u32), ..PlanChange::default() };
            harness.another().set_plan("pro", &change).await.expect("changed");
        };
        mark = tokio::join!(changing, store.accounts_changed(mark, CHANGED_LATEST)).1.mark;
    }
    assert!(started.elapsed() < CHANGED_LATEST, "the change was not noticed");
}

pub async fn usage_of_all_names_every_project(harness: &dyn Harness) {
    let store = harness.store();
    let (quiet, shop) = (project(&store, "quiet").await, project(&store, "shop").await);
    let day = now_ms() / DAY_MS * DAY_MS;
    let moment = |ms: u64| OffsetDateTime::from_unix_timestamp((ms / 1_000) as i64).expect("a moment");
    let batch = |ms, seq, ids| request(shop, new_batch_id(), entry(ms, seq), &events(day, ids));
    let requests = [batch(day - DAY_MS, 0, 1..=3), batch(day, 0, 3..=5), batch(day, 1, 6..=9)];
    writer(&store).await.write(&requests).await.expect("written");
    let usage = store.usage_of_all(moment(day), moment(day + DAY_MS)).await.expect("usage");
    let facts: Vec<_> = usage
        .iter()
        .map(|usage| (usage.project, usage.name.as_str(), usage.usage.events, usage.usage.duplicates))
        .collect();
    assert_eq!(facts, [(quiet, "quiet", 0, 0), (shop, "shop", 6, 1)]);
    assert!(usage[1].usage.bytes > 0 && usage[0].usage.bytes == 0, "{usage:?}");
    assert!(usage.iter().all(|usage| usage.usage.start == moment(day)), "{usage:?}");
}

pub async fn shards_are_counted_by_their_recorded_epochs(harness: &dyn Harness) {
    let store = harness.store();
    assert_eq!(store.shards_recorded().await.expect("an answer"), 0);
    for shard in 0..4 {
        assert!(store.replace_epoch(shard, None, Uuid::new_v4()).await.expect("an answer"));
    }
    assert_eq!(store.shards_recorded().await.expect("an answer"), 4);
}
