//! Operations and upkeep under load, and workers that are killed or paused during upkeep.

use testkit::eventually;
use testkit::http::HttpClient;
use testkit::oracle::{Invariant, Load};
use tokio_postgres::Client;

use crate::node::SOON;
use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "operations under load",
        target: "operations",
        fault: "partitions created, detached and dropped, ledger pruned, schema migrated, quota raised, key revoked",
        expected: "all totals are exact; the new quota is exact; the revoked key is refused",
        tier: Tier::Nightly,
        run: |drill| Box::pin(operations(drill)),
    },
    Row {
        name: "worker killed making a partition",
        target: "worker",
        fault: "SIGKILL after a partition is created and filled, before COMMIT, three times",
        expected: "rolled back, created by the next upkeep, every row kept",
        tier: Tier::Nightly,
        run: |drill| Box::pin(killed_creating_a_partition(drill)),
    },
    Row {
        name: "worker killed importing history",
        target: "worker",
        fault: "SIGKILL after the day of old events was made and their rows moved into it, before COMMIT, three times",
        expected: "rolled back, moved by the next upkeep, every row kept, the default partition empty",
        tier: Tier::Nightly,
        run: |drill| Box::pin(killed_importing_history(drill)),
    },
    Row {
        name: "worker killed retiring a partition",
        target: "worker",
        fault: "SIGKILL between detaching a partition and dropping it, three times",
        expected: "counted and dropped by the next upkeep",
        tier: Tier::Nightly,
        run: |drill| Box::pin(killed_retiring_a_partition(drill)),
    },
    Row {
        name: "worker paused making a partition",
        target: "worker",
        fault: "SIGSTOP while the default partition is locked, until others have drained the stream",
        expected: "its session is ended, the lock is released, and others continue to write",
        tier: Tier::Nightly,
        run: |drill| Box::pin(paused_creating_a_partition(drill)),
    },
];

/// Keeps the events that drills post, the oldest of 301 days ago, and retires the partitions of
/// [`add_old_days`].
const RETENTION: [(&str, &str); 2] = [("RETENTION_DAYS", "310"), ("LEDGER_DAYS", "2")];
/// A day in the future for which drills post some events.
const DAY: &str = "to_char(now() AT TIME ZONE 'UTC' + interval '2 days', 'YYYYMMDD')";

async fn operations(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    let database = system.postgres.connect().await;
    add_old_days(&database).await;
    let before = partitions(&database).await;
    for worker in &mut system.workers {
        RETENTION.iter().for_each(|(name, value)| worker.set(name, value));
        worker.terminate().await;
        worker.start().await;
    }
    eventually(SOON, "old partitions to be retired", async || partitions(&database).await < before).await;
    for _ in 0..3 {
        remove_a_partition(&database).await;
        eventually(SOON, "the partition to be created again", async || is_partitioned(&database).await).await;
        system.operate(&["migrate"]).await;
        clients.acknowledge(50).await;
    }
    raise_the_quota(&mut system, &database).await;
    revoke_a_key(&mut system, &database).await;
    clients.acknowledge(50).await;
    system.finish(clients, &[(Effect::Acknowledged, 200), (Effect::QuotaExceeded, 1)]).await
}

async fn killed_creating_a_partition(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout { workers: 1, ..Layout::default() }).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    for _ in 0..3 {
        system.workers[0].kill().await;
        remove_a_partition(&system.postgres.connect().await).await;
        system.workers[0].launch(&[("FAILPOINTS", "upkeep::partition_made=1*return(kill)")]);
        system.workers[0].died().await;
        system.workers[0].start().await;
        let database = system.postgres.connect().await;
        eventually(SOON, "the partition to be created again", async || is_partitioned(&database).await).await;
        clients.acknowledge(20).await;
    }
    system.note(Effect::KilledInTransaction, 3);
    system.finish(clients, &[(Effect::Acknowledged, 100), (Effect::KilledInTransaction, 3)]).await
}

async fn killed_importing_history(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout { workers: 1, ..Layout::default() }).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    let database = system.postgres.connect().await;
    for _ in 0..3 {
        eventually(SOON, "old events in their days", async || !old_days(&database).await.is_empty()).await;
        system.workers[0].kill().await;
        for name in old_days(&database).await {
            remove(&database, &name).await;
        }
        system.workers[0].launch(&[("FAILPOINTS", "upkeep::partition_made=1*return(kill)")]);
        system.workers[0].died().await;
        system.workers[0].start().await;
        clients.acknowledge(20).await;
    }
    eventually(SOON, "the default partition to be empty", async || {
        let rows = "SELECT count(*) FROM events_default";
        database.query_one(rows, &[]).await.expect("rows can be counted").get::<_, i64>(0) == 0
    })
    .await;
    system.note(Effect::KilledInTransaction, 3);
    system.finish(clients, &[(Effect::Acknowledged, 100), (Effect::KilledInTransaction, 3)]).await
}

/// The partitions of the days of about 300 days ago, for which drills post some events.
async fn old_days(database: &Client) -> Vec<String> {
    let days = "SELECT relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = inhrelid
                 WHERE inhparent = 'events'::regclass
                   AND relname < 'events_' || to_char(now() AT TIME ZONE 'UTC' - interval '100 days', 'YYYYMMDD')";
    let rows = database.query(days, &[]).await.expect("partitions can be listed");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Adds the partitions of four days that [`RETENTION`] does not keep.
async fn add_old_days(database: &Client) {
    let add = "
        DO $$
        DECLARE
            day date;
        BEGIN
            FOR offset_days IN 320..323 LOOP
                day := (now() AT TIME ZONE 'UTC')::date - offset_days;
                EXECUTE format('CREATE TABLE events_%s PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
                               to_char(day, 'YYYYMMDD'), day || ' 00:00:00+00', day + 1 || ' 00:00:00+00');
            END LOOP;
        END $$";
    database.batch_execute(add).await.expect("partitions can be added");
}

async fn killed_retiring_a_partition(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout { workers: 1, ..Layout::default() }).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    let database = system.postgres.connect().await;
    add_old_days(&database).await;
    RETENTION.iter().for_each(|(name, value)| system.workers[0].set(name, value));
    for _ in 0..3 {
        system.workers[0].kill().await;
        system.workers[0].launch(&[("FAILPOINTS", "upkeep::partition_detached=1*return(kill)")]);
        system.workers[0].died().await;
    }
    system.workers[0].start().await;
    eventually(SOON, "no partition to be half retired", async || {
        let left = "SELECT count(*) FROM retiring";
        database.query_one(left, &[]).await.expect("it can be counted").get::<_, i64>(0) == 0
    })
    .await;
    clients.acknowledge(50).await;
    system.note(Effect::Killed, 3);
    system.finish(clients, &[(Effect::Acknowledged, 100), (Effect::Killed, 3)]).await
}

async fn paused_creating_a_partition(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    // Only the worker that will be paused runs while the partition is missing, so that no other creates it.
    system.workers[0].kill().await;
    system.workers[1].kill().await;
    remove_a_partition(&system.postgres.connect().await).await;
    system.workers[0].launch(&[("FAILPOINTS", "upkeep::partition_made=1*return(stop)")]);
    system.workers[0].program().wait_for_line("failpoint upkeep::partition_made: SIGSTOP").await;
    system.workers[1].start().await;
    clients.acknowledge(300).await;
    system.current_entries_are_drained().await;
    system.workers[0].program().resume();
    let database = system.postgres.connect().await;
    eventually(SOON, "the partition to be created again", async || is_partitioned(&database).await).await;
    let needs = [(Effect::Acknowledged, 300), (Effect::WriteFailed, 1)];
    system.finish(clients, &needs).await
}

async fn partitions(database: &Client) -> i64 {
    let count =
        "SELECT count(*) FROM pg_inherits WHERE inhparent IN ('events'::regclass, 'batches'::regclass)";
    database.query_one(count, &[]).await.expect("partitions can be counted").get(0)
}

/// Removes the partition of [`DAY`], as if upkeep had never created it. Its rows go to the default partition.
async fn remove_a_partition(database: &Client) {
    let name: String = database
        .query_one(&format!("SELECT 'events_' || {DAY}"), &[])
        .await
        .expect("a name can be formatted")
        .get(0);
    remove(database, &name).await;
}

/// Removes a partition of events. Its rows go to the default partition.
async fn remove(database: &Client, name: &str) {
    let remove = format!(
        "BEGIN; ALTER TABLE events DETACH PARTITION {name}; INSERT INTO events SELECT * FROM {name};
         DROP TABLE {name}; COMMIT"
    );
    database.batch_execute(&remove).await.expect("a partition can be removed");
}

async fn is_partitioned(database: &Client) -> bool {
    let is_there = format!("SELECT to_regclass('events_' || {DAY}) IS NOT NULL");
    database.query_one(&is_there, &[]).await.expect("tables can be seen").get(0)
}

/// Also raises the quota that the oracle expects.
async fn raise_the_quota(system: &mut System, database: &Client) {
    for (project, limits) in &mut system.projects {
        let Some(quota) = limits.events_per_month.as_mut().filter(|_| project.name == "limited") else {
            continue;
        };
        *quota *= 2;
        let raised = i64::try_from(*quota).expect("a plan of a drill is small");
        let raise = "UPDATE plans SET events_per_month = $1 WHERE name = 'limited'";
        database.execute(raise, &[&raised]).await.expect("a plan can be changed");
    }
}

/// A key that is created and then revoked is accepted and then refused by every API.
pub(super) async fn revoke_a_key(system: &mut System, database: &Client) {
    const KEY: &str = "drill-key-to-be-revoked";
    let headers = [("authorization", "Bearer drill-key-to-be-revoked")];
    system.operate(&["key", "create", "alpha", "--key", KEY]).await;
    let number = "SELECT max(key_id) FROM api_keys";
    let number: i64 = database.query_one(number, &[]).await.expect("keys can be counted").get(0);
    let mut apis: Vec<_> = system.addresses().await.into_iter().map(HttpClient::new).collect();
    for api in &mut apis {
        eventually(SOON, "the new key to be accepted", async || status(api, &headers).await == 200).await;
    }
    system.operate(&["key", "revoke", &number.to_string()]).await;
    for api in &mut apis {
        eventually(SOON, "the revoked key to be refused", async || status(api, &headers).await == 401).await;
        if status(api, &headers).await != 401 {
            system.violated(Invariant::RefusedStaysOut, "a revoked key is accepted".to_owned());
        }
    }
}

async fn status(api: &mut HttpClient, headers: &[(&str, &str)]) -> u16 {
    api.get("/v1/limits", headers).await.map_or(0, |answer| answer.status)
}
