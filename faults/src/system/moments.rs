//! Conditions that drills wait for before the next fault.

use testkit::eventually;
use testkit::oracle::Clients;

use super::System;
use crate::ending::CLIENTS_DEADLINE;
use crate::node::SOON;

impl System {
    /// Number of requests so far that were answered 5xx or not at all.
    pub fn unanswered(&self) -> u64 {
        self.projects.iter().map(|(project, _)| project.history.tally().unknown).sum()
    }

    /// Waits until this many more requests were answered 5xx or not at all.
    pub async fn more_unanswered(&self, more: u64) {
        let goal = self.unanswered() + more;
        let what = format!("{more} more requests to be left without an answer");
        eventually(SOON, &what, async || {
            let now = self.unanswered();
            if now >= goal { Ok(()) } else { Err(format!("{} to come", goal - now)) }
        })
        .await;
    }

    /// Number of requests of the project `limited` so far that were over the quota.
    pub fn over_quota(&self) -> u64 {
        self.project("limited").history.tally().refused.get("quota_exceeded").copied().unwrap_or(0)
    }

    /// Stops the clients and waits until the workers have drained the stream.
    pub async fn come_to_rest(&self, clients: Clients) {
        clients.stop(CLIENTS_DEADLINE).await;
        eventually(SOON, "the stream to be drained", async || {
            let entries = self.entries().await;
            if entries == 0 { Ok(()) } else { Err(format!("{entries} entries")) }
        })
        .await;
    }

    /// Sends SIGSTOP to every worker: entries admitted from now on stay in the stream.
    pub fn pause_workers(&mut self) {
        self.workers.iter_mut().for_each(|worker| worker.program().pause());
    }

    /// Sends SIGCONT to every worker.
    pub fn resume_workers(&mut self) {
        self.workers.iter_mut().for_each(|worker| worker.program().resume());
    }

    /// A number from INFO of Redis; 0 when it is missing.
    pub async fn info(&self, section: &str, field: &str) -> u64 {
        let mut redis = self.redis().connect().await;
        let info = redis::cmd("INFO").arg(section).query_async::<String>(&mut redis).await;
        let info = info.expect("Redis answers the oracle");
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let number = |value: &str| value.trim_start_matches("count=").trim().parse().ok();
        value.and_then(number).unwrap_or(0)
    }
}
