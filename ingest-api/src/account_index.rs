//! The accounts of one moment, found by key. To change the accounts of a few projects makes a new index that
//! shares all others with the old one, so its cost does not grow with the number of accounts. Pure.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use millrace_event::plan::{Account, ProjectId};

use crate::api_key::ApiKey;
use crate::project::Project;
use crate::sharded_map::ShardedMap;

/// All keys that are not revoked, by hash and by project. Some may have expired since they were read.
#[derive(Clone, Debug, Default)]
pub struct AccountIndex {
    keys: ShardedMap<[u8; 32], Arc<ApiKey>>,
    projects: ShardedMap<ProjectId, Arc<ProjectKeys>>,
}

/// A project that has a key.
#[derive(Debug)]
pub struct ProjectKeys {
    project: Arc<Project>,
    /// At least one.
    keys: Vec<Arc<ApiKey>>,
}

impl AccountIndex {
    /// The key with this hash.
    pub fn key(&self, hash: &[u8; 32]) -> Option<&Arc<ApiKey>> {
        self.keys.get(hash)
    }

    pub fn keys(&self) -> impl Iterator<Item = &Arc<ApiKey>> {
        self.keys.values()
    }

    /// One account of every project that has a key.
    pub fn projects(&self) -> impl Iterator<Item = &Account> {
        self.projects.values().filter_map(|project| project.keys.first()).map(|key| &key.account)
    }

    /// Keys in the index.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// An index of these accounts and no others. What the process knows about their projects and keys is
    /// kept.
    pub fn replaced(&self, accounts: Vec<Account>) -> Self {
        let mut index = Self::default();
        index.insert(accounts, self);
        index
    }

    /// The same index, in which these projects have these accounts and no others. Every account must be of
    /// one of the projects.
    pub fn with(&self, projects: &BTreeSet<ProjectId>, accounts: Vec<Account>) -> Self {
        let mut index = self.clone();
        for project in projects {
            let Some(removed) = self.projects.get(project) else { continue };
            for key in &removed.keys {
                let hash = &key.account.key_hash;
                // A key that has moved to another project stays there.
                if index.keys.get(hash).is_some_and(|now| now.account.project == *project) {
                    index.keys.remove(hash);
                }
            }
            index.projects.remove(project);
        }
        index.insert(accounts, self);
        index
    }

    /// Adds accounts of projects that have none yet. `before` is the index that they were in.
    fn insert(&mut self, accounts: Vec<Account>, before: &Self) {
        let mut projects: HashMap<ProjectId, ProjectKeys> = HashMap::new();
        for mut account in accounts {
            let ProjectKeys { project, keys } = projects.entry(account.project).or_insert_with(|| {
                let known = before.projects.get(&account.project).map(|keys| &keys.project);
                ProjectKeys { project: project_under(&account, known), keys: Vec::new() }
            });
            // One plan in memory, and not one for each time that it was read.
            account.plan = Arc::clone(project.plan());
            let known = before.keys.get(&account.key_hash);
            let key = Arc::new(ApiKey::new(account, Arc::clone(project), known.map(AsRef::as_ref)));
            self.keys.insert(key.account.key_hash, Arc::clone(&key));
            keys.push(key);
        }
        for (id, mut project) in projects {
            project.keys.shrink_to_fit();
            self.projects.insert(id, Arc::new(project));
        }
    }
}

/// The project of an account, with the limits that this process knows of it.
fn project_under(account: &Account, known: Option<&Arc<Project>>) -> Arc<Project> {
    match known {
        Some(project) if *project.plan() == account.plan => Arc::clone(project),
        Some(project) => Arc::new(project.with_plan(Arc::clone(&account.plan))),
        None => Arc::new(Project::new(Arc::clone(&account.plan))),
    }
}

#[cfg(test)]
mod tests {
    use millrace_event::plan::Plan;
    use millrace_event::policy::{KeyScope, ProjectPolicy};
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    /// The rows of a small store: keys with their project, and the plan of every project.
    #[derive(Clone, Default, Debug)]
    struct Rows {
        keys: HashMap<u8, i64>,
        plans: HashMap<i64, u32>,
    }

    #[derive(Clone, Debug)]
    enum Change {
        Key { key: u8, project: i64 },
        Revocation { key: u8 },
        Plan { project: i64, burst: u32 },
    }

    impl Rows {
        /// Makes the change, and returns the projects that it concerns.
        fn make(&mut self, change: &Change) -> Vec<ProjectId> {
            let projects = match *change {
                Change::Key { key, project } => vec![self.keys.insert(key, project), Some(project)],
                Change::Revocation { key } => vec![self.keys.remove(&key)],
                Change::Plan { project, burst } => {
                    self.plans.insert(project, burst);
                    vec![Some(project)]
                }
            };
            projects.into_iter().flatten().map(ProjectId).collect()
        }

        fn accounts(&self, wanted: impl Fn(ProjectId) -> bool) -> Vec<Account> {
            let keys = self.keys.iter().filter(|(_, project)| wanted(ProjectId(**project)));
            keys.map(|(key, project)| account(*key, *project, *self.plans.get(project).unwrap_or(&1)))
                .collect()
        }
    }

    fn account(key: u8, project: i64, burst: u32) -> Account {
        Account {
            project: ProjectId(project),
            project_name: "shop".into(),
            key_id: i64::from(key),
            key_hash: [key; 32],
            plan: Arc::new(Plan {
                name: "test".into(),
                requests_per_minute: 60,
                burst,
                events_per_month: None,
                events_per_batch: 10,
            }),
            policy: ProjectPolicy::default(),
            scope: KeyScope::Full,
            allowed_origins: Vec::new(),
            expires_at: None,
            signing_secrets: Vec::new(),
        }
    }

    fn change() -> impl Strategy<Value = Change> {
        let project = || 0..6_i64;
        prop_oneof![
            (0..12_u8, project()).prop_map(|(key, project)| Change::Key { key, project }),
            (0..12_u8).prop_map(|key| Change::Revocation { key }),
            (project(), 1..3_u32).prop_map(|(project, burst)| Change::Plan { project, burst }),
        ]
    }

    /// Everything that can be found in an index.
    fn contents(index: &AccountIndex) -> (Vec<String>, Vec<String>, usize) {
        let find = |key: u8| index.key(&[key; 32]).map(|key| format!("{:?} {:?}", key.account, key.plan()));
        let mut projects: Vec<_> =
            index.projects().map(|account| format!("{} {:?}", account.project, account.plan)).collect();
        projects.sort_unstable();
        ((0..12).filter_map(find).collect(), projects, index.len())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn an_index_with_changes_finds_the_same_accounts_as_a_new_one(rounds in vec(vec(change(), 1..6), 1..20)) {
            let mut rows = Rows::default();
            let mut index = AccountIndex::default();
            for changes in &rounds {
                let before = contents(&index);
                let concerned: BTreeSet<_> = changes.iter().flat_map(|change| rows.make(change)).collect();
                let next = index.with(&concerned, rows.accounts(|project| concerned.contains(&project)));
                let all = index.replaced(rows.accounts(|_| true));
                prop_assert_eq!(contents(&next), contents(&all));
                prop_assert_eq!(contents(&index), before, "readers of the old index see no change");
                index = next;
            }
        }

        #[test]
        fn projects_may_be_read_one_after_the_other(
            rounds in vec(vec(change(), 1..6), 1..10), order in btree_set(any::<i64>(), 1..2)
        ) {
            let mut rows = Rows::default();
            let mut index = AccountIndex::default();
            for changes in &rounds {
                let mut concerned: Vec<_> = changes.iter().flat_map(|change| rows.make(change)).collect();
                if order.iter().any(|number| number % 2 == 0) {
                    concerned.reverse();
                }
                for project in concerned {
                    index = index.with(&BTreeSet::from([project]), rows.accounts(|wanted| wanted == project));
                }
                prop_assert_eq!(contents(&index), contents(&AccountIndex::default().replaced(rows.accounts(|_| true))));
            }
        }
    }

    #[test]
    fn what_the_process_knows_of_a_project_and_a_key_outlives_a_reading() {
        let first = AccountIndex::default().replaced(vec![account(1, 1, 5), account(2, 2, 5)]);
        let project = |index: &AccountIndex, key: u8| Arc::clone(&index.key(&[key; 32]).unwrap().project);
        first.key(&[1; 32]).unwrap().touch();
        let second = first.with(&BTreeSet::from([ProjectId(1)]), vec![account(1, 1, 5)]);
        assert!(Arc::ptr_eq(&project(&first, 1), &project(&second, 1)), "the same plan is the same project");
        assert!(second.key(&[1; 32]).unwrap().take_last_used_s().is_some());
        let third = second.with(&BTreeSet::from([ProjectId(1)]), vec![account(1, 1, 6)]);
        assert!(!Arc::ptr_eq(&project(&second, 1), &project(&third, 1)));
        assert!(Arc::ptr_eq(&project(&first, 2), &project(&third, 2)), "others are not touched");
    }
}
