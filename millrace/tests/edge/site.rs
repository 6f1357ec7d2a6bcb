//! A running installation, on two files or on servers, and what its tables hold.

use std::net::SocketAddr;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use testkit::http::{Answer, get, post};
use testkit::{Program, eventually};

use crate::installation::{Installation, PATIENCE, Service};

/// The first microsecond that a column may hold, and the first that it may not: years 1 to 9999.
const TIMES: std::ops::Range<i64> = -62_135_596_800_000_000..253_402_300_800_000_000;

const EVENTS_OF_POSTGRESQL: &str = "SELECT jsonb_build_object('name', name, 'subject', subject, \
    'client_id', client_id, 'event_id', replace(event_id::text, '-', ''), \
    'timestamp', (extract(epoch FROM timestamp) * 1000000)::bigint, \
    'received_at', (extract(epoch FROM received_at) * 1000000)::bigint, \
    'properties', properties, 'context', context)::text FROM events";
const EVENTS_OF_SQLITE: &str = "SELECT json_object('name', name, 'subject', subject, \
    'client_id', client_id, 'event_id', lower(hex(event_id)), \
    'timestamp', timestamp, 'received_at', received_at, \
    'properties', json(properties), 'context', json(context)) FROM events";
const LETTERS_OF_POSTGRESQL: &str = "SELECT jsonb_build_object('id', dead_letter_id, 'code', code, \
    'index', event_index, 'hex', encode(payload, 'hex'))::text FROM dead_letters ORDER BY dead_letter_id";
const LETTERS_OF_SQLITE: &str = "SELECT json_object('id', dead_letter_id, 'code', code, \
    'index', event_index, 'hex', lower(hex(payload))) FROM dead_letters ORDER BY dead_letter_id";

/// A dead letter, as its table holds it.
#[derive(Debug)]
pub struct Letter {
    pub id: i64,
    pub code: String,
    pub index: i64,
    pub payload: Vec<u8>,
}

/// Programs stop before their servers, so they come first.
pub struct Site {
    programs: Vec<Program>,
    pub address: SocketAddr,
    pub key: String,
    pub installation: Installation,
    database: Option<tokio_postgres::Client>,
}

impl Site {
    /// `millrace` alone, on two files, with one project on the plan `enterprise`.
    pub async fn on_files() -> Self {
        let installation = Installation::on_files();
        let Service { program, address, .. } = installation.serve().await;
        Self::with_a_project(installation, vec![program], address, None).await
    }

    /// `ingest-api` and `stream-worker` on Redis and PostgreSQL, with one project on the plan `enterprise`.
    pub async fn on_servers() -> Self {
        Self::on_servers_with(&[]).await
    }

    /// As [`Site::on_servers`], with settings of the API.
    pub async fn on_servers_with(settings: &[(&str, &str)]) -> Self {
        let mut installation = Installation::on_servers().await;
        installation.text(&["migrate"]).await;
        let mut api = installation.program("ingest-api", settings);
        let worker = installation.program("stream-worker", &[]);
        let address = api.address().await;
        eventually(PATIENCE, "the API to be ready", async || {
            let answer = get(address, "/readyz", &[]).await;
            if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
        let database = installation.postgres().connect().await;
        Self::with_a_project(installation, vec![api, worker], address, Some(database)).await
    }

    /// The last program that was started. On servers it stores the events.
    pub fn worker(&mut self) -> &mut Program {
        self.programs.last_mut().expect("a site has programs")
    }

    async fn with_a_project(
        installation: Installation,
        programs: Vec<Program>,
        address: SocketAddr,
        database: Option<tokio_postgres::Client>,
    ) -> Self {
        let key = installation.project("shop", "enterprise").await;
        let site = Self { programs, address, key, installation, database };
        site.knows_the_key(&site.key).await;
        site
    }

    /// Another project with these options, and its key.
    pub async fn project(&self, name: &str, options: &[&str]) -> String {
        let arguments = [&["project", "create", name, "--plan", "enterprise"], options].concat();
        let created = self.installation.json(&arguments).await;
        let key = created["key"].as_str().unwrap().to_owned();
        self.knows_the_key(&key).await;
        key
    }

    async fn knows_the_key(&self, key: &str) {
        let bearer = format!("Bearer {key}");
        eventually(PATIENCE, "the key to be accepted", async || {
            let answer = get(self.address, "/v1/limits", &[("authorization", &bearer)]).await;
            if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }

    pub async fn post(&self, path: &str, key: &str, body: impl Into<bytes::Bytes>) -> Answer {
        post(self.address, path, &[("authorization", &format!("Bearer {key}"))], body).await
    }

    pub async fn get(&self, path: &str) -> Value {
        let answer = get(self.address, path, &[("authorization", &format!("Bearer {}", self.key))]).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    /// Waits until nothing is on the way any more, and returns the audit of the project, which must hold.
    pub async fn settled(&self, project: &str) -> Value {
        let report = eventually(PATIENCE, "an exact audit", async || {
            let report = self.installation.json(&["audit"]).await;
            if report["exact"] == true { Ok(report) } else { Err(report.to_string()) }
        })
        .await;
        assert_eq!(report["holds"], true, "{report}");
        let projects = report["projects"].as_array().unwrap();
        projects.iter().find(|balance| balance["name"] == project).unwrap().clone()
    }

    /// Every stored event, read with SQL. Each of its times can be read by every language.
    pub async fn events(&self) -> Vec<Value> {
        let events = self.read(EVENTS_OF_POSTGRESQL, EVENTS_OF_SQLITE).await;
        for event in &events {
            for column in ["timestamp", "received_at"] {
                assert!(TIMES.contains(&event[column].as_i64().unwrap()), "{column}: {event}");
            }
        }
        events
    }

    /// Every dead letter, read with SQL.
    pub async fn letters(&self) -> Vec<Letter> {
        let rows = self.read(LETTERS_OF_POSTGRESQL, LETTERS_OF_SQLITE).await;
        let letter = |row: Value| Letter {
            id: row["id"].as_i64().unwrap(),
            code: row["code"].as_str().unwrap_or_else(|| panic!("a letter without a code: {row}")).to_owned(),
            index: row["index"].as_i64().unwrap(),
            payload: bytes_of(row["hex"].as_str().unwrap()),
        };
        rows.into_iter().map(letter).collect()
    }

    /// Changes the store behind the program's back.
    pub async fn write(&self, for_postgresql: &str, for_sqlite: &str) {
        if let Some(database) = &self.database {
            database.batch_execute(for_postgresql).await.unwrap();
        } else {
            let store = Connection::open(self.installation.data().join("events.db")).unwrap();
            store.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
            store.execute_batch(for_sqlite).unwrap();
        }
    }

    /// The objects in the first column of a query.
    pub async fn read(&self, for_postgresql: &str, for_sqlite: &str) -> Vec<Value> {
        let texts: Vec<String> = if let Some(database) = &self.database {
            let rows = database.query(for_postgresql, &[]).await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        } else {
            let file = self.installation.data().join("events.db");
            let store = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
            let mut query = store.prepare(for_sqlite).unwrap();
            let rows = query.query_map([], |row| row.get(0)).unwrap();
            rows.collect::<Result<_, _>>().unwrap()
        };
        let parse = |text: &String| serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        texts.iter().map(parse).collect()
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    hex.as_bytes().chunks(2).map(byte).collect()
}
