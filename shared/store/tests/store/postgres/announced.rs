//! Changes of accounts are announced with the projects that they concern: who reads only those has the same
//! accounts as one who reads all.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_event::plan::ProjectId;
use millrace_store::{ChangeMark, ChangedAccounts, KeyOptions, PlanChange, PolicyChange, SharedStore};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_postgres::Client;

use super::harness;
use crate::suite::*;

const PATIENCE: Duration = Duration::from_secs(120);
const SEQUENCES: u64 = 3;
const STEPS: usize = 40;
const PLANS: [&str; 3] = ["free", "pro", "enterprise"];

/// The accounts as a process knows them that reads only what has changed.
#[derive(Default)]
struct Reader {
    mark: ChangeMark,
    /// By hash of the key: the project, and everything about the account.
    accounts: BTreeMap<[u8; 32], (ProjectId, String)>,
    times_all: usize,
}

impl Reader {
    async fn read_changes(&mut self, store: &SharedStore) {
        let changes = store.accounts_changed(self.mark, PATIENCE).await;
        self.mark = changes.mark;
        let accounts = match changes.changed {
            ChangedAccounts::Nothing => return,
            ChangedAccounts::All => {
                self.times_all += 1;
                self.accounts.clear();
                store.accounts().await.expect("accounts")
            }
            ChangedAccounts::Projects(projects) => {
                self.accounts.retain(|_, (project, _)| !projects.contains(project));
                let projects: Vec<_> = projects.into_iter().collect();
                store.accounts_of(&projects).await.expect("accounts")
            }
        };
        let account = |account: millrace_event::plan::Account| {
            (account.key_hash, (account.project, format!("{account:?}")))
        };
        self.accounts.extend(accounts.into_iter().map(account));
    }

    /// Makes one more change and reads until it is there: notifications come in the order of the commits.
    async fn catch_up(&mut self, store: &SharedStore, client: &Client) {
        let add =
            "WITH p AS (INSERT INTO projects (name, plan) VALUES ('last ' || gen_random_uuid(), 'enterprise')
                              RETURNING project_id)
                   INSERT INTO api_keys (project_id, key_hash)
                   SELECT project_id, sha256(gen_random_uuid()::text::bytea) FROM p RETURNING key_hash";
        let hash: Vec<u8> = client.query_one(add, &[]).await.expect("added").get(0);
        let read = async {
            while !self.accounts.contains_key(hash.as_slice()) {
                self.read_changes(store).await;
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("the last change is announced");
    }

    async fn has_all(&self, store: &SharedStore, case: &str) {
        let all = store.accounts().await.expect("accounts");
        let all: BTreeMap<_, _> = all
            .into_iter()
            .map(|account| (account.key_hash, (account.project, format!("{account:?}"))))
            .collect();
        assert_eq!(self.accounts, all, "{case}");
    }
}

/// Random changes of a few projects each, as operators and scripts make them.
async fn change_something(random: &mut StdRng, store: &SharedStore, client: &Client) {
    let name = format!("p{}", random.random::<u64>());
    let plan = PLANS[random.random_range(0..PLANS.len())];
    let some = random.random_range(2..6);
    let statement = match random.random_range(0..14) {
        0 | 1 => {
            let (policy, key) = (PolicyChange::default(), KeyOptions::default());
            store.create_project(&name, plan, &policy, &key).await.expect("created");
            return;
        }
        2 => {
            let keys = store.keys(None).await.expect("keys");
            let live: Vec<_> = keys.iter().filter(|key| key.revoked_at.is_none()).collect();
            if let Some(key) = live.get(random.random_range(0..live.len().max(1))) {
                // A key can be rotated once.
                drop(store.rotate_key(key.key_id, Duration::from_secs(3_600), None).await);
            }
            return;
        }
        3 => format!("INSERT INTO api_keys (project_id, key_hash) SELECT project_id, sha256(gen_random_uuid()::text::bytea)
                      FROM projects WHERE project_id % {some} = 0"),
        4 => format!("UPDATE api_keys SET revoked_at = now() WHERE key_id % {some} = 0 AND revoked_at IS NULL"),
        5 => format!("UPDATE api_keys SET revoked_at = NULL WHERE key_id % {some} = 0"),
        6 => format!("UPDATE projects SET plan = '{plan}' WHERE project_id % {some} = 0"),
        7 => format!("UPDATE projects SET name = name || '+' WHERE project_id % {some} = 0 AND length(name) < 150"),
        8 => format!("UPDATE projects SET dedupe = 'id', oldest_s = {some}, store_ip = NOT store_ip WHERE project_id % {some} = 0"),
        9 => format!("UPDATE api_keys SET project_id = (SELECT min(project_id) FROM projects) WHERE key_id % {some} = 0"),
        10 => format!("DELETE FROM api_keys WHERE key_id % {some} = 1"),
        11 => format!("BEGIN; DELETE FROM api_keys WHERE project_id % {some} = 1;
                       DELETE FROM projects WHERE project_id % {some} = 1; COMMIT"),
        12 => format!("BEGIN; UPDATE api_keys SET scope = 'read', expires_at = now() WHERE key_id % {some} = 0; ROLLBACK"),
        _ => format!("UPDATE api_keys SET allowed_origins = '{{https://a.example}}', scope = 'write',
                      expires_at = now() + interval '1 day' WHERE key_id % {some} = 0"),
    };
    client.batch_execute(&statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
}

#[tokio::test]
async fn reading_what_changed_gives_the_same_accounts_as_reading_all() {
    // Keeps the server that the databases of all sequences are on.
    let _first = harness().await;
    for seed in 0..SEQUENCES {
        let harness = harness().await;
        let (store, client) = (harness.store(), harness.connect().await);
        let operator = harness.another();
        let mut random = StdRng::seed_from_u64(seed);
        let mut reader = Reader::default();
        reader.catch_up(&store, &client).await;
        for step in 0..STEPS {
            change_something(&mut random, &operator, &client).await;
            if step % 10 == 9 {
                reader.catch_up(&store, &client).await;
                reader.has_all(&store, &format!("seed {seed}, step {step}")).await;
            }
        }
        assert_eq!(reader.times_all, 1, "all accounts are read only at the start, seed {seed}");
    }
}

#[tokio::test]
async fn a_change_that_concerns_many_projects_or_a_plan_is_a_change_of_all() {
    let harness = harness().await;
    let (store, client) = (harness.store(), harness.connect().await);
    let mut reader = Reader::default();
    reader.catch_up(&store, &client).await;
    let many = |count: u32| {
        format!(
            "WITH p AS (INSERT INTO projects (name, plan) SELECT gen_random_uuid()::text, 'free'
                          FROM generate_series(1, {count}) RETURNING project_id)
             INSERT INTO api_keys (project_id, key_hash)
             SELECT project_id, sha256(gen_random_uuid()::text::bytea) FROM p"
        )
    };
    let statements = [
        (many(300), 0),
        (many(301), 1),
        ("UPDATE plans SET burst = 9 WHERE name = 'free'".to_owned(), 1),
        ("UPDATE plans SET name = 'gratis' WHERE name = 'free'".to_owned(), 1),
        ("UPDATE plans SET name = 'free' WHERE name = 'gratis'".to_owned(), 1),
        ("DELETE FROM api_keys WHERE key_id % 2 = 0".to_owned(), 1),
        ("TRUNCATE api_keys".to_owned(), 1),
        ("TRUNCATE projects CASCADE".to_owned(), 1),
    ];
    for (statement, times) in statements {
        let before = reader.times_all;
        client.batch_execute(&statement).await.expect(&statement);
        reader.catch_up(&store, &client).await;
        reader.has_all(&store, &statement).await;
        assert_eq!(reader.times_all.min(before + 1) - before, times, "{statement}");
    }
    let burst = PlanChange { burst: Some(3), ..PlanChange::default() };
    store.set_plan("free", &burst).await.expect("changed");
    reader.catch_up(&store, &client).await;
    reader.has_all(&store, "a plan").await;
}

#[tokio::test]
async fn changes_during_a_lost_connection_are_not_missed() {
    let harness = harness().await;
    let (store, client) = (harness.store(), harness.connect().await);
    let mut reader = Reader::default();
    reader.catch_up(&store, &client).await;
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND query LIKE '%pg_listening_channels%' AND pid <> pg_backend_pid()";
    let killed = async || client.query_one(kill, &[]).await.expect("killed").get::<_, i64>(0) > 0;
    testkit::eventually(PATIENCE, "the listener to be seen and killed", killed).await;
    client.batch_execute("UPDATE projects SET plan = 'pro'").await.expect("changed");
    reader.catch_up(&store, &client).await;
    reader.has_all(&store, "after the connection was lost").await;
    assert_eq!(reader.times_all, 2, "all accounts are read again");
}
