//! The limits of customers in memory. The request path reads them without a lock. The limits of a project are
//! read again only when their version has changed, because there may be very many of them. While the store is
//! down, those that were read last stay.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use millrace_event::limit::LimitSet;
use millrace_event::plan::ProjectId;
use millrace_store::{SharedStore, StoreError};

/// How long reading may take: 100,000 limits take about a tenth of a second.
const READ_TIME_MAX: Duration = Duration::from_secs(30);

/// The limits of all projects, as they were read last.
#[derive(Debug, Default)]
pub struct LimitSnapshot(ArcSwap<HashMap<ProjectId, ProjectLimits>>);

#[derive(Clone, Debug)]
struct ProjectLimits {
    version: i64,
    /// `None` when all were removed.
    set: Option<Arc<LimitSet>>,
}

impl LimitSnapshot {
    /// The limits of a project; `None` if it has none.
    pub fn of(&self, project: ProjectId) -> Option<Arc<LimitSet>> {
        self.0.load().get(&project)?.set.clone()
    }

    /// Reads what has changed.
    ///
    /// # Errors
    /// [`StoreError`]; what was read before stays.
    pub async fn refresh(&self, store: &SharedStore) -> Result<(), StoreError> {
        let refresh = async {
            let versions = store.limit_versions().await?;
            let known = self.0.load_full();
            let mut changed = None;
            for (project, version) in versions {
                if known.get(&project).is_none_or(|limits| limits.version != version) {
                    // What is read is of this version or of a newer one, which is then read again.
                    let set = store.limit_set(project).await?;
                    let set = (!set.is_empty()).then(|| Arc::new(set));
                    let all = changed.get_or_insert_with(|| HashMap::clone(&known));
                    all.insert(project, ProjectLimits { version, set });
                }
            }
            if let Some(changed) = changed {
                self.0.store(Arc::new(changed));
            }
            Ok(())
        };
        let read = tokio::time::timeout(READ_TIME_MAX, refresh).await;
        read.unwrap_or_else(|_| Err(StoreError::Unavailable("no answer in time".to_owned())))
    }
}
