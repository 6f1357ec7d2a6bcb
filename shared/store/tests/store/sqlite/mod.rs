//! The suite's harness for SQLite, and the tests that apply only to SQLite.

mod environment;
mod kills;
mod redrive;
mod speed;
mod upkeep;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use millrace_event::json::with_last_of_equal_names;
use millrace_event::plan::ProjectId;
use millrace_store::SharedStore;
use millrace_store::sqlite::SqliteStore;
use rusqlite::{Connection, Row};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::suite::{Harness, StoredEvent, StoredLetter, StoredSample};

/// A folder with an empty store.
pub struct SqliteHarness {
    folder: TempDir,
    store: SharedStore,
}

pub async fn harness() -> SqliteHarness {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let store = store(folder.path());
    let applied = store.migrate().await.expect("an empty file can be migrated");
    assert_eq!(applied.first().map(String::as_str), Some("0001_foundation"));
    SqliteHarness { folder, store }
}

pub fn store(folder: &Path) -> SharedStore {
    SqliteStore::open(folder).expect("the file can be opened")
}

/// A connection with default settings, as in the shell of SQLite.
pub fn connect(folder: &Path) -> Connection {
    Connection::open(folder.join("events.db")).expect("the file can be opened")
}

impl SqliteHarness {
    /// A connection to the tables.
    pub fn connect(&self) -> Connection {
        connect(self.folder.path())
    }

    fn all<T>(&self, sql: &str, project: ProjectId, read: fn(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
        let connection = self.connect();
        let mut statement = connection.prepare(sql).expect("a statement");
        let rows = statement.query_map([project.0], read).expect("rows");
        rows.collect::<Result<_, _>>().expect("rows can be read")
    }
}

const EVENTS: &str = "
    SELECT timestamp, event_id, received_at, name, subject, client_id, properties, context
      FROM events WHERE project_id = ?1 ORDER BY timestamp, event_id";
const LETTERS: &str = "
    SELECT batch_id, event_index, event_count, sqlstate, reason, payload, code
      FROM dead_letters WHERE project_id = ?1 ORDER BY dead_letter_id";

const REFUSALS: &str = "
    SELECT kind, code, sum(count) FROM rejections_hourly WHERE project_id = ?1 GROUP BY kind, code ORDER BY 1, 2";
const SAMPLES: &str =
    "SELECT kind, code, message, payload FROM rejection_samples WHERE project_id = ?1 ORDER BY sample_id";
const CONFLICTS: &str = "
    SELECT (SELECT coalesce(sum(conflict), 0) FROM batches WHERE project_id = ?1),
           (SELECT coalesce(sum(conflicts), 0) FROM usage_hourly WHERE project_id = ?1)";

fn event(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    Ok(StoredEvent {
        timestamp_us: row.get(0)?,
        event_id: Uuid::from_bytes(row.get(1)?),
        received_us: row.get(2)?,
        name: row.get(3)?,
        subject: row.get(4)?,
        client_id: row.get(5)?,
        properties: row.get::<_, Option<String>>(6)?.map(|text| json(&text)),
        context: row.get::<_, Option<String>>(7)?.map(|text| json(&text)),
    })
}

fn letter(row: &Row<'_>) -> rusqlite::Result<StoredLetter> {
    Ok(StoredLetter {
        batch_id: Uuid::from_bytes(row.get(0)?),
        event_index: row.get(1)?,
        event_count: row.get(2)?,
        sqlstate: row.get(3)?,
        reason: row.get(4)?,
        payload: row.get(5)?,
        code: row.get(6)?,
    })
}

/// Parses JSON as jsonb does, for which `-3e10` and `-30000000000` are the same number.
fn json(text: &str) -> Value {
    fn normalize(value: Value) -> Value {
        match value {
            Value::Number(number) => match number.as_f64() {
                Some(float) if number.is_f64() && float.fract() == 0.0 => Value::from(float as i64),
                _ => Value::Number(number),
            },
            Value::Array(items) => items.into_iter().map(normalize).collect(),
            Value::Object(fields) => {
                fields.into_iter().map(|(name, value)| (name, normalize(value))).collect()
            }
            other => other,
        }
    }
    // SQLite would answer with the first of equal names, and this parser with the last.
    assert_eq!(*with_last_of_equal_names(text.as_bytes()), *text.as_bytes(), "a name is stored twice");
    normalize(serde_json::from_str(text).expect("stored properties are JSON"))
}

#[async_trait]
impl Harness for SqliteHarness {
    fn store(&self) -> SharedStore {
        Arc::clone(&self.store)
    }

    fn another(&self) -> SharedStore {
        store(self.folder.path())
    }

    async fn events(&self, project: ProjectId) -> Vec<StoredEvent> {
        self.all(EVENTS, project, event)
    }

    async fn replace_payload(&self, letter_id: i64, payload: &[u8]) {
        let replace = "UPDATE dead_letters SET payload = ?2 WHERE dead_letter_id = ?1";
        let replaced = self.connect().execute(replace, rusqlite::params![letter_id, payload]);
        assert_eq!(replaced.expect("replaced"), 1);
    }

    async fn refusals(&self, project: ProjectId) -> Vec<(String, String, i64)> {
        self.all(REFUSALS, project, |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
    }

    async fn samples(&self, project: ProjectId) -> Vec<StoredSample> {
        self.all(SAMPLES, project, |row| {
            Ok(StoredSample {
                kind: row.get(0)?,
                code: row.get(1)?,
                message: row.get(2)?,
                payload: row.get(3)?,
            })
        })
    }

    async fn conflicts(&self, project: ProjectId) -> (i64, i64) {
        self.all(CONFLICTS, project, |row| Ok((row.get(0)?, row.get(1)?))).remove(0)
    }

    async fn traces(&self, text: &str) -> Vec<String> {
        let columns =
            "SELECT t.name, c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'";
        let connection = self.connect();
        let mut statement = connection.prepare(columns).expect("a statement");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        let mut traces = Vec::new();
        for row in rows {
            let (table, column): (String, String) = row.expect("a row can be read");
            let search = format!(
                "SELECT count(*) FROM {table} WHERE instr(CAST({column:?} AS BLOB), CAST(?1 AS BLOB)) > 0"
            );
            let found: i64 = connection.query_row(&search, [text], |row| row.get(0)).expect("a count");
            traces.extend((found > 0).then(|| format!("{table}.{column}")));
        }
        traces
    }

    async fn undated_ids(&self) -> i64 {
        let count = "SELECT count(*) FROM undated_ids";
        self.connect().query_row(count, [], |row| row.get(0)).expect("ids can be counted")
    }

    async fn last_used_us(&self, key_id: i64) -> Option<i64> {
        let last_used = "SELECT last_used_at FROM api_keys WHERE key_id = ?1";
        self.connect().query_row(last_used, [key_id], |row| row.get(0)).expect("keys can be read")
    }

    async fn letters(&self, project: ProjectId) -> Vec<StoredLetter> {
        self.all(LETTERS, project, letter)
    }
}
