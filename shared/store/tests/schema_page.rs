//! `docs/schema.md` and the stores agree: every SQL block of the page runs, every query returns rows, and
//! every table and column is described with its type.

mod helpers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use millrace_store::sqlite::SqliteStore;
use millrace_store::{JsonColumns, Operators};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use testkit::Postgres;
use tokio_postgres::{Client, SimpleQueryMessage};

/// The role that the page creates for analysts.
const ANALYST: &str = "millrace_analyst";
/// A view's columns have no declared type on SQLite when they are expressions.
const VIEWS: [&str; 2] = ["events_readable", "usage_readable"];

/// Columns by table or view, each with its type.
type Schema = BTreeMap<String, BTreeMap<String, String>>;

#[tokio::test]
async fn every_sql_block_for_postgresql_runs_on_jsonb_and_every_query_returns_rows() {
    run_blocks_for_postgresql(JsonColumns::Jsonb).await;
}

#[tokio::test]
async fn every_sql_block_for_postgresql_runs_on_json_and_every_query_returns_rows() {
    run_blocks_for_postgresql(JsonColumns::Json).await;
}

async fn run_blocks_for_postgresql(columns: JsonColumns) {
    let server = Postgres::start().await;
    let database = server.create_database().await;
    let client = database.connect().await;
    let store = helpers::postgres_store(database.config());
    store.migrate_with(columns).await.expect("an empty database can be migrated");
    client.batch_execute(POSTGRES_ROWS).await.expect("the rows can be inserted");
    let mut queries = 0;
    for (language, block) in blocks() {
        match language.as_str() {
            "postgresql" => {
                for statement in statements(&block) {
                    let is_query = is_query(statement);
                    // A query must work with the rights that the page gives to analysts.
                    let is_for_analysts = is_query && statement.contains("_readable");
                    let rows = run(&client, statement, is_for_analysts).await;
                    assert!(!rows.is_empty() || !is_query, "no row: {statement}");
                    is_as_expected(statement, &rows);
                    queries += usize::from(is_for_analysts);
                }
            }
            "psql" => {
                let printed = psql(&database.url(), &block);
                assert_eq!(printed.trim(), "t", "{block}");
            }
            _ => {}
        }
    }
    assert!(queries >= 7, "the queries of the page were not found");
    client.batch_execute(&format!("SET ROLE {ANALYST}")).await.expect("the page creates the role");
    let secrets = client.batch_execute("SELECT * FROM api_keys").await;
    assert!(secrets.is_err(), "an analyst reads keys");
}

#[test]
fn every_sql_block_for_sqlite_runs_and_every_query_returns_rows() {
    let (_folder, connection) = sqlite();
    connection.execute_batch(SQLITE_ROWS).expect("the rows can be inserted");
    let mut queries = 0;
    for (language, block) in blocks() {
        if language != "sqlite" {
            continue;
        }
        for statement in statements(&block) {
            let mut prepared =
                connection.prepare(statement).unwrap_or_else(|error| panic!("{error}: {statement}"));
            let is_query = prepared.column_count() > 0;
            let columns = prepared.column_count();
            let rows = prepared
                .query_map([], |row| (0..columns).map(|at| Ok(text(row.get_ref(at)?))).collect())
                .and_then(Iterator::collect::<Result<Vec<Vec<String>>, _>>)
                .unwrap_or_else(|error| panic!("{error}: {statement}"));
            assert!(!rows.is_empty() || !is_query, "no row: {statement}");
            is_as_expected(statement, &rows);
            queries += usize::from(is_query);
        }
    }
    assert!(queries >= 7, "the queries of the page were not found");
}

#[tokio::test]
async fn every_table_and_column_is_on_the_page_with_its_type() {
    let server = Postgres::start().await;
    let database = server.create_database().await;
    migrate_postgres(database.config()).await;
    let postgres = postgres_schema(&database.connect().await).await;
    let (_folder, connection) = sqlite();
    let sqlite = sqlite_schema(&connection);
    let page = described();
    let tables: BTreeSet<&String> = postgres.keys().chain(sqlite.keys()).collect();
    assert_eq!(tables, page.keys().collect(), "tables of the stores, and tables on the page");
    for (table, columns) in &page {
        let none = BTreeMap::new();
        let in_postgres = postgres.get(table).unwrap_or(&none);
        let in_sqlite = sqlite.get(table).unwrap_or(&none);
        let known: BTreeSet<&String> = in_postgres.keys().chain(in_sqlite.keys()).collect();
        assert_eq!(known, columns.keys().collect(), "columns of {table}, and those on the page");
        for (column, (postgres_type, sqlite_type)) in columns {
            assert_eq!(
                Some(postgres_type),
                in_postgres.get(column).or(Some(&"–".to_owned())),
                "{table}.{column}"
            );
            let is_expression = VIEWS.contains(&table.as_str()) && in_sqlite[column].is_empty();
            if !is_expression {
                assert_eq!(
                    Some(sqlite_type),
                    in_sqlite.get(column).or(Some(&"–".to_owned())),
                    "{table}.{column}"
                );
            }
        }
    }
}

#[tokio::test]
async fn every_table_and_column_of_postgresql_has_a_comment() {
    let server = Postgres::start().await;
    let database = server.create_database().await;
    migrate_postgres(database.config()).await;
    let missing = format!(
        "SELECT c.relname || coalesce('.' || a.attname, '') FROM ({TABLES}) c LEFT JOIN pg_attribute a
             ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          WHERE col_description(c.oid, a.attnum) IS NULL OR obj_description(c.oid) IS NULL"
    );
    let rows = database.connect().await.query(&missing, &[]).await.expect("the catalog can be read");
    let missing: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(missing, Vec::<String>::new(), "without a comment");
}

/// All tables and views except the partitions of days.
const TABLES: &str = "SELECT oid, relname FROM pg_class
     WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')
       AND (NOT relispartition OR relname = 'events_default')";

/// Two subjects that view and order, one subject that only views, and usage of two months.
const POSTGRES_ROWS: &str = r#"
    INSERT INTO projects (name, plan) VALUES ('shop', 'pro');
    INSERT INTO events (project_id, timestamp, event_id, received_at, name, subject, properties)
    SELECT 1, now() - d * interval '1 day' - interval '2 hours', gen_random_uuid(), now(), 'product_viewed', 'user-' || s, '{}'
      FROM generate_series(0, 3) d, generate_series(1, 3) s
     UNION ALL
    SELECT 1, now() - d * interval '1 day' - interval '1 hour', gen_random_uuid(), now(), 'order_completed', 'user-' || s,
           jsonb_build_object('revenue', 10.25 * s, 'order_id', 'o-' || s || '-' || d)
      FROM generate_series(0, 3) d, generate_series(1, 2) s
     UNION ALL
    SELECT 1, now() - interval '1 minute', gen_random_uuid(), now(), 'order_completed', 'user-1', '{"revenue": "a lot"}'
     UNION ALL
    SELECT 1, now() - interval '1 minute', gen_random_uuid(), now(), 'order_completed', 'user-1', '{"order_id": "o-1"}';
    INSERT INTO batches (batch_id, received_at, entry_seq, shard, accepted, stored, duplicate, dead,
                         group_places, group_projects, group_accepted)
    VALUES ('1f1a9d3c-2b40-6e11-9f00-012345678900', now(), 0, 0, 22, 22, 0, 0, '{170, 171}', '{1, 1}', '{2, 20}');
    INSERT INTO usage_hourly (project_id, hour, events, bytes) VALUES
        (1, date_trunc('hour', now()), 22, 5000), (1, date_trunc('hour', now() - interval '40 days'), 7, 900);"#;

/// The same for SQLite, in microseconds.
const SQLITE_ROWS: &str = r#"
    INSERT INTO projects (name, plan) VALUES ('shop', 'pro');
    WITH RECURSIVE day(d) AS (VALUES (0) UNION ALL SELECT d + 1 FROM day WHERE d < 3),
                   user(s) AS (VALUES (1), (2), (3)),
                   step(name, hours) AS (VALUES ('product_viewed', 2), ('order_completed', 1))
    INSERT INTO events (project_id, timestamp, event_id, received_at, name, subject, properties)
    SELECT 1, (unixepoch() - d * 86400 - hours * 3600) * 1000000, randomblob(16), unixepoch() * 1000000, name, 'user-' || s,
           iif(name = 'order_completed', json_object('revenue', 10.25 * s, 'order_id', 'o-' || s || '-' || d), '{}')
      FROM day, user, step WHERE s < 3 OR name = 'product_viewed';
    INSERT INTO events (project_id, timestamp, event_id, received_at, name, subject, properties) VALUES
        (1, unixepoch() * 1000000, randomblob(16), unixepoch() * 1000000, 'order_completed', 'user-1', '{"revenue": "a lot"}');
    INSERT INTO usage_hourly (project_id, hour, events, bytes) VALUES
        (1, unixepoch() / 3600 * 3600 * 1000000, 22, 5000), (1, (unixepoch() / 3600 - 960) * 3600 * 1000000, 7, 900);"#;

async fn migrate_postgres(config: tokio_postgres::Config) {
    helpers::postgres_store(config).migrate().await.expect("an empty database can be migrated");
}

/// A migrated file, and a connection to it. The folder is removed when dropped.
fn sqlite() -> (tempfile::TempDir, Connection) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let store = SqliteStore::open(folder.path()).expect("a store can be made");
    // On another thread: a test may be inside a runtime already.
    std::thread::scope(|scope| scope.spawn(|| runtime.block_on(store.migrate())).join())
        .expect("no panic")
        .expect("an empty file can be migrated");
    let connection = Connection::open(folder.path().join("events.db")).expect("the file can be opened");
    std::thread::scope(|scope| scope.spawn(move || drop((store, runtime))).join()).expect("no panic");
    (folder, connection)
}

/// Checks the results of the two queries that return a single row even if they find no event.
fn is_as_expected(statement: &str, rows: &[Vec<String>]) {
    let expected: &[f64] = match statement {
        _ if statement.contains("AS viewed") => &[3.0, 2.0, 66.7],
        _ if statement.contains("AS p95") => &[8.0, 123.0, 15.38, 10.25, 20.5],
        _ => return,
    };
    let found: Vec<f64> = rows[0].iter().map(|cell| cell.parse().unwrap_or(f64::NAN)).collect();
    assert_eq!(found, expected, "{statement}");
}

/// Runs one statement, as an analyst or as the owner, and returns its rows.
async fn run(client: &Client, statement: &str, as_analyst: bool) -> Vec<Vec<String>> {
    let role = if as_analyst { ANALYST } else { "postgres" };
    client.batch_execute(&format!("SET ROLE {role}")).await.unwrap_or_else(|error| panic!("{error}: {role}"));
    let answer = client.simple_query(statement).await;
    client.batch_execute("RESET ROLE").await.expect("the role can be reset");
    let messages = answer.unwrap_or_else(|error| panic!("{error:?}: {statement}"));
    let rows = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.map(|row| (0..row.len()).map(|at| row.get(at).map_or_else(String::new, str::to_owned)).collect())
        .collect()
}

/// A value of SQLite as its shell prints it.
fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Runs a script of psql and returns the rows it prints.
fn psql(url: &str, script: &str) -> String {
    let arguments = ["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"];
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), script).expect("the script can be written");
    let run = Command::new("psql").args(arguments).arg("--file").arg(file.path()).arg(url).output();
    let run = run.unwrap_or_else(|error| {
        panic!("psql: {error}; install it (Debian: apt-get install postgresql-client)")
    });
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8_lossy(&run.stdout).into_owned()
}

/// The SQL blocks of the page in their order, each with its language: postgresql, psql or sqlite.
fn blocks() -> Vec<(String, String)> {
    let page = page();
    let parts = page.split("```sql ").skip(1);
    let blocks: Vec<_> = parts
        .map(|part| {
            let (language, rest) = part.split_once('\n').expect("a block has lines");
            let (block, _) = rest.split_once("```").expect("a block ends");
            (language.trim().to_owned(), block.to_owned())
        })
        .collect();
    let languages: BTreeSet<&str> = blocks.iter().map(|(language, _)| language.as_str()).collect();
    assert_eq!(languages, BTreeSet::from(["postgresql", "psql", "sqlite"]));
    assert_eq!(page.matches("```sql").count(), blocks.len(), "every SQL block names its store");
    blocks
}

/// The page ends each statement with a semicolon at the end of a line.
fn statements(block: &str) -> Vec<&str> {
    block.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()).collect()
}

fn is_query(statement: &str) -> bool {
    ["SELECT", "WITH", "EXPLAIN"].iter().any(|word| statement.starts_with(word))
}

/// Tables and views on the page, with the columns described below each heading and their types in both
/// stores.
fn described() -> BTreeMap<String, BTreeMap<String, (String, String)>> {
    let page = page();
    let mut tables = BTreeMap::new();
    for section in page.split("\n### `").skip(1) {
        let (table, rest) = section.split_once("`\n").expect("a heading ends");
        let section = rest.split("\n## ").next().expect("a section has text");
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
        let columns = rows
            .map(|row| {
                let mut cells = row.split(" | ");
                let mut cell = || cells.next().expect("a row has four cells").to_owned();
                (cell().trim_end_matches('`').to_owned(), (cell(), cell()))
            })
            .collect();
        assert_eq!(tables.insert(table.to_owned(), columns), None, "{table} is described twice");
    }
    tables
}

async fn postgres_schema(client: &Client) -> Schema {
    let columns = format!(
        "SELECT c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod) FROM ({TABLES}) c
           JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped"
    );
    let mut schema = Schema::new();
    for row in client.query(&columns, &[]).await.expect("the catalog can be read") {
        schema.entry(row.get(0)).or_default().insert(row.get(1), row.get(2));
    }
    schema
}

fn sqlite_schema(connection: &Connection) -> Schema {
    let columns = "SELECT m.name, c.name, c.type FROM sqlite_schema m, pragma_table_info(m.name) c
                    WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite_%'";
    let mut statement = connection.prepare(columns).expect("the schema can be read");
    let mut rows = statement.query([]).expect("the schema can be read");
    let mut schema = Schema::new();
    while let Some(row) = rows.next().expect("a row") {
        let [table, column, kind] = [0, 1, 2].map(|at| row.get(at).expect("a text"));
        schema.entry(table).or_default().insert(column, kind);
    }
    schema
}

fn page() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema.md");
    std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}
