//! The suite's harness for Citus, and the tests that apply only to it.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use libtest_mimic::Trial;
use testkit::eventually;
use tokio_postgres::{Client, Config, NoTls};
use uuid::Uuid;

use crate::run;
use crate::suite::*;
use crate::tables::Tables;

/// Generous: only a defect exceeds it.
const PATIENCE: Duration = Duration::from_secs(60);
static DATABASES: AtomicU32 = AtomicU32::new(0);
/// Few, because every partition of every test is made on the nodes.
const SHARDS: u32 = 4;

/// A database with an empty store in which `events` is distributed.
pub struct CitusHarness {
    tables: Tables,
    coordinator: Config,
    nodes: Vec<Config>,
    name: String,
}

impl Deref for CitusHarness {
    type Target = Tables;

    fn deref(&self) -> &Tables {
        &self.tables
    }
}

async fn connect(config: &Config) -> Client {
    let (client, connection) =
        config.connect(NoTls).await.expect("a coordinator and its nodes accept connections");
    tokio::spawn(connection);
    client
}

impl CitusHarness {
    /// `url` is a database on the coordinator that knows the nodes.
    pub async fn create(url: &str) -> Self {
        let coordinator: Config = url.parse().expect("CITUS_URL is an address of PostgreSQL");
        let name = format!("millrace_{}_{}", std::process::id(), DATABASES.fetch_add(1, Ordering::Relaxed));
        let admin = connect(&coordinator).await;
        let list = "SELECT nodename, nodeport FROM pg_dist_node WHERE noderole = 'primary' AND groupid <> 0";
        let listed =
            admin.query(list, &[]).await.expect("CITUS_URL leads to a database with the extension citus");
        assert!(!listed.is_empty(), "no worker nodes are added in the database of CITUS_URL");
        let node = |row: &tokio_postgres::Row| {
            let mut node = Config::new();
            node.host(row.get::<_, &str>(0)).port(u16::try_from(row.get::<_, i32>(1)).expect("a port"));
            node.user(coordinator.get_user().unwrap_or("postgres"))
                .dbname(coordinator.get_dbname().unwrap_or("postgres"));
            if let Some(password) = coordinator.get_password() {
                node.password(password);
            }
            node
        };
        let nodes: Vec<Config> = listed.iter().map(node).collect();
        for server in nodes.iter().chain([&coordinator]) {
            connect_and_run(server, &format!("CREATE DATABASE {name}")).await;
            connect_and_run(&of(server, &name), "CREATE EXTENSION citus").await;
        }
        let config = of(&coordinator, &name);
        let (host, port) = address(&coordinator);
        connect_and_run(&config, &format!("SELECT citus_set_coordinator_host('{host}', {port})")).await;
        for node in &nodes {
            let (host, port) = address(node);
            connect_and_run(&config, &format!("SELECT citus_add_node('{host}', {port})")).await;
        }
        connect_and_run(&config, &format!("ALTER DATABASE {name} SET citus.shard_count = {SHARDS}")).await;
        let tables = Tables::create(config).await;
        assert!(tables.store.distribute().await.expect("events can be distributed"));
        assert!(!tables.store.distribute().await.expect("a second time changes nothing"));
        Self { tables, coordinator, nodes, name }
    }

    /// Not in `Drop`, which cannot wait: a failed test leaves its database for a look at it.
    pub async fn drop_database(self) {
        drop(self.tables);
        for server in [&self.coordinator].into_iter().chain(&self.nodes) {
            connect_and_run(server, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name)).await;
        }
    }
}

/// The same server with another database.
fn of(server: &Config, database: &str) -> Config {
    let mut config = server.clone();
    config.dbname(database);
    config
}

fn address(server: &Config) -> (String, u16) {
    let host = match server.get_hosts().first() {
        Some(tokio_postgres::config::Host::Tcp(host)) => host.clone(),
        other => panic!("CITUS_URL must name a host, and not {other:?}"),
    };
    (host, server.get_ports().first().copied().unwrap_or(5432))
}

/// Repeats a statement that fails, as long as Citus still starts its sessions in a new database.
async fn connect_and_run(server: &Config, statement: &str) {
    eventually(PATIENCE, statement, async || {
        connect(server).await.batch_execute(statement).await.map_err(|error| format!("{error:?}"))
    })
    .await;
}

/// The tests that apply only to Citus.
pub fn trials() -> Vec<Trial> {
    let trial = |name: &str, test: fn(String)| {
        let name = name.to_owned();
        Trial::test(name, move || {
            test(std::env::var(crate::CITUS_URL).expect("ignored without the variable"));
            Ok(())
        })
    };
    vec![
        trial("a_day_that_is_made_later_is_distributed", |_| run(a_day_that_is_made_later_is_distributed)),
        trial("rows_with_a_check_violation_become_dead_letters_and_the_others_are_stored", |_| {
            run(rows_with_a_check_violation_become_dead_letters_and_the_others_are_stored);
        }),
        trial("an_audit_counts_rows_exactly_while_writers_write", |_| {
            run(an_audit_counts_rows_exactly_while_writers_write);
        }),
    ]
}

async fn a_day_that_is_made_later_is_distributed(url: String) {
    let harness = CitusHarness::create(&url).await;
    let store = &harness.store;
    let project = project(store, "p").await;
    let now = now_ms();
    let old = now - 40 * DAY_MS;
    let import = |seq, ids: std::ops::Range<u128>| {
        request(project, Uuid::now_v7(), entry(now, seq), &events(old, ids))
    };
    // Before the first upkeep the rows go to the default partition, from which upkeep moves them.
    writer(store).await.write(&[import(1, 0..50)]).await.expect("written");
    store.upkeep(&keep_all()).await.expect("upkeep").expect("a round");
    writer(store).await.write(&[import(2, 0..60)]).await.expect("written");
    let client = harness.connect().await;
    let local =
        "SELECT count(*) FROM pg_inherits i LEFT JOIN pg_dist_partition d ON d.logicalrelid = i.inhrelid
                  WHERE i.inhparent = 'events'::regclass AND d.logicalrelid IS NULL";
    assert_eq!(client.query_one(local, &[]).await.expect("a count").get::<_, i64>(0), 0);
    let left = client.query_one("SELECT count(*) FROM events_default", &[]).await.expect("a count");
    assert_eq!(left.get::<_, i64>(0), 0, "the rows are in their day");
    assert_eq!(balanced(store, project).await.stored, 60);
    harness.drop_database().await;
}

async fn rows_with_a_check_violation_become_dead_letters_and_the_others_are_stored(url: String) {
    let harness = CitusHarness::create(&url).await;
    let store = &harness.store;
    let project = project(store, "p").await;
    let check = "ALTER TABLE events ADD CONSTRAINT no_x CHECK (name <> 'x')";
    harness.connect().await.batch_execute(check).await.expect("a check");
    let now = now_ms();
    let mut batch = events(now, 0..100);
    batch[17].name = "x".to_owned();
    let outcomes =
        writer(store).await.write(&[request(project, Uuid::now_v7(), entry(now, 0), &batch)]).await;
    let outcome = outcomes.expect("written")[0].outcome;
    assert_eq!((outcome.stored, outcome.dead), (99, 1));
    let totals = balanced(store, project).await;
    assert_eq!((totals.stored, totals.dead), (99, 1));
    harness.drop_database().await;
}

async fn an_audit_counts_rows_exactly_while_writers_write(url: String) {
    const BATCHES: u64 = 60;
    let harness = CitusHarness::create(&url).await;
    let store = harness.store.clone();
    let mut projects = Vec::new();
    for number in 0..6 {
        projects.push(project(&store, &format!("p{number}")).await);
    }
    let now = now_ms();
    let writing = tokio::spawn({
        let (store, projects) = (store.clone(), projects.clone());
        async move {
            let mut lane = writer(&store).await;
            for seq in 0..BATCHES {
                let ids = u128::from(seq) * 10..u128::from(seq) * 10 + 10;
                let of = |(number, project): (usize, &millrace_event::plan::ProjectId)| {
                    request(
                        *project,
                        Uuid::now_v7(),
                        entry(now, seq * 10 + number as u64),
                        &events(now, ids.clone()),
                    )
                };
                let requests: Vec<_> = projects.iter().enumerate().map(of).collect();
                lane.write(&requests).await.expect("written");
            }
        }
    });
    let mut audits = 0;
    while !writing.is_finished() {
        for totals in store.totals(true).await.expect("totals") {
            assert_eq!(totals.event_rows, totals.stored, "{totals:?}");
        }
        audits += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    writing.await.expect("no panic");
    assert!(audits > 0);
    for project in projects {
        assert_eq!(balanced(&store, project).await.stored, BATCHES * 10);
    }
    harness.drop_database().await;
}
