//! The oracle finds every change that the product did not make, through the invariant that it violates, and
//! reports nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use faults::{Drill, Layout, System};
use testkit::oracle::{Invariant, Load, Meters, QUIET_DEADLINE, Watch, judge};
use tokio_postgres::Client;

/// The letter of one broken call.
const A_BROKEN_CALL: &str =
    "dead_letter_id = (SELECT min(dead_letter_id) FROM dead_letters WHERE code IS NOT NULL)";

/// A system that has stored some events and is idle, and a connection to its store.
async fn at_rest() -> (System, Client) {
    at_rest_with(false).await
}

/// The same, with or without the project whose customers have limits.
async fn at_rest_with(customers: bool) -> (System, Client) {
    let drill = Drill {
        name: "oracle".to_owned(),
        seed: rand::random(),
        mutant: None,
        profile: testkit::drill_build().to_owned(),
    };
    let mut system =
        System::start(drill, Layout { apis: 1, workers: 1, customers, ..Layout::default() }).await;
    let clients = system.load(Load::default());
    clients.acknowledge(60).await;
    // More than a burst, for the project with a rate limit.
    let (limited, limits) = &system.projects[2];
    let what = "requests of the limited project";
    let many = async || limited.history.tally().acknowledged > limits.burst + 5;
    testkit::eventually(Duration::from_secs(60), what, many).await;
    clients.stop(Duration::from_secs(60)).await;
    let database = system.postgres.connect().await;
    let (_, violations) = judge(system.subject(&system.evidence(&database).await, QUIET_DEADLINE)).await;
    assert_eq!(violations, vec![], "nothing was changed yet");
    system.workers[0].kill().await;
    (system, database)
}

async fn violated(system: &System, database: &Client) -> BTreeSet<Invariant> {
    let (_, violations) = judge(system.subject(&system.evidence(database).await, Duration::ZERO)).await;
    violations.into_iter().map(|violation| violation.invariant).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_the_store_is_found_through_the_invariant_that_it_violates() {
    let (system, database) = at_rest().await;
    let history = &system.projects[0].0.history;
    let refused = history.take_numbers(1);
    history.refused(&refused, "invalid_json");
    let never_posted = history.take_numbers(1)[0];
    let insert = |n: &str| {
        format!(
            "INSERT INTO events (project_id, timestamp, event_id, received_at, name, properties)
             VALUES (1, now(), gen_random_uuid(), now(), 'x', '{{\"n\": {n}}}')"
        )
    };
    let a_row = "(project_id, timestamp, event_id) =
                 (SELECT project_id, timestamp, event_id FROM events WHERE project_id = 1 LIMIT 1)";
    let tampered = [
        (Invariant::NothingLost, format!("DELETE FROM events WHERE {a_row}")),
        (
            Invariant::NothingTwice,
            format!(
                "INSERT INTO events SELECT project_id, timestamp, gen_random_uuid(), received_at, name, subject,
                                           client_id, properties, context FROM events WHERE {a_row}"
            ),
        ),
        (Invariant::NothingInvented, insert("null")),
        (Invariant::NothingInvented, insert("999999999")),
        (Invariant::NothingInvented, insert(&never_posted.to_string())),
        (Invariant::RefusedStaysOut, insert(&refused[0].to_string())),
        (Invariant::TotalsAgree, "UPDATE usage_hourly SET events = events + 1 WHERE project_id = 1".to_owned()),
        (Invariant::TotalsAgree, "UPDATE usage_hourly SET dead = dead + 1 WHERE project_id = 1".to_owned()),
        (Invariant::TotalsAgree, "DELETE FROM batches WHERE batch_id IN (SELECT row_id FROM ledger WHERE project_id = 1)".to_owned()),
        (Invariant::TotalsAgree, "UPDATE batches SET batch_id = gen_random_uuid()".to_owned()),
        (
            Invariant::PlansExact,
            "UPDATE batches SET accepted = accepted + 5000, stored = stored + 5000,
                                group_accepted = (SELECT array_agg(a + 5000) FROM unnest(group_accepted) a)"
                .to_owned(),
        ),
        (
            Invariant::PlansExact,
            "UPDATE batches b SET received_at = m.at, entry_seq = m.seq
               FROM (SELECT row_id, received_at, entry_seq, min(received_at) OVER () AS at,
                            1000 + row_number() OVER () AS seq
                       FROM ledger WHERE project_id = 3) m
              WHERE (b.batch_id, b.received_at, b.entry_seq) = (m.row_id, m.received_at, m.entry_seq)"
                .to_owned(),
        ),
        (Invariant::EqualAsSent, format!("UPDATE events SET name = 'other' WHERE {a_row}")),
        (Invariant::EqualAsSent, format!("UPDATE events SET context = '{{}}' WHERE {a_row}")),
        (
            Invariant::EqualAsSent,
            format!("UPDATE events SET properties = jsonb_set(properties, '{{amount}}', '-1') WHERE {a_row}"),
        ),
        (Invariant::Quiet, "UPDATE stream_epochs SET epoch = gen_random_uuid() WHERE shard = 1".to_owned()),
        (
            Invariant::PoisonSetAside,
            "INSERT INTO dead_letters (project_id, batch_id, received_at, event_count, reason, payload, worker_version)
             VALUES (1, gen_random_uuid(), now(), 1, 'by hand', '{\"n\":1}', '0')"
                .to_owned(),
        ),
    ];
    each_is_found(&system, &database, tampered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_figures_limits_and_cancellations_is_found() {
    let (system, database) = at_rest_with(true).await;
    let a_use = "(meter_id, period, subject) = (SELECT meter_id, period, subject FROM limit_usage LIMIT 1)";
    let tampered = [
        (
            Invariant::FiguresAgree,
            "INSERT INTO meter_usage (meter_id, subject, bucket, groups, events, value)
             SELECT meter_id, 'x', now(), '[]', 1, 0 FROM meters WHERE slug = 'amounts' AND project_id = 1"
                .to_owned(),
        ),
        (
            Invariant::FiguresAgree,
            "INSERT INTO meter_usage (meter_id, subject, bucket, groups, events, value)
             SELECT meter_id, 'x', now(), '[]', 0, 0.25 FROM meters WHERE slug = 'amounts' AND project_id = 1"
                .to_owned(),
        ),
        (
            Invariant::FiguresAgree,
            "INSERT INTO meter_uniques (meter_id, subject, bucket, groups, value, events)
             SELECT meter_id, 'x', now(), '[]', 'x', 0 FROM meters WHERE slug = 'products' AND project_id = 1"
                .to_owned(),
        ),
        (Invariant::LimitsExact, format!("UPDATE limit_usage SET used = used + 0.25 WHERE {a_use}")),
        (Invariant::LimitsExact, format!("DELETE FROM limit_usage WHERE {a_use}")),
        (Invariant::LimitsExact, "UPDATE customer_limits SET amount = 0".to_owned()),
        (Invariant::CancelledOnce, "UPDATE usage_hourly SET cancelled = 1 WHERE project_id = 1".to_owned()),
        (
            Invariant::CancelledOnce,
            "INSERT INTO cancellations (project_id, timestamp, event_id, received_at, cancelled_by)
             SELECT project_id, timestamp, event_id, received_at, 'x' FROM events WHERE project_id = 1 LIMIT 1"
                .to_owned(),
        ),
    ];
    each_is_found(&system, &database, tampered).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_dead_letters_and_of_conflicts_is_found() {
    let (system, database) = at_rest().await;
    let tampered = [
        (Invariant::NothingLost, format!("DELETE FROM dead_letters WHERE {A_BROKEN_CALL}")),
        (
            Invariant::NothingTwice,
            format!(
                "INSERT INTO dead_letters (project_id, batch_id, received_at, event_count, reason, payload, code, worker_version)
                 SELECT project_id, batch_id, received_at, 1, reason, payload, code, worker_version
                   FROM dead_letters WHERE {A_BROKEN_CALL}"
            ),
        ),
        (Invariant::EqualAsSent, format!("UPDATE dead_letters SET payload = payload || '.' WHERE {A_BROKEN_CALL}")),
        (Invariant::EqualAsSent, format!("UPDATE dead_letters SET code = 'other' WHERE {A_BROKEN_CALL}")),
        (Invariant::TotalsAgree, "UPDATE usage_hourly SET conflicts = conflicts + 1 WHERE project_id = 1".to_owned()),
        (
            Invariant::TotalsAgree,
            "WITH l AS (UPDATE batches SET conflict = 1, group_conflict = CASE WHEN group_places IS NOT NULL
                                    THEN array_fill(1::bigint, ARRAY[cardinality(group_places)]) END)
             UPDATE usage_hourly u SET conflicts = (SELECT count(*) FROM ledger l WHERE l.project_id = u.project_id)"
                .to_owned(),
        ),
    ];
    each_is_found(&system, &database, tampered).await;
}

async fn each_is_found(
    system: &System,
    database: &Client,
    tampered: impl IntoIterator<Item = (Invariant, String)>,
) {
    for (invariant, statement) in tampered {
        // As a program that counts meters: others may not change usage.
        database.batch_execute("BEGIN; SELECT millrace_meters_version()").await.unwrap();
        database.batch_execute(&statement).await.unwrap();
        let found = violated(system, database).await;
        assert!(found.contains(&invariant), "{statement}: {found:?}");
        database.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(violated(system, database).await, BTreeSet::new(), "after {statement} was rolled back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_the_stream_is_found_through_the_invariant_that_it_violates() {
    let (system, database) = at_rest().await;
    let mut redis = system.redis().connect().await;
    let epoch: String = redis::cmd("GET").arg("{s1}:epoch").query_async(&mut redis).await.unwrap();
    let restore = format!("SET {{s1}}:epoch {epoch}");
    let tampered = [
        (Invariant::PlansExact, "HINCRBY {s1}:project:1 used 1", "HINCRBY {s1}:project:1 used -1"),
        (
            Invariant::PlansExact,
            "HINCRBY {s1}:project:1 tat 60000000",
            "HINCRBY {s1}:project:1 tat -60000000",
        ),
        (Invariant::TotalsAgree, "HINCRBY {s1}:project:1 accepted 1", "HINCRBY {s1}:project:1 accepted -1"),
        (Invariant::Quiet, "HINCRBY {s1}:project:1 pending 1", "HINCRBY {s1}:project:1 pending -1"),
        (Invariant::Quiet, "HINCRBY {s1}:shard backlog_events 1", "HINCRBY {s1}:shard backlog_events -1"),
        (Invariant::Quiet, "XADD {s1}:events * v 1", "XTRIM {s1}:events MAXLEN 0"),
        (Invariant::Quiet, "SET {s1}:epoch another", &restore),
    ];
    for (invariant, change, revert) in tampered {
        for (words, expected) in [(change, true), (revert, false)] {
            let (name, arguments) = words.split_once(' ').unwrap();
            let mut command = redis::cmd(name);
            command.arg(arguments.split(' ').collect::<Vec<_>>());
            command.query_async::<redis::Value>(&mut redis).await.unwrap();
            let found = violated(&system, &database).await;
            assert_eq!(found.contains(&invariant), expected, "{words}: {found:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_that_decreases_is_found() {
    let (system, database) = at_rest().await;
    let watch = Watch::start(Meters::Postgres(Box::new(system.postgres.config())));
    testkit::eventually(Duration::from_secs(60), "a first look", async || watch.looks() > 0).await;
    // As a program that counts meters: others may not change usage.
    let decrease =
        "SELECT millrace_meters_version(); UPDATE usage_hourly SET events = events - 1 WHERE project_id = 1";
    database.batch_execute(decrease).await.unwrap();
    let violations = watch.finish(&system.evidence(&database).await).await;
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].invariant, Invariant::Monotone);
}
