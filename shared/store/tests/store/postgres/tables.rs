//! The suite's harness for a database of PostgreSQL: its tables, and a store on them.
#![allow(dead_code, reason = "each test target uses a part of it")]

use std::sync::Arc;

use async_trait::async_trait;
use millrace_event::plan::ProjectId;
use millrace_store::{JsonColumns, SharedStore};
use testkit::{Database, Postgres};
use tokio_postgres::{Client, Config, NoTls};

use crate::helpers::postgres_store;
use crate::suite::{Harness, StoredEvent, StoredLetter, StoredSample};

/// A database with an empty store.
pub struct Tables {
    pub config: Config,
    pub store: SharedStore,
    /// The server, when the test has started it.
    pub server: Option<Arc<Postgres>>,
}

impl Tables {
    /// Migrates an empty database.
    pub async fn create(config: Config) -> Self {
        Self::create_with(config, JsonColumns::default()).await
    }

    /// Migrates an empty database, with JSON columns of this type.
    pub async fn create_with(config: Config, columns: JsonColumns) -> Self {
        let store: SharedStore = postgres_store(config.clone());
        let applied = store.migrate_with(columns).await.expect("an empty database can be migrated");
        assert_eq!(applied.first().map(String::as_str), Some("0001_foundation"));
        Self { config, store, server: None }
    }

    /// A database without a schema on the same server.
    pub async fn empty_database(&self) -> Database {
        self.server.as_ref().expect("the test has started the server").create_database().await
    }

    /// A connection to the tables.
    pub async fn connect(&self) -> Client {
        let (client, connection) = self.config.connect(NoTls).await.expect("a running PostgreSQL");
        // It ends with the client or with the server.
        tokio::spawn(connection);
        client
    }
}

const EVENTS: &str = "
    SELECT (extract(epoch FROM timestamp) * 1000000)::bigint, event_id,
           (extract(epoch FROM received_at) * 1000000)::bigint, name, subject, client_id, properties::jsonb, context::jsonb
      FROM events WHERE project_id = $1 ORDER BY timestamp, event_id";
const LETTERS: &str = "
    SELECT batch_id, event_index, event_count, sqlstate, reason, payload, code
      FROM dead_letters WHERE project_id = $1 ORDER BY dead_letter_id";
const REFUSALS: &str = "
    SELECT kind, code, sum(count)::bigint FROM rejections_hourly WHERE project_id = $1 GROUP BY kind, code ORDER BY 1, 2";
const SAMPLES: &str =
    "SELECT kind, code, message, payload FROM rejection_samples WHERE project_id = $1 ORDER BY sample_id";
const CONFLICTS: &str = "
    SELECT (SELECT coalesce(sum(conflict), 0)::bigint FROM ledger WHERE project_id = $1),
           (SELECT coalesce(sum(conflicts), 0)::bigint FROM usage_hourly WHERE project_id = $1)";
const LAST_USED: &str =
    "SELECT (extract(epoch FROM last_used_at) * 1000000)::bigint FROM api_keys WHERE key_id = $1";

#[async_trait]
impl Harness for Tables {
    fn store(&self) -> SharedStore {
        Arc::clone(&self.store)
    }

    fn another(&self) -> SharedStore {
        postgres_store(self.config.clone())
    }

    async fn events(&self, project: ProjectId) -> Vec<StoredEvent> {
        let rows = self.connect().await.query(EVENTS, &[&project.0]).await.expect("events can be read");
        let event = |row: tokio_postgres::Row| StoredEvent {
            timestamp_us: row.get(0),
            event_id: row.get(1),
            received_us: row.get(2),
            name: row.get(3),
            subject: row.get(4),
            client_id: row.get(5),
            properties: row.get(6),
            context: row.get(7),
        };
        rows.into_iter().map(event).collect()
    }

    async fn letters(&self, project: ProjectId) -> Vec<StoredLetter> {
        let rows = self.connect().await.query(LETTERS, &[&project.0]).await.expect("letters can be read");
        let letter = |row: tokio_postgres::Row| StoredLetter {
            batch_id: row.get(0),
            event_index: row.get(1),
            event_count: row.get(2),
            sqlstate: row.get(3),
            reason: row.get(4),
            payload: row.get(5),
            code: row.get(6),
        };
        rows.into_iter().map(letter).collect()
    }

    async fn replace_payload(&self, letter_id: i64, payload: &[u8]) {
        let replace = "UPDATE dead_letters SET payload = $2 WHERE dead_letter_id = $1";
        let replaced =
            self.connect().await.execute(replace, &[&letter_id, &payload]).await.expect("replaced");
        assert_eq!(replaced, 1);
    }

    async fn refusals(&self, project: ProjectId) -> Vec<(String, String, i64)> {
        let rows = self.connect().await.query(REFUSALS, &[&project.0]).await.expect("counts can be read");
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }

    async fn samples(&self, project: ProjectId) -> Vec<StoredSample> {
        let rows = self.connect().await.query(SAMPLES, &[&project.0]).await.expect("samples can be read");
        let sample = |row: &tokio_postgres::Row| StoredSample {
            kind: row.get(0),
            code: row.get(1),
            message: row.get(2),
            payload: row.get(3),
        };
        rows.iter().map(sample).collect()
    }

    async fn conflicts(&self, project: ProjectId) -> (i64, i64) {
        let row = self.connect().await.query_one(CONFLICTS, &[&project.0]).await.expect("counts can be read");
        (row.get(0), row.get(1))
    }

    async fn traces(&self, text: &str) -> Vec<String> {
        let columns = "SELECT c.relname::text, a.attname::text, a.atttypid = 'bytea'::regtype
                         FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
                        WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
                          AND a.attnum > 0 AND NOT a.attisdropped";
        let client = self.connect().await;
        let mut traces = Vec::new();
        for column in client.query(columns, &[]).await.expect("the tables can be listed") {
            let (table, name, is_bytes): (&str, &str, bool) = (column.get(0), column.get(1), column.get(2));
            let found = match is_bytes {
                true => format!("position(convert_to($1, 'UTF8') IN {name:?})"),
                false => format!("position($1 IN {name:?}::text)"),
            };
            let search = format!("SELECT count(*) FROM {table} WHERE {found} > 0");
            let row = client.query_one(&search, &[&text]).await.expect("a column can be searched");
            traces.extend((row.get::<_, i64>(0) > 0).then(|| format!("{table}.{name}")));
        }
        traces
    }

    async fn undated_ids(&self) -> i64 {
        let count = "SELECT count(*) FROM undated_ids";
        self.connect().await.query_one(count, &[]).await.expect("ids can be counted").get(0)
    }

    async fn last_used_us(&self, key_id: i64) -> Option<i64> {
        self.connect().await.query_one(LAST_USED, &[&key_id]).await.expect("keys can be read").get(0)
    }
}
