//! Databases that were installed with columns of the type json, and the choice itself.

use millrace_event::Outcome;
use millrace_store::{JsonColumns, StoreError};
use sha2::{Digest, Sha256};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{PostgresHarness, harness, harness_with_json, store};
use crate::suite::redriving::{given_up, redrive};
use crate::suite::*;

/// White space, an escape, the order of members and a number that jsonb would write in another way.
const SPELLING: &str = r#"{ "b": "\u0078", "a": 1e3 }"#;
const BROKEN: &str = r#"{"a":"#;

fn with(properties: &str, ms: u64, id: u128) -> Event {
    Event { properties: Some(properties.to_owned()), ..event(at_ms(ms), id) }
}

/// The types of the JSON columns of a table or a view.
async fn types(client: &Client, relation: &str) -> Vec<String> {
    let types = "SELECT format_type(atttypid, NULL) FROM pg_attribute
                  WHERE attrelid = to_regclass($1::text) AND attname IN ('properties', 'context')";
    let rows = client.query(types, &[&relation]).await.expect("the catalog can be read");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn one(client: &Client, query: &str) -> String {
    client.query_one(query, &[]).await.expect("one row").get(0)
}

/// The SQLSTATEs of the dead letters of project 1, in the order of their events.
async fn sqlstates(harness: &PostgresHarness) -> Vec<(i32, String)> {
    let read = "SELECT event_index, sqlstate FROM dead_letters ORDER BY event_index";
    let rows = harness.connect().await.query(read, &[]).await.expect("letters can be read");
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn a_database_keeps_the_type_of_json_columns_that_it_was_installed_with() {
    for (columns, other, name) in
        [(JsonColumns::Jsonb, JsonColumns::Json, "jsonb"), (JsonColumns::Json, JsonColumns::Jsonb, "json")]
    {
        let harness = harness().await;
        let database = harness.empty_database().await;
        let store = store(database.config());
        assert_eq!(store.json_columns().await.expect("an answer"), None, "there are no tables");
        store.migrate_with(columns).await.expect("an empty database can be migrated");
        let client = database.connect().await;
        for _ in 0..2 {
            assert_eq!(store.json_columns().await.expect("an answer"), Some(columns));
            assert_eq!(types(&client, "events").await, [name; 2]);
            assert_eq!(types(&client, "events_default").await, [name; 2]);
            assert_eq!(types(&client, "events_readable").await, ["jsonb"; 2]);
            let refused = store.migrate_with(other).await.expect_err("another type is refused");
            let StoreError::Invalid(text) = &refused else { panic!("{refused:?}") };
            assert!(text.contains(&format!("was installed with {name} columns")), "{text}");
            assert_eq!(store.migrate().await.expect("kept"), [""; 0]);
            assert_eq!(store.migrate_with(columns).await.expect("kept"), [""; 0]);
        }
    }
}

#[tokio::test]
async fn json_is_stored_as_it_was_sent_by_every_path_and_the_view_reads_it() {
    let harness = harness_with_json().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    // Stored by COPY, by a redrive, and by COPY into the default partition from which upkeep moves it.
    let requests = [
        request(project, new_batch_id(), entry(now, 0), &[with(SPELLING, now, 1)]),
        given_up(project, 1, &[with(SPELLING, now, 2)]),
        request(project, new_batch_id(), entry(now, 2), &[with(SPELLING, now - 40 * DAY_MS, 3)]),
    ];
    writer(&store).await.write(&requests).await.expect("written");
    assert_eq!(redrive(&store).await.stored, 1);
    store.upkeep(&keep_all()).await.expect("upkeep").expect("a round");
    let client = harness.connect().await;
    let spelled = format!(
        "SELECT count(*) || ' of ' || count(DISTINCT tableoid) FROM events WHERE properties::text = '{SPELLING}'"
    );
    assert_eq!(one(&client, &spelled).await, "3 of 2");
    let left = "SELECT count(*)::text FROM events_default";
    assert_eq!(one(&client, left).await, "0", "the old event is in its day");
    let read = "SELECT count(*)::text FROM events_readable WHERE properties @> '{\"a\": 1000, \"b\": \"x\"}'";
    assert_eq!(one(&client, read).await, "3");
    // Repetitions are compared by their meaning.
    let again = [with(r#"{"a":1000,"b":"x"}"#, now, 1), with(r#"{"a":1001,"b":"x"}"#, now, 2)];
    let again = request(project, new_batch_id(), entry(now, 3), &again);
    let written = writer(&harness.another()).await.write(&[again]).await.expect("written");
    assert_eq!(written[0].outcome, Outcome { duplicate: 2, conflict: 1, ..Outcome::default() });
    assert_eq!(balanced(&store, project).await.stored, 3);
}

#[tokio::test]
async fn a_row_that_is_no_json_becomes_a_dead_letter_and_the_others_are_stored() {
    let harness = harness_with_json().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    // One is found by the COPY itself, many are found under savepoints.
    let is_broken = |batch: u64, id: u128| if batch == 0 { id == 7 } else { id.is_multiple_of(5) };
    for batch in 0..2 {
        let events: Vec<_> = (0..100_u128)
            .map(|id| match is_broken(batch, id) {
                true => with(BROKEN, now - batch, id),
                false => with(SPELLING, now - batch, id),
            })
            .collect();
        let request = request(project, new_batch_id(), entry(now, batch), &events);
        let written = writer(&store).await.write(&[request]).await.expect("written");
        let dead = (0..100).filter(|id| is_broken(batch, *id)).count() as u32;
        assert_eq!(written[0].outcome, Outcome { stored: 100 - dead, dead, ..Outcome::default() });
    }
    assert!(sqlstates(&harness).await.iter().all(|(_, state)| state == "22P02"));
    let spelled = format!("SELECT count(*)::text FROM events WHERE properties::text = '{SPELLING}'");
    assert_eq!(one(&harness.connect().await, &spelled).await, (99 + 80).to_string());
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.dead), (99 + 80, 1 + 20));
}

#[tokio::test]
async fn an_upgrade_keeps_jsonb_and_the_rights_of_those_who_read_the_view() {
    let harness = harness().await;
    let database = harness.empty_database().await;
    let client = database.connect().await;
    let list = "CREATE TABLE schema_migrations (version integer PRIMARY KEY, name text NOT NULL, sha256 bytea NOT NULL,
                                                applied_at timestamptz NOT NULL DEFAULT now())";
    client.batch_execute(list).await.expect("a list");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sql");
    let before = [
        "0001_foundation",
        "0002_key_rotation",
        "0003_redrive",
        "0004_readable",
        "0005_edge",
        "0006_managed",
    ];
    for (version, name) in (1_i32..).zip(before) {
        let sql = std::fs::read_to_string(folder.join(name).with_extension("sql")).expect("a migration");
        client.batch_execute(&sql).await.expect("applied");
        let digest = Sha256::digest(sql.as_bytes()).to_vec();
        let add = "INSERT INTO schema_migrations VALUES ($1, $2, $3)";
        client.execute(add, &[&version, &name, &digest]).await.expect("recorded");
    }
    let role = format!("analyst_{}", Uuid::now_v7().simple());
    let grant = format!("CREATE ROLE {role}; GRANT SELECT ON events_readable TO {role}");
    client.batch_execute(&grant).await.expect("granted");

    let store = store(database.config());
    let refused = store.migrate_with(JsonColumns::Json).await.expect_err("it was installed before");
    assert!(matches!(refused, StoreError::Invalid(_)), "{refused:?}");
    assert!(store.check_schema().await.is_err(), "a refused migration changes nothing");
    assert!(!store.migrate().await.expect("migrated").is_empty());
    assert_eq!(store.json_columns().await.expect("an answer"), Some(JsonColumns::Jsonb));
    let reads = format!("SELECT has_table_privilege('{role}', 'events_readable', 'SELECT')::text");
    assert_eq!(one(&client, &reads).await, "true");
    let comment = "SELECT obj_description('events_readable'::regclass)";
    assert!(one(&client, comment).await.starts_with("For people"));
    client.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.expect("dropped");
}
