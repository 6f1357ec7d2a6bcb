//! Accepted means storable: PostgreSQL and SQLite store every event that the validator accepts, and return it
//! unchanged.

mod helpers;

use millrace_event::EntryId;
use millrace_event::dialect::{BodyError, native, read};
use millrace_event::entry::PackedBatch;
use millrace_event::event::Origin;
use millrace_event::plan::ProjectId;
use millrace_store::postgres::PostgresStore;
use millrace_store::sqlite::SqliteStore;
use millrace_store::{Ledger, Operators, Payload, WriteRequest};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use testkit::Postgres;
use uuid::Uuid;

const EVENTS: usize = 3_000;
const EVENTS_PER_BATCH: usize = 50;

/// JSON text as it is sent, and as PostgreSQL must return it: equal except for U+0000.
#[derive(Clone, Debug)]
struct Text {
    sent: String,
    expected: String,
}

fn same(text: impl Into<String>) -> Text {
    let sent = text.into();
    Text { expected: sent.clone(), sent }
}

fn join(parts: &[Text], opening: &str, between: &str, closing: &str) -> Text {
    let part = |pick: fn(&Text) -> &str| {
        format!("{opening}{}{closing}", parts.iter().map(pick).collect::<Vec<_>>().join(between))
    };
    Text { sent: part(|text| &text.sent), expected: part(|text| &text.expected) }
}

/// Strings of plain, escaped and problematic characters.
fn any_string() -> impl Strategy<Value = Text> {
    let piece = prop_oneof![
        6 => "[a-zA-Z0-9 _.$'%-]{0,8}".prop_map(same),
        2 => any::<char>().prop_filter("as itself", |c| *c >= ' ' && *c != '"' && *c != '\\').prop_map(same),
        1 => Just(Text { sent: "\\u0000".to_owned(), expected: "\\ufffd".to_owned() }),
        1 => proptest::sample::select(&[
            "\\n", "\\\\", "\\\"", "\\/", "\\t", "\\u0001", "\\\\u0000", "\\u00e9", "\\ud83d\\ude00", "\\uffff", "\\ufdd0", "\u{7f}",
        ][..]).prop_map(same),
    ];
    let rare = prop_oneof![30 => Just(""), 1 => Just("\\ud800"), 1 => Just("\\udfff\\ud800")].prop_map(same);
    (proptest::collection::vec(piece, 0..6), rare).prop_map(|(mut pieces, rare)| {
        pieces.push(rare);
        join(&pieces, "\"", "", "\"")
    })
}

fn any_number() -> impl Strategy<Value = Text> {
    prop_oneof![
        4 => "-?(0|[1-9][0-9]{0,11})(\\.[0-9]{1,6})?".prop_map(same),
        1 => "-?(0|[1-9][0-9]{0,40})(\\.[0-9]{1,12})?".prop_map(same),
        1 => "-?[1-9](\\.[0-9]{1,38})?[eE][+-]?[0-9]{1,3}".prop_map(same),
        1 => proptest::sample::select(&["1e308", "1E-308", "-9.99e+308", "1e309", "1e131071", "1e-16384", "0e0", "-0", "0.0e-308"][..])
            .prop_map(same),
    ]
}

fn any_value() -> impl Strategy<Value = Text> {
    let leaf = prop_oneof![
        2 => any_string(),
        2 => any_number(),
        1 => proptest::sample::select(&["null", "true", "false", "{}", "[]", " [ ]", "{\n}"][..]).prop_map(same),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let spaced = proptest::sample::select(&[",", " ,", ",\r\n\t "][..]);
        prop_oneof![
            (proptest::collection::vec(inner.clone(), 0..5), spaced.clone())
                .prop_map(|(items, between)| join(&items, "[", between, "]")),
            any_object(inner.clone(), spaced),
            (inner, 1..70_usize).prop_map(|(inner, depth)| join(
                &[inner],
                &"[".repeat(depth),
                "",
                &"]".repeat(depth)
            )),
        ]
    })
}

fn any_object(
    value: impl Strategy<Value = Text>,
    between: impl Strategy<Value = &'static str>,
) -> impl Strategy<Value = Text> {
    // A few names are frequent, so that some objects have a name twice.
    let name = prop_oneof![1 => any_string(), 2 => proptest::sample::select(&["\"a\"", "\"b\"", "\"\""][..]).prop_map(same)];
    (proptest::collection::vec((name, value), 0..5), between).prop_map(|(members, between)| {
        let members: Vec<_> =
            members.into_iter().map(|(name, value)| join(&[name, value], "", " :", "")).collect();
        join(&members, "{", between, "}")
    })
}

#[derive(Clone, Debug)]
struct Sent {
    event_id: Uuid,
    name: Text,
    subject: Text,
    properties: Text,
}

impl Sent {
    fn body(&self) -> String {
        let Self { event_id, name, subject, properties } = self;
        format!(
            r#"{{"id":"{event_id}","timestamp":"2026-11-21T00:00:00Z","name":{},"subject":{},"properties":{}}}"#,
            name.sent, subject.sent, properties.sent
        )
    }
}

fn any_event() -> impl Strategy<Value = Sent> {
    let properties = any_object(any_value(), Just(","));
    (any_string(), any_string(), properties).prop_map(|(name, subject, properties)| Sent {
        event_id: Uuid::new_v4(),
        name,
        subject,
        properties,
    })
}

async fn store(postgres: &Postgres) -> std::sync::Arc<PostgresStore> {
    let store = helpers::postgres_store(postgres.config());
    store.migrate().await.unwrap();
    store.upkeep(&helpers::keep_all()).await.unwrap();
    store
}

#[tokio::test(flavor = "multi_thread")]
async fn every_accepted_event_is_stored_and_returned_unchanged() {
    let postgres = Postgres::start().await;
    let store = store(&postgres).await;
    let client = postgres.connect().await;
    let mut writer = store.writer("storable").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let embedded = SqliteStore::open(folder.path()).unwrap();
    embedded.migrate().await.unwrap();
    let mut embedded_writer = embedded.writer("storable").await.unwrap();
    let file = rusqlite::Connection::open(folder.path().join("events.db")).unwrap();
    let mut runner = TestRunner::default();
    let now_ms = helpers::now_ms();
    let (mut accepted, mut refused, mut with_nul) = (0, 0, 0);
    for batch in 0..EVENTS / EVENTS_PER_BATCH {
        let sent: Vec<Sent> =
            (0..EVENTS_PER_BATCH).map(|_| any_event().new_tree(&mut runner).unwrap().current()).collect();
        let body = format!("[{}]", sent.iter().map(Sent::body).collect::<Vec<_>>().join(",\n"));
        let origin = Origin::new(ProjectId(1), Uuid::now_v7());
        let batch_read = match read(&native::JSON, body.as_bytes(), origin, 1_000) {
            Ok(read) => read,
            Err(BodyError::NoValidEvent { .. }) => continue,
            Err(other) => panic!("{other:?} of {body}"),
        };
        let rejected: Vec<_> = batch_read.rejected.iter().map(|rejection| rejection.index).collect();
        let packed = PackedBatch::pack(origin.batch_id, origin.project, batch_read.count, &batch_read.rows);
        let request = WriteRequest {
            entry: EntryId { ms: now_ms, seq: batch as u64 },
            shard: 0,
            batch_id: origin.batch_id,
            project: origin.project,
            count: batch_read.count,
            body: Payload::Rows(packed.unpack().unwrap()),
        };
        let written = writer.write(std::slice::from_ref(&request)).await.unwrap();
        if written[0].outcome.dead > 0 {
            let letter =
                client.query_one("SELECT reason, payload FROM dead_letters LIMIT 1", &[]).await.unwrap();
            let payload = String::from_utf8_lossy(letter.get::<_, &[u8]>(1)).into_owned();
            panic!("accepted but not storable: {}: {payload}", letter.get::<_, &str>(0));
        }
        assert_eq!(written[0].outcome.stored, batch_read.count);
        assert_eq!(embedded_writer.write(&[request]).await.unwrap(), written);
        for (index, event) in sent.iter().enumerate().filter(|(index, _)| !rejected.contains(index)) {
            accepted += 1;
            with_nul += usize::from(event.properties.sent != event.properties.expected);
            is_returned_unchanged(&client, event)
                .await
                .unwrap_or_else(|what| panic!("{what} in event {index}: {}", event.body()));
            is_equal_in_both(&client, &file, event)
                .await
                .unwrap_or_else(|what| panic!("{what} in event {index}: {}", event.body()));
        }
        refused += rejected.len();
    }
    assert!(
        accepted > EVENTS / 3 && refused > 10 && with_nul > 10,
        "{accepted} accepted, {refused} refused, {with_nul} with U+0000"
    );
}

async fn is_returned_unchanged(client: &tokio_postgres::Client, event: &Sent) -> Result<(), String> {
    let sql = "SELECT name = ($2::text::jsonb #>> '{}'), subject = ($3::text::jsonb #>> '{}'), properties = $4::text::jsonb, \
               properties::text FROM events WHERE event_id = $1";
    let (name, subject) = (&event.name.expected, &event.subject.expected);
    let row = client.query_one(sql, &[&event.event_id, name, subject, &event.properties.expected]).await;
    let row = row.map_err(|error| format!("{error:?}"))?;
    for (column, field) in ["name", "subject", "properties"].iter().enumerate() {
        if row.get::<_, Option<bool>>(column) != Some(true) {
            return Err(format!("{field} is different (properties are {})", row.get::<_, String>(3)));
        }
    }
    Ok(())
}

/// SQLite keeps JSON as the text that was sent. PostgreSQL must find it equal to its own, and SQLite's
/// functions must accept it.
async fn is_equal_in_both(
    client: &tokio_postgres::Client,
    file: &rusqlite::Connection,
    event: &Sent,
) -> Result<(), String> {
    let read = "SELECT name, subject, properties, json_valid(properties) FROM events WHERE event_id = ?1";
    let (name, subject, properties, is_valid): (String, String, String, bool) = file
        .prepare_cached(read)
        .and_then(|mut statement| {
            statement.query_row([event.event_id.as_bytes()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
        })
        .map_err(|error| format!("{error:?}"))?;
    let compare =
        "SELECT name = $2, subject = $3, properties = $4::text::jsonb FROM events WHERE event_id = $1";
    let row = client.query_one(compare, &[&event.event_id, &name, &subject, &properties]).await;
    let row = row.map_err(|error| format!("{error:?}"))?;
    if is_valid && (0..3).all(|column| row.get(column)) {
        return Ok(());
    }
    Err(format!("SQLite has different values ({name:?}, {subject:?}, {properties})"))
}
