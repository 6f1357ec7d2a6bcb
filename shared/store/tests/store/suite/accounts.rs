//! Promises about keys, projects and plans.

use std::time::{Duration, Instant};

use millrace_event::key::hash_key;
use millrace_store::{ChangeMark, KeyOptions, KeyUse, PolicyChange, StoreError};
use time::OffsetDateTime;

use super::*;

pub async fn a_key_is_valid_until_it_is_revoked(harness: &dyn Harness) {
    let store = harness.store();
    let (project, first) = store
        .create_project("shop", "pro", &PolicyChange::default(), &KeyOptions::default())
        .await
        .expect("a project");
    let second = store.create_key("shop", &KeyOptions::default()).await.expect("a key");
    let accounts = store.accounts().await.expect("accounts");
    assert_eq!(accounts.len(), 2);
    for (account, key) in accounts.iter().zip([&first, &second]) {
        assert_eq!((account.project, account.key_id), (project, key.key_id));
        assert_eq!(account.key_hash, hash_key(&key.key));
        assert_eq!((&*account.project_name, &*account.plan.name), ("shop", "pro"));
        assert!(account.signing_secrets.is_empty());
    }
    assert!(store.revoke_key(first.key_id).await.expect("an answer"));
    assert!(!store.revoke_key(first.key_id).await.expect("an answer"), "it is revoked already");
    let left = store.accounts().await.expect("accounts");
    assert_eq!(left.iter().map(|account| account.key_id).collect::<Vec<_>>(), [second.key_id]);
}

pub async fn a_signed_key_comes_with_its_secret(harness: &dyn Harness) {
    let store = harness.store();
    let (_, key) = store
        .create_project(
            "shop",
            "free",
            &PolicyChange::default(),
            &KeyOptions { signed: true, ..KeyOptions::default() },
        )
        .await
        .expect("a project");
    let secret = key.signing_secret.expect("a secret");
    let account = store.accounts().await.expect("accounts").remove(0);
    assert_eq!(account.signing_secrets.len(), 1);
    assert_eq!(millrace_event::key::show_secret(&account.signing_secrets[0]), secret);
}

pub async fn a_chosen_key_can_be_used_once(harness: &dyn Harness) {
    let store = harness.store();
    let chosen = "a-key-of-my-own-choice";
    let (_, key) = store
        .create_project(
            "one",
            "free",
            &PolicyChange::default(),
            &KeyOptions { chosen: Some(chosen.to_owned()), ..KeyOptions::default() },
        )
        .await
        .expect("a project");
    assert_eq!(key.key, chosen);
    let taken = store
        .create_project(
            "two",
            "free",
            &PolicyChange::default(),
            &KeyOptions { chosen: Some(chosen.to_owned()), ..KeyOptions::default() },
        )
        .await;
    assert!(matches!(taken, Err(StoreError::Conflict(_))), "{taken:?}");
    let short = store
        .create_key("one", &KeyOptions { chosen: Some("short".to_owned()), ..KeyOptions::default() })
        .await;
    assert!(matches!(short, Err(StoreError::Invalid(_))), "{short:?}");
    // The refused project was not created.
    store
        .create_project("two", "free", &PolicyChange::default(), &KeyOptions::default())
        .await
        .expect("the name is still free");
}

pub async fn an_invalid_name_or_plan_is_refused_with_advice(harness: &dyn Harness) {
    let store = harness.store();
    project(&store, "taken").await;
    for (name, plan, advice) in [
        ("taken", "free", "already"),
        ("new", "gold", "no plan named"),
        ("", "free", "1 to 200"),
        ("line\nbreak", "free", "visible"),
    ] {
        let refused = store
            .create_project(name, plan, &PolicyChange::default(), &KeyOptions::default())
            .await
            .expect_err("refused");
        assert!(refused.to_string().contains(advice), "{name}: {refused}");
    }
    let refused = store.create_key("unknown", &KeyOptions::default()).await.expect_err("refused");
    assert!(matches!(refused, StoreError::Missing(_)), "{refused}");
}

pub async fn last_use_only_moves_forward(harness: &dyn Harness) {
    let store = harness.store();
    let (_, key) = store
        .create_project("shop", "free", &PolicyChange::default(), &KeyOptions::default())
        .await
        .expect("a project");
    let now = OffsetDateTime::now_utc();
    let earlier = now - Duration::from_secs(60);
    let key_use = |key_id, at| KeyUse { key_id, at };
    let uses = [key_use(key.key_id, earlier), key_use(key.key_id, now), key_use(987_654, now)];
    store.touch_keys(&uses).await.expect("touched");
    store.touch_keys(&uses[..1]).await.expect("touched");
    store.touch_keys(&[]).await.expect("touched");
    assert_eq!(harness.last_used_us(key.key_id).await, Some((now.unix_timestamp_nanos() / 1_000) as i64));
}

pub async fn a_change_of_accounts_is_noticed_immediately(harness: &dyn Harness) {
    const LONG: Duration = Duration::from_secs(120);
    let store = harness.store();
    // A wait may return early, so one that returns proves nothing by itself. Every wait must return.
    let started = Instant::now();
    let mut mark = ChangeMark::default();
    for round in 0..5 {
        let changing = async {
            let key = harness
                .another()
                .create_project(
                    &format!("p{round}"),
                    "free",
                    &PolicyChange::default(),
                    &KeyOptions::default(),
                )
                .await;
            harness.another().revoke_key(key.expect("a project").1.key_id).await.expect("revoked");
        };
        mark = tokio::join!(changing, store.accounts_changed(mark, LONG)).1.mark;
    }
    assert!(started.elapsed() < LONG, "the change was not noticed");
}

pub async fn three_plans_come_with_the_store(harness: &dyn Harness) {
    let plans = harness.store().plans().await.expect("plans");
    let facts: Vec<_> = plans
        .iter()
        .map(|plan| {
            (plan.name.as_str(), plan.requests_per_minute, plan.events_per_month, plan.events_per_batch)
        })
        .collect();
    let expected = [
        ("free", 100, Some(100_000), 1_000),
        ("pro", 1_000, Some(10_000_000), 1_000),
        ("enterprise", 10_000, None, 1_000),
    ];
    assert_eq!(facts, expected);
}
