//! Facts that drills wait for before they break the next thing, and the tools that bring them about.

use testkit::eventually;
use testkit::oracle::Clients;

use super::System;
use crate::ending::CLIENTS_DEADLINE;
use crate::node::SOON;

impl System {
    /// Requests so far that were answered 5xx or not at all.
    pub fn unanswered(&self) -> u64 {
        self.projects.iter().map(|(project, _)| project.history.tally().unknown).sum()
    }

    /// Waits until so many more requests were answered 5xx or not at all.
    pub async fn more_unanswered(&self, more: u64) {
        let goal = self.unanswered() + more;
        let what = format!("{more} more requests to be left without an answer");
        eventually(SOON, &what, async || {
            let now = self.unanswered();
            if now >= goal { Ok(()) } else { Err(format!("{} to come", goal - now)) }
        })
        .await;
    }

    /// Requests of the project `limited` so far that were over the quota.
    pub fn over_quota(&self) -> u64 {
        self.project("limited").history.tally().refused.get("quota_exceeded").copied().unwrap_or(0)
    }

    /// Lets every client come to an end, and the workers drain what they have posted.
    pub async fn come_to_rest(&self, clients: Clients) {
        clients.stop(CLIENTS_DEADLINE).await;
        eventually(SOON, "the stream to be drained", async || {
            let entries = self.entries().await;
            if entries == 0 { Ok(()) } else { Err(format!("{entries} entries")) }
        })
        .await;
    }

    /// SIGSTOP to every worker: what is admitted from now on stays in the stream.
    pub fn pause_workers(&mut self) {
        self.workers.iter_mut().for_each(|worker| worker.program().pause());
    }

    /// SIGCONT to every worker.
    pub fn resume_workers(&mut self) {
        self.workers.iter_mut().for_each(|worker| worker.program().resume());
    }

    /// A number from Redis's INFO.
    pub async fn info(&self, section: &str, field: &str) -> u64 {
        let mut redis = self.redis.connect().await;
        let info = redis::cmd("INFO").arg(section).query_async::<String>(&mut redis).await;
        let info = info.expect("Redis answers the oracle");
        let value = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let number = |value: &str| value.trim_start_matches("count=").trim().parse().ok();
        value.and_then(number).unwrap_or(0)
    }
}
