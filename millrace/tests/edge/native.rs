//! The native route: it repairs nothing, names the index of what it refuses, and stores the rest.

use serde_json::{Value, json};

use crate::site::Site;

const GOOD: &[u8] = br#"{"name":"good"}"#;
/// Microseconds since 1970 of the first and of the last time that a column holds.
const FIRST_AND_LAST: [i64; 2] = [-62_135_596_800_000_000, 253_402_300_799_999_999];

fn refused() -> Vec<(&'static str, Vec<u8>)> {
    let value = |value: &[u8]| [br#"{"name":"x","properties":{"v":"#, value, b"}}"].concat();
    let time = |time: &str| format!(r#"{{"name":"x","timestamp":{time}}}"#).into_bytes();
    vec![
        ("invalid_json", value(b"NaN")),
        ("invalid_json", value(b"-Infinity")),
        ("invalid_json", value(b"\"\xFF\"")),
        ("invalid_json", value(b"\"a\tb\"")),
        ("invalid_json", value(b"undefined")),
        ("invalid_json", value(b"[1")),
        ("invalid_string", value(br#""cut \ud83d""#)),
        ("invalid_string", br#"{"name":"x","properties":{"\udead":1}}"#.to_vec()),
        ("invalid_number", value(b"1e400")),
        ("too_deep", value(&[[b'['; 80], [b']'; 80]].concat())),
        ("invalid_type", br#"{"name":"x","properties":[]}"#.to_vec()),
        ("invalid_type", br#"{"name":5}"#.to_vec()),
        ("invalid_length", format!(r#"{{"name":"x","subject":"{}"}}"#, "s".repeat(201)).into_bytes()),
        ("invalid_timestamp", time(r#""0000-01-01T00:00:00Z""#)),
        ("invalid_timestamp", time(r#""0001-01-01T00:00:00+00:01""#)),
        ("invalid_timestamp", time(r#""9999-12-31T23:59:59-23:59""#)),
        ("invalid_timestamp", time(r#""2026-11-20T10:00:00""#)),
        ("invalid_type", time("1795168800")),
        ("unknown_field", br#"{"name":"x","event":"y"}"#.to_vec()),
    ]
}

/// Numbers at the limits of a double.
const NUMBERS: [&str; 6] = [
    "5e-324",
    "4.9E-324",
    "1e-310",
    "2.2250738585072014E-308",
    "1.7976931348623157e308",
    "-1.7976931348623157E+308",
];

/// Each number as the SQL of both stores has it, in the order in which they were sent.
const NUMBERS_OF_POSTGRESQL: &str =
    "SELECT to_jsonb(properties ->> 'v')::text FROM events WHERE properties ? 'v' ORDER BY name";
const NUMBERS_OF_SQLITE: &str = "SELECT json_quote('' || (properties -> '$.v')) FROM events WHERE properties -> '$.v' IS NOT NULL ORDER BY name";

/// Events at the limits, with the columns that they must have.
fn taken() -> Vec<(String, Value)> {
    let time = |time: &str, micros: i64| (format!(r#""timestamp":"{time}""#), json!({"timestamp": micros}));
    vec![
        time("0001-01-01T00:00:00Z", FIRST_AND_LAST[0]),
        time("9999-12-31T23:59:59.9999999Z", FIRST_AND_LAST[1]),
        (
            r#""id":"ffffffff-ffff-7fff-bfff-ffffffffffff""#.to_owned(),
            json!({"timestamp": "received_at", "event_id": "ffffffffffff7fffbfffffffffffffff"}),
        ),
        (
            r#""id":"01a2f6c8-8900-7000-8000-000000000001""#.to_owned(),
            json!({"timestamp": 0x01a2_f6c8_8900_i64 * 1_000, "client_id": null}),
        ),
    ]
}

async fn one_broken_event_is_refused_by_its_index_and_costs_nothing_else(site: Site) {
    let mut codes = std::collections::BTreeMap::new();
    let refused = refused();
    for (code, event) in &refused {
        let body = [br#"{"events":["#, GOOD, b",", event, b",", GOOD, b"]}"].concat();
        let shown = String::from_utf8_lossy(event).into_owned();
        let answer = site.post("/v1/events", &site.key, body).await;
        assert_eq!(answer.status, 202, "{shown}: {answer:?}");
        let answer = answer.json();
        let rejected = answer["rejected"].as_array().unwrap();
        assert_eq!((&answer["accepted"], rejected.len()), (&json!(2), 1), "{shown}: {answer}");
        assert_eq!(
            (&rejected[0]["index"], &rejected[0]["code"]),
            (&json!(1), &json!(code)),
            "{shown}: {answer}"
        );
        *codes.entry((*code).to_owned()).or_insert(0_u64) += 1;
    }
    let taken = taken();
    for (number, (members, _)) in taken.iter().enumerate() {
        let body = format!(r#"{{"name":"taken {number}",{members}}}"#);
        let answer = site.post("/v1/events", &site.key, body).await;
        assert_eq!((answer.status, &answer.json()["rejected"]), (202, &json!([])), "{members}: {answer:?}");
    }
    let balance = site.settled("shop").await;
    let accepted = (refused.len() * 2 + taken.len()) as u64;
    assert_eq!((&balance["accepted"], &balance["stored"]), (&json!(accepted), &json!(accepted)), "{balance}");
    let events = site.events().await;
    assert_eq!(events.iter().filter(|event| event["name"] == "good").count(), refused.len() * 2);
    for (number, (members, row)) in taken.iter().enumerate() {
        let event = events.iter().find(|event| event["name"] == format!("taken {number}")).unwrap();
        for (column, expected) in row.as_object().unwrap() {
            let expected = if expected == "received_at" { &event["received_at"] } else { expected };
            assert_eq!(&event[column], expected, "{members}: {event}");
        }
    }
    let report =
        testkit::eventually(crate::installation::PATIENCE, "the refusals to be counted", async || {
            let report = site.get("/v1/rejections").await;
            let counts = report["counts"].as_array().unwrap().iter();
            let events = counts.filter(|row| row["kind"] == "event");
            let mut found = std::collections::BTreeMap::new();
            for row in events {
                *found.entry(row["code"].as_str().unwrap().to_owned()).or_insert(0) +=
                    row["count"].as_u64().unwrap();
            }
            if found == codes { Ok(report) } else { Err(report.to_string()) }
        })
        .await;
    assert_eq!(report["samples"].as_array().map(Vec::is_empty), Some(false), "{report}");
}

#[tokio::test]
async fn one_broken_event_is_refused_by_its_index_and_costs_nothing_else_on_files() {
    one_broken_event_is_refused_by_its_index_and_costs_nothing_else(Site::on_files().await).await;
}

#[tokio::test]
async fn one_broken_event_is_refused_by_its_index_and_costs_nothing_else_on_servers() {
    one_broken_event_is_refused_by_its_index_and_costs_nothing_else(Site::on_servers().await).await;
}

async fn every_double_is_the_same_double_in_sql(site: Site) {
    for (number, value) in NUMBERS.iter().enumerate() {
        let body = format!(r#"{{"name":"number {number}","properties":{{"v":{value}}}}}"#);
        let answer = site.post("/v1/events", &site.key, body).await;
        assert_eq!((answer.status, &answer.json()["rejected"]), (202, &json!([])), "{value}: {answer:?}");
    }
    site.settled("shop").await;
    let double = |text: &Value| text.as_str().unwrap().parse::<f64>().unwrap().to_bits();
    let read: Vec<_> = site.read(NUMBERS_OF_POSTGRESQL, NUMBERS_OF_SQLITE).await.iter().map(double).collect();
    assert_eq!(read, NUMBERS.map(|number| number.parse::<f64>().unwrap().to_bits()));
}

#[tokio::test]
async fn every_double_is_the_same_double_in_sql_on_files() {
    every_double_is_the_same_double_in_sql(Site::on_files().await).await;
}

#[tokio::test]
async fn every_double_is_the_same_double_in_sql_on_servers() {
    every_double_is_the_same_double_in_sql(Site::on_servers().await).await;
}

/// The same question in the SQL of both stores.
async fn the_last_of_equal_names_and_the_context_of_the_call_win_in_sql(site: Site) {
    let body = r#"{"name":"n","properties":{"a":1,"a":2},"context":{"b":{"c":1,"c":2}}}"#;
    assert_eq!(site.post("/v1/events", &site.key, body).await.status, 202);
    let body = r#"{"context":{"a":"batch","b":{"c":0}},"batch":[
        {"type":"track","event":"n","userId":"u","properties":{"a":1,"a":2},"context":{"a":"call","b":{"c":1,"c":2}}}]}"#;
    assert_eq!(site.post("/v1/batch", &site.key, body).await.status, 200);
    site.settled("shop").await;
    let found = site
        .read(
            "SELECT jsonb_build_array(properties -> 'a', context -> 'a', context #> '{b,c}')::text FROM events \
             ORDER BY subject NULLS FIRST",
            "SELECT json_array(properties ->> 'a', context ->> 'a', context ->> '$.b.c') FROM events ORDER BY subject",
        )
        .await;
    assert_eq!(found, [json!([2, null, 2]), json!([2, "call", 2])]);
}

#[tokio::test]
async fn the_last_of_equal_names_and_the_context_of_the_call_win_in_sql_on_files() {
    the_last_of_equal_names_and_the_context_of_the_call_win_in_sql(Site::on_files().await).await;
}

#[tokio::test]
async fn the_last_of_equal_names_and_the_context_of_the_call_win_in_sql_on_servers() {
    the_last_of_equal_names_and_the_context_of_the_call_win_in_sql(Site::on_servers().await).await;
}

/// A call that is stamped again when it is retried, and one whose amount has changed.
async fn an_id_is_stored_and_billed_once_in_a_project_that_chose_so(site: Site) {
    let key = site.project("bills", &["--dedupe", "id"]).await;
    for (time, amount) in [("10:00:00", 1), ("10:00:01", 1), ("10:00:00", 1), ("10:00:02", 2)] {
        let body = format!(
            r#"{{"name":"paid","id":"invoice-1","timestamp":"2026-11-20T{time}Z","properties":{{"amount":{amount}}}}}"#
        );
        assert_eq!(site.post("/v1/events", &key, body).await.status, 202);
    }
    let balance = site.settled("bills").await;
    assert_eq!((&balance["stored"], &balance["duplicate"]), (&json!(1), &json!(3)), "{balance}");
    let usage = site.installation.json(&["usage", "bills", "--from", "1d"]).await["total"].clone();
    assert_eq!((&usage["events"], &usage["conflicts"]), (&json!(1), &json!(1)), "{usage}");
    assert_eq!(site.events().await[0]["properties"], json!({"amount": 1}), "the first one is kept");
    let report = site.installation.json(&["rejections", "--project", "bills"]).await;
    let conflict = &report["samples"][0];
    assert_eq!(conflict["kind"], "conflict", "{report}");
    assert!(
        conflict["payload"].as_str().unwrap().contains("\"amount\": 2")
            || conflict["payload"].as_str().unwrap().contains("\"amount\":2"),
        "{report}"
    );
}

#[tokio::test]
async fn an_id_is_stored_and_billed_once_in_a_project_that_chose_so_on_files() {
    an_id_is_stored_and_billed_once_in_a_project_that_chose_so(Site::on_files().await).await;
}

#[tokio::test]
async fn an_id_is_stored_and_billed_once_in_a_project_that_chose_so_on_servers() {
    an_id_is_stored_and_billed_once_in_a_project_that_chose_so(Site::on_servers().await).await;
}

#[tokio::test]
async fn events_of_past_years_lie_in_days_of_their_own() {
    let site = Site::on_servers().await;
    let event = |number: u32| {
        let (month, day) = (number % 12 + 1, number % 28 + 1);
        json!({"name": "imported", "timestamp": format!("2024-{month:02}-{day:02}T10:00:00Z")})
    };
    let native = json!({"events": (0..36).map(event).collect::<Vec<_>>()}).to_string();
    assert_eq!(site.post("/v1/events", &site.key, native).await.status, 202);
    let call = |number| {
        let timestamp = event(number)["timestamp"].clone();
        json!({"type": "track", "event": "imported", "userId": "u", "timestamp": timestamp})
    };
    let calls = json!({"batch": (0..36).map(call).collect::<Vec<_>>()}).to_string();
    assert_eq!(site.post("/v1/import", &site.key, calls).await.status, 200);
    site.settled("shop").await;
    let places =
        "SELECT to_jsonb(count(*) FILTER (WHERE tableoid = 'events_default'::regclass))::text FROM events";
    assert_eq!(site.read(places, "").await, [json!(0)]);
    assert_eq!(site.events().await.len(), 72);
}
