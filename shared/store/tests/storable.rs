//! Accepted means storable: PostgreSQL and SQLite store every event that the validator accepts, and return it
//! unchanged.

mod helpers;

use millrace_event::EntryId;
use millrace_event::dialect::{BodyError, native, read};
use millrace_event::event::{EVENT_TIMES_US, EXPONENTS_SUM_MAX, Origin};
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
        1 => proptest::sample::select(&[
            "1e308", "1E-308", "-9.99e+308", "1e309", "1e131071", "1e-16384", "0e0", "-0", "0.0e-308", "5e-324", "-1e-400",
            "0e400", "0E-400", "1.7976931348623157e308",
        ][..]).prop_map(same),
        1 => any_double().prop_map(|double| same(format!("{double:e}"))),
        1 => any_double().prop_map(|double| same(double.to_string())),
    ]
}

fn any_double() -> impl Strategy<Value = f64> {
    let of_bits = |bits: u64| f64::from_bits(bits);
    prop_oneof![3 => any::<u64>().prop_map(of_bits), 1 => (0..1_u64 << 52).prop_map(of_bits)]
        .prop_filter("JSON has no NaN and no infinity", |double| double.is_finite())
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
        let request = WriteRequest {
            entry: EntryId { ms: now_ms, seq: batch as u64 },
            shard: 0,
            batch_id: origin.batch_id,
            project: origin.project,
            count: batch_read.count,
            payload: Payload::Rows(batch_read.rows.clone().into()),
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

/// A batch of native events, written to both stores.
struct Written {
    postgres: Postgres,
    client: tokio_postgres::Client,
    file: rusqlite::Connection,
    /// When the batch was received.
    received_ms: u64,
    rejected: Vec<(usize, String)>,
    _folder: tempfile::TempDir,
}

impl Written {
    async fn new(body: &str) -> Self {
        let postgres = Postgres::start().await;
        let (servers, client) = (store(&postgres).await, postgres.connect().await);
        let folder = tempfile::tempdir().unwrap();
        let embedded = SqliteStore::open(folder.path()).unwrap();
        embedded.migrate().await.unwrap();
        let origin = Origin::new(ProjectId(1), Uuid::now_v7());
        let batch = read(&native::JSON, body.as_bytes(), origin, 1_000).unwrap();
        let received_ms = helpers::now_ms();
        let request = WriteRequest {
            entry: EntryId { ms: received_ms, seq: 0 },
            shard: 0,
            batch_id: origin.batch_id,
            project: origin.project,
            count: batch.count,
            payload: Payload::Rows(batch.rows.into()),
        };
        for mut writer in
            [servers.writer("storable").await.unwrap(), embedded.writer("storable").await.unwrap()]
        {
            let written = writer.write(std::slice::from_ref(&request)).await.unwrap();
            assert_eq!(written[0].outcome, helpers::stored(batch.count));
        }
        let file = rusqlite::Connection::open(folder.path().join("events.db")).unwrap();
        let rejected = batch.rejected.into_iter().map(|one| (one.index, one.code.to_string())).collect();
        Self { postgres, client, file, received_ms, rejected, _folder: folder }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_double_is_read_back_as_the_same_double() {
    let mut runner = TestRunner::default();
    let mut double = || any_double().new_tree(&mut runner).unwrap().current();
    let edges = [f64::MAX, f64::MIN, f64::MIN_POSITIVE, f64::from_bits(1), 1e-310, 0.1, 1e23];
    let doubles: Vec<f64> = edges.into_iter().chain((0..600).map(|_| double())).collect();
    let spellings = |double: &f64| [format!("{double:e}"), format!("{double}"), format!("{double:.20e}")];
    let texts: Vec<String> = doubles.iter().flat_map(spellings).collect();
    let body = format!(r#"{{"name":"n","properties":{{"v":[{}]}}}}"#, texts.join(","));
    let written = Written::new(&body).await;

    let read = "SELECT (number.value::text)::float8 FROM events, jsonb_array_elements(properties -> 'v')
                WITH ORDINALITY AS number ORDER BY number.ordinality";
    let in_postgres: Vec<f64> =
        written.client.query(read, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
    let read = "SELECT number.value FROM events, json_each(properties, '$.v') AS number ORDER BY number.key";
    let mut statement = written.file.prepare(read).unwrap();
    let in_file: Vec<f64> =
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!((in_postgres.len(), in_file.len()), (texts.len(), texts.len()));
    for (index, text) in texts.iter().enumerate() {
        let sent: f64 = text.parse().unwrap();
        assert_eq!(in_postgres[index], sent, "{text}");
        // SQLite rounds a text to about 15 digits of a double.
        let close = (in_file[index] - sent).abs() <= (sent.abs() * 1e-14).max(f64::from_bits(1));
        assert!(close, "{text} is {} in SQLite", in_file[index]);
    }
    drop(written.postgres);
}

#[tokio::test(flavor = "multi_thread")]
async fn postgresql_writes_out_at_most_the_bytes_sent_and_the_sum_of_the_exponents() {
    for number in ["1e-400", "1.234567890123456789012345678901234567890e-400", "1e308", "0e-400"] {
        let exponent = number.split_once('e').unwrap().1.parse::<i32>().unwrap().unsigned_abs();
        let count = (EXPONENTS_SUM_MAX / exponent) as usize;
        let properties = format!(r#"{{"v": [{}]}}"#, vec![number; count].join(", "));
        let written = Written::new(&format!(r#"{{"name":"n","properties":{properties}}}"#)).await;
        let read = "SELECT octet_length(properties::text) FROM events";
        let bytes: i32 = written.client.query_one(read, &[]).await.unwrap().get(0);
        let bytes = usize::try_from(bytes).unwrap();
        assert!(bytes <= properties.len() + EXPONENTS_SUM_MAX as usize, "{number}: {bytes} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_column_holds_a_year_outside_1_to_9999() {
    let body = r#"{"events":[
        {"name":"refused","timestamp":"0000-01-01T00:00:00Z"},
        {"name":"refused","timestamp":"9999-12-31T23:59:59-23:59"},
        {"name":"received","id":"ffffffff-ffff-7fff-bfff-ffffffffffff"},
        {"name":"first","timestamp":"0001-01-01T00:00:00Z"},
        {"name":"last","timestamp":"9999-12-31T23:59:60Z"},
        {"name":"refused","timestamp":"0001-01-01T00:00:00+01:00"}]}"#;
    let written = Written::new(body).await;
    let refused = [0, 1, 5].map(|index| (index, "invalid_timestamp".to_owned()));
    assert_eq!(written.rejected, refused);
    let read = "SELECT name, to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US BC'), timestamp = received_at
                  FROM events ORDER BY timestamp";
    let rows = written.client.query(read, &[]).await.unwrap();
    let rows: Vec<(String, String, bool)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    assert_eq!(rows.iter().map(|row| row.0.as_str()).collect::<Vec<_>>(), ["first", "received", "last"]);
    assert_eq!((rows[0].1.as_str(), rows[0].2), ("0001-01-01 00:00:00.000000 AD", false));
    assert!(rows[1].2, "stored at its receive time");
    assert_eq!((rows[2].1.as_str(), rows[2].2), ("9999-12-31 23:59:59.999999 AD", false));
    let mut statement = written.file.prepare("SELECT timestamp FROM events ORDER BY timestamp").unwrap();
    let times: Vec<i64> =
        statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
    let received = i64::try_from(written.received_ms).unwrap() * 1_000;
    assert_eq!(times, [*EVENT_TIMES_US.start(), received, *EVENT_TIMES_US.end()]);
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
