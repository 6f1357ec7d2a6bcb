//! What every protocol of an SDK makes of a request, on both stores: the cases are files of JSON in
//! `testkit/sdk/vectors`, one for each family, so that a new case needs no code.
//!
//! | member of a case | meaning |
//! |---|---|
//! | `case` | what it shows, in words |
//! | `path`, `headers` | of the request, which is a POST unless `method` says otherwise |
//! | `body` | JSON, or a text that is sent as it is; `body_base64` has bytes |
//! | `answer` | `status`, and `body`, `body_base64` or `headers` where they matter; JSON must be equal |
//! | `rows` | the rows that are stored, each with every column; `received_at` is the time of receipt |
//! | `letters` | the codes of the dead letters |
//! | `rows_with_ip` | the rows in a project that stores addresses, which gets the request as well |

#[path = "../installation/mod.rs"]
mod installation;
#[path = "../edge/site.rs"]
#[allow(dead_code, reason = "shared with the target edge, which uses more of it")]
mod site;

mod addresses;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use site::Site;
use testkit::http::{Answer, HttpClient};

/// The key that the cases send.
const KEY: &str = "key-of-the-vectors";
/// Takes its place for the project that stores addresses.
const KEY_WITH_IP: &str = "key-of-the-vectors-with-ip";
/// Columns that every row in a file has, or that are null.
const COLUMNS: [&str; 4] = ["subject", "client_id", "properties", "context"];

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_the_vectors_has_its_answer_and_its_rows_on_files() {
    every_request_has_its_answer_and_its_rows(Site::on_files().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_the_vectors_has_its_answer_and_its_rows_on_servers() {
    every_request_has_its_answer_and_its_rows(Site::on_servers().await).await;
}

async fn every_request_has_its_answer_and_its_rows(site: Site) {
    site.project("vectors", &["--key", KEY]).await;
    site.project("vectors with ip", &["--key", KEY_WITH_IP, "--store-ip"]).await;
    let cases = cases();
    assert!(!cases.is_empty());
    for (file, case) in &cases {
        let answer = send(&site, case).await;
        check_answer(&format!("{file}: {}", case["case"]), &answer, &case["answer"]);
    }
    site.settled("vectors with ip").await;
    let mut stored = site.events().await;
    for (file, case) in &cases {
        for row in case["rows"].as_array().map_or(&[][..], Vec::as_slice) {
            let found = stored.iter().position(|event| is_row(event, row));
            let at = found.unwrap_or_else(|| {
                let alike: Vec<_> = stored.iter().filter(|event| event["name"] == row["name"]).collect();
                panic!("{file}: {}: no row is {row:#}\nof the same name: {alike:#?}", case["case"])
            });
            stored.remove(at);
        }
    }
    assert!(stored.is_empty(), "no case expects these rows: {stored:#?}");
    let mut letters: BTreeMap<String, i64> = BTreeMap::new();
    for letter in site.letters().await {
        *letters.entry(letter.code).or_default() += 1;
    }
    for code in cases.iter().flat_map(|(_, case)| case["letters"].as_array().into_iter().flatten()) {
        *letters.entry(code.as_str().unwrap().to_owned()).or_default() -= 1;
    }
    letters.retain(|_, count| *count != 0);
    assert!(letters.is_empty(), "dead letters that no case expects, or that are missing: {letters:?}");
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("testkit").join("sdk/vectors")
}

/// Every case with the name of its file.
fn cases() -> Vec<(String, Value)> {
    let mut files: Vec<_> = std::fs::read_dir(folder()).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort_unstable();
    let cases = |file: &PathBuf| -> Vec<(String, Value)> {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(file).unwrap();
        let cases: Vec<Value> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        cases.into_iter().map(|case| (name.clone(), case)).collect()
    };
    files.iter().flat_map(cases).flat_map(|(name, case)| with_its_copy(&name, case)).collect()
}

/// A case, and the same case for the project that stores addresses.
fn with_its_copy(name: &str, case: Value) -> Vec<(String, Value)> {
    let copy = case.get("rows_with_ip").map(|rows| {
        let text = case.to_string();
        assert!(text.contains(KEY), "{name}: {}: no key to replace", case["case"]);
        let mut copy: Value = serde_json::from_str(&text.replace(KEY, KEY_WITH_IP)).unwrap();
        copy["rows"] = rows.clone();
        copy
    });
    let copy = copy.map(|copy| (format!("{name} with addresses"), copy));
    [(name.to_owned(), case)].into_iter().chain(copy).collect()
}

async fn send(site: &Site, case: &Value) -> Answer {
    let body = match (&case["body"], &case["body_base64"]) {
        (Value::Null, Value::Null) => Vec::new(),
        (Value::Null, bytes) => STANDARD.decode(bytes.as_str().unwrap()).unwrap(),
        (Value::String(text), _) => text.clone().into_bytes(),
        (json, _) => json.to_string().into_bytes(),
    };
    let headers: Vec<(&str, &str)> = case["headers"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
        .collect();
    let method = case["method"].as_str().unwrap_or("POST");
    let mut client = HttpClient::new(site.address);
    client.send(method, case["path"].as_str().unwrap(), &headers, body).await.unwrap()
}

fn check_answer(case: &str, answer: &Answer, expected: &Value) {
    assert_eq!(json!(answer.status), expected["status"], "{case}: {answer:?}");
    if let Some(body) = expected.as_object().unwrap().get("body") {
        let is_equal = match body {
            Value::String(text) => answer.body == text.as_bytes(),
            json => serde_json::from_slice::<Value>(&answer.body).is_ok_and(|body| matches(&body, json)),
        };
        assert!(is_equal, "{case}: {answer:?} has not the body {body}");
    }
    if let Some(bytes) = expected["body_base64"].as_str() {
        assert_eq!(STANDARD.encode(&answer.body), bytes, "{case}: {answer:?}");
    }
    for (name, value) in expected["headers"].as_object().unwrap_or(&Map::new()) {
        assert_eq!(answer.header(name), value.as_str(), "{case}: {name}");
    }
}

/// Whether two values are equal, where `"*"` stands for anything.
fn matches(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (_, Value::String(any)) if any == "*" => true,
        (Value::Object(found), Value::Object(expected)) => {
            found.len() == expected.len()
                && expected
                    .iter()
                    .all(|(name, value)| found.get(name).is_some_and(|found| matches(found, value)))
        }
        (Value::Array(found), Value::Array(expected)) => {
            found.len() == expected.len()
                && found.iter().zip(expected).all(|(found, expected)| matches(found, expected))
        }
        _ => found == expected,
    }
}

fn is_row(event: &Value, row: &Value) -> bool {
    let time = match row["timestamp"].as_str() {
        Some("received_at") => &event["received_at"],
        _ => &row["timestamp"],
    };
    let named = row.as_object().unwrap().keys();
    named.for_each(|name| {
        assert!(["name", "timestamp"].contains(&name.as_str()) || COLUMNS.contains(&name.as_str()), "{name}");
    });
    event["name"] == row["name"]
        && event["timestamp"] == *time
        && COLUMNS.iter().all(|column| event[*column] == row[*column])
}
