//! Promises about the keys of programs that manage the installation.

use millrace_event::key::{ADMIN_KEY_PREFIX, hash_key};
use millrace_store::{KeyOptions, PolicyChange, StoreError};

use super::*;

pub async fn an_admin_key_is_found_by_its_hash_until_it_is_revoked(harness: &dyn Harness) {
    let store = harness.store();
    assert_eq!(store.admin_keys().await.unwrap(), []);
    let new = store.create_admin_key("billing", None).await.unwrap();
    assert!(new.key.starts_with(ADMIN_KEY_PREFIX), "{}", new.key.len());
    let hash = hash_key(&new.key);
    let never_used = store.admin_keys().await.unwrap().remove(0);
    assert_eq!((never_used.name.as_str(), never_used.last_used_at), ("billing", None));
    let found = store.admin_key(&hash).await.unwrap().expect("the key is live");
    assert_eq!(
        (found.admin_key_id, found.name.as_str(), found.key_hash),
        (new.admin_key_id, "billing", hash)
    );
    assert!(store.admin_keys().await.unwrap()[0].last_used_at.is_some());
    assert_eq!(store.admin_key(&hash_key("mka_another")).await.unwrap(), None);
    // It is no key of a project, and the reverse.
    assert!(store.accounts().await.unwrap().iter().all(|account| account.key_hash != hash));
    let (_, of_project) =
        store.create_project("shop", "free", &PolicyChange::default(), &KeyOptions::default()).await.unwrap();
    assert_eq!(store.admin_key(&hash_key(&of_project.key)).await.unwrap(), None);
    assert!(store.revoke_admin_key(new.admin_key_id).await.unwrap());
    assert_eq!(store.admin_key(&hash).await.unwrap(), None);
    assert!(!store.revoke_admin_key(new.admin_key_id).await.unwrap(), "it is revoked already");
    assert!(store.admin_keys().await.unwrap()[0].revoked_at.is_some(), "it stays listed");
}

pub async fn a_chosen_admin_key_has_its_own_beginning_and_is_used_once(harness: &dyn Harness) {
    let store = harness.store();
    let chosen = "mka_0123456789abcdef0123456789abcdef";
    let new = store.create_admin_key("one", Some(chosen)).await.unwrap();
    assert_eq!(new.key, chosen);
    let taken = store.create_admin_key("two", Some(chosen)).await.unwrap_err();
    assert!(matches!(taken, StoreError::Conflict(_)), "{taken}");
    for (name, key) in [
        ("short", "mka_0123456789"),
        ("of a project", "mk_0123456789abcdef0123456789abcdef"),
        ("blank", "mka_0123456789abcdef 0123456789abcdef"),
        ("", chosen),
        ("line\nbreak", chosen),
    ] {
        let refused = store.create_admin_key(name, Some(key)).await.unwrap_err();
        assert!(matches!(refused, StoreError::Invalid(_)), "{name:?}: {refused}");
    }
    // A key of a project never looks like an admin key.
    let options = KeyOptions { chosen: Some(chosen.to_owned()), ..KeyOptions::default() };
    let refused = store.create_project("shop", "free", &PolicyChange::default(), &options).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Invalid(text) if text.contains("mka_")), "{refused}");
}

pub async fn projects_are_found_by_name_and_listed_page_by_page(harness: &dyn Harness) {
    let store = harness.store();
    for name in ["delta", "alpha", "charlie", "bravo"] {
        project(&store, name).await;
    }
    let found = store.project("charlie").await.unwrap().expect("the project exists");
    assert_eq!((found.name.as_str(), found.live_keys), ("charlie", 1));
    assert_eq!(store.project("charli").await.unwrap(), None);
    let (mut after, mut pages) = (String::new(), Vec::new());
    loop {
        let page = store.projects_after(&after, 3).await.unwrap();
        let Some(last) = page.last() else { break };
        after.clone_from(&last.name);
        pages.push(page);
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1]);
    assert_eq!(pages.concat(), store.projects().await.unwrap());
}
