//! A PostgreSQL with a standby: the primary dies, and the standby is promoted without the last commits.

use std::net::SocketAddr;
use std::time::Duration;

use millrace_event::entry::NewBatch;
use millrace_event::plan::{Plan, ProjectId};
use millrace_event::row::Row;
use millrace_reconcile::audit::{self, Rule};
use millrace_reconcile::epoch;
use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_store::{KeyOptions, PolicyChange, SharedStore};
use millrace_stream::redis::{RedisOptions, RedisStream};
use millrace_stream::{Admission, Decision, SharedStream};
use testkit::{Postgres, Program, Redis, eventually, http};
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(120);

/// A primary with a standby, a stream, and two projects.
struct Rig {
    redis: Redis,
    old: Postgres,
    new: Postgres,
    /// Both servers.
    url: String,
    stream: SharedStream,
    store: SharedStore,
    projects: [ProjectId; 2],
}

impl Rig {
    async fn start() -> Self {
        let (redis, old) = (Redis::start().await, Postgres::start().await);
        let migrating = PostgresStore::new(PostgresOptions {
            source: old.config().into(),
            pool_size: 2,
            application: "millrace-test",
        });
        let operators: SharedStore = migrating;
        operators.migrate().await.unwrap();
        let mut projects = Vec::new();
        for name in ["shop", "blog"] {
            let (policy, key) = (PolicyChange::default(), KeyOptions::default());
            projects.push(operators.create_project(name, "enterprise", &policy, &key).await.unwrap().0);
        }
        let new = old.start_standby().await;
        let url = old.url_with(&new);
        let store: SharedStore = PostgresStore::new(PostgresOptions {
            source: url.as_str().into(),
            pool_size: 4,
            application: "millrace-test",
        });
        let stream: SharedStream = RedisStream::new(RedisOptions::new(redis.url())).unwrap();
        eventually(SOON, "an epoch", async || epoch::reconcile(&*stream, &*store).await).await;
        Self { redis, old, new, url, stream, store, projects: [projects[0], projects[1]] }
    }

    fn worker(&self, settle_after: &str) -> Program {
        let redis = self.redis.url();
        let variables = [
            ("REDIS_URL", redis.as_str()),
            ("DATABASE_URL", &self.url),
            ("METRICS_ADDR", "127.0.0.1:0"),
            ("SETTLE_AFTER", settle_after),
        ];
        Program::start("stream-worker", &variables)
    }

    /// A batch of one event for each of these projects.
    async fn admit(&self, projects: &[ProjectId]) {
        for project in projects {
            let mut rows = Vec::new();
            let row = Row::bare(*project, Uuid::new_v4(), "order");
            row.write(&mut rows);
            let batch = NewBatch::new(Uuid::now_v7(), *project, 1, rows);
            let plan = Plan {
                name: "any".to_owned(),
                requests_per_minute: 100_000,
                burst: 100_000,
                events_per_month: None,
                events_per_batch: 1_000,
            };
            let admission = Admission { batch: &batch, plan: &plan, digest: None, awaited: false };
            let decision = self.stream.admit(&admission).await.unwrap();
            assert!(matches!(decision, Decision::Admitted { .. }), "{decision:?}");
        }
    }

    /// Four events that both servers have, all settled.
    async fn store_four(&self) {
        let [shop, blog] = self.projects;
        self.admit(&[shop, shop, blog, blog]).await;
        self.stream_drains().await;
        self.new.catch_up(&self.old).await;
    }

    /// Three events of the one project and two of the other.
    async fn admit_five(&self) {
        let [shop, blog] = self.projects;
        self.admit(&[shop, shop, shop, blog, blog]).await;
    }

    async fn stream_drains(&self) {
        let entries = async || match self.stream.backlog().await.map(|backlog| backlog.entries) {
            Ok(0) => Ok(()),
            other => Err(format!("{other:?}")),
        };
        eventually(SOON, "an empty stream", entries).await;
    }

    async fn fail_over(&mut self) {
        self.old.kill().await;
        self.new.promote().await;
    }

    /// How many events each project lacks, of all that the stream has accepted; from a full audit.
    async fn missing(&self) -> Vec<(ProjectId, i128)> {
        let balances =
            eventually(SOON, "an audit", async || audit::audit(&*self.stream, &*self.store, true).await)
                .await;
        let broken = |balance: &audit::Balance| {
            let rule = balance.violations.iter().find(|violation| violation.rule == Rule::Conservation)?;
            Some((balance.project, rule.difference()))
        };
        balances.iter().filter_map(broken).collect()
    }

    async fn assert_all_stored(&self, events: i64) {
        assert_eq!(count_events(&self.new).await, events, "each event once");
        assert_eq!(self.missing().await, []);
    }
}

async fn count_events(server: &Postgres) -> i64 {
    let row = server.connect().await.query_one("SELECT count(*) FROM events", &[]).await;
    row.unwrap().get(0)
}

async fn metric(address: SocketAddr, name: &str) -> Option<f64> {
    let answer = http::get(address, "/metrics", &[]).await;
    let page = String::from_utf8(answer.body.to_vec()).ok()?;
    let line = page.lines().find(|line| line.split([' ', '{']).next() == Some(name))?;
    line.rsplit(' ').next()?.parse().ok()
}

async fn metric_becomes(address: SocketAddr, name: &str, value: f64) {
    eventually(SOON, &format!("{name} to be {value}"), async || match metric(address, name).await {
        Some(found) if (found - value).abs() < 0.5 => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failover_lost_is_counted_by_project_at_once() {
    let mut rig = Rig::start().await;
    let mut worker = rig.worker("commit");
    let address = worker.metrics_address().await;
    worker.wait_for_line("a failover to the standby can lose stored events").await;
    metric_becomes(address, "millrace_store_standbys", 1.0).await;
    rig.store_four().await;
    rig.new.cut_replication().await;
    rig.admit_five().await;
    rig.stream_drains().await;
    rig.fail_over().await;
    let line = worker.wait_for_line("PostgreSQL is on another timeline").await;
    assert!(line.contains("old=1") && line.contains("new=2"), "{line}");
    metric_becomes(address, "millrace_conservation_broken_projects", 2.0).await;
    metric_becomes(address, "millrace_store_failovers_total", 1.0).await;
    let [shop, blog] = rig.projects;
    assert_eq!(rig.missing().await, [(shop, -3), (blog, -2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_stopped_during_the_failover_finds_what_it_lost() {
    let mut rig = Rig::start().await;
    let mut worker = rig.worker("commit");
    rig.store_four().await;
    rig.new.cut_replication().await;
    rig.admit_five().await;
    rig.stream_drains().await;
    worker.terminate();
    worker.wait_exit().await;
    rig.fail_over().await;
    let mut worker = rig.worker("commit");
    worker.wait_for_line("PostgreSQL is on another timeline").await;
    worker.wait_for_line("the counts of a project do not add up").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_loses_nothing_that_waits_for_a_standby() {
    let mut rig = Rig::start().await;
    let mut worker = rig.worker("standby");
    let address = worker.metrics_address().await;
    rig.store_four().await;
    rig.new.cut_replication().await;
    rig.admit_five().await;
    eventually(SOON, "the commits on the old primary", async || count_events(&rig.old).await == 9).await;
    metric_becomes(address, "millrace_settlements_waiting", 5.0).await;
    assert_eq!(rig.stream.backlog().await.unwrap().entries, 5, "what no standby has stays in the stream");
    rig.fail_over().await;
    let _standby = rig.new.start_standby().await;
    rig.stream_drains().await;
    metric_becomes(address, "millrace_settlements_waiting", 0.0).await;
    rig.assert_all_stored(9).await;
    worker.terminate();
    assert!(worker.wait_exit().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_standby_loses_nothing() {
    let mut rig = Rig::start().await;
    let mut worker = rig.worker("commit");
    rig.store_four().await;
    let operator = rig.old.connect().await;
    operator.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await.unwrap();
    operator.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    worker.wait_for_line("warning about the standbys of PostgreSQL no longer applies").await;
    rig.new.cut_replication().await;
    rig.admit_five().await;
    let waits = "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    eventually(SOON, "a commit that waits", async || !operator.query(waits, &[]).await.unwrap().is_empty())
        .await;
    rig.fail_over().await;
    rig.stream_drains().await;
    rig.assert_all_stored(9).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_primary_that_returns_is_not_written_to() {
    let mut rig = Rig::start().await;
    let mut worker = rig.worker("commit");
    rig.store_four().await;
    rig.fail_over().await;
    worker.wait_for_line("PostgreSQL is on another timeline").await;
    rig.old.restart().await;
    let operator = rig.new.connect().await;
    // Each round every connection is made again, to either server first.
    for round in 1..=6 {
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE application_name LIKE 'millrace-worker%'";
        operator.batch_execute(end).await.unwrap();
        rig.admit_five().await;
        rig.stream_drains().await;
        assert_eq!(count_events(&rig.new).await, 4 + 5 * round);
    }
    assert_eq!(count_events(&rig.old).await, 4, "the old primary has nothing new");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_standbys_without_the_right_to_see_them_is_refused_at_start() {
    let rig = Rig::start().await;
    let operator = rig.old.connect().await;
    operator.batch_execute("CREATE ROLE app LOGIN; GRANT SELECT ON store_timeline TO app").await.unwrap();
    let (redis, database) = (rig.redis.url(), rig.old.url().replace("postgres@", "app@"));
    let variables = [
        ("REDIS_URL", redis.as_str()),
        ("DATABASE_URL", &database),
        ("METRICS_ADDR", "127.0.0.1:0"),
        ("SETTLE_AFTER", "standby"),
    ];
    let output = Program::run("stream-worker", &[], &variables).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    let said = output.stdout + &output.stderr;
    assert!(said.contains("GRANT pg_monitor"), "{said}");
}
