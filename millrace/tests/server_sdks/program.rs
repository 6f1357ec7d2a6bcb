//! Runs a program that makes calls of an SDK through a proxy with faults, and compares what is stored with
//! what the program expects.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use testkit::HttpProxy;
use testkit::RequestFault::{DropAnswer, SlowBodies, TooManyRequests, Unavailable};

use crate::site::{Letter, Site};

/// An interpreter and a program, from the root of the project.
pub type Interpreter = (&'static str, &'static str);

pub const PYTHON: Interpreter = (".test/venv/bin/python", "testkit/sdk/odd_calls.py");
pub const OLD_PYTHON: Interpreter = (".test/analytics-python/bin/python", "testkit/sdk/odd_calls.py");
pub const NODE: Interpreter = ("node", "testkit/sdk/node/odd_calls.js");
pub const POSTHOG_PYTHON: Interpreter = (".test/venv/bin/python", "testkit/sdk/posthog_calls.py");
pub const METERING_PYTHON: Interpreter = (".test/venv/bin/python", "testkit/sdk/metering_calls.py");
pub const CLOUDEVENTS_PYTHON: Interpreter = (".test/cloudevents/bin/python", "testkit/sdk/metering_calls.py");
pub const METERING_NODE: Interpreter = ("node", "testkit/sdk/node/metering_calls.js");
pub const ANALYTICS_PYTHON: Interpreter = (".test/venv/bin/python", "testkit/sdk/analytics_calls.py");
pub const ANALYTICS_NODE: Interpreter = ("node", "testkit/sdk/node/analytics_calls.js");
pub const JITSU_NODE: Interpreter = ("node", "testkit/sdk/node/jitsu_calls.js");
pub const SNOWPLOW_PYTHON: Interpreter = (".test/venv/bin/python", "testkit/sdk/snowplow_calls.py");
pub const SNOWPLOW_NODE: Interpreter = ("node", "testkit/sdk/node/snowplow_calls.js");
pub const OTEL_PYTHON: Interpreter = (".test/venv/bin/python", "testkit/sdk/otel_calls.py");
pub const OTEL_NODE: Interpreter = ("node", "testkit/sdk/node/otel_calls.js");
pub const POSTHOG_NODE: Interpreter = ("node", "testkit/sdk/node/posthog_calls.js");

/// Two refusals of different kinds, bodies that arrive slowly, and an answer that is lost, among the first
/// requests.
pub const FAULTS: [(u64, testkit::RequestFault); 4] =
    [(1, TooManyRequests(1)), (2, SlowBodies), (3, Unavailable(1)), (4, DropAnswer)];

/// The name of events that no program sends.
pub const FILLER: &str = "filler";

/// SDKs that do not send a batch again when its answer was lost.
const FORGET_LOST_ANSWERS: [&str; 2] = ["amplitude", "amplitude-batch"];

/// Runs the program and checks everything that it sent. Returns the size of the largest body.
pub async fn every_call_is_its_row_or_its_dead_letter(
    site: Site,
    interpreter: Interpreter,
    sdk: &str,
) -> u64 {
    let proxy = HttpProxy::start(site.address, &FAULTS).await;
    let expected = run(interpreter, sdk, &format!("http://{}", proxy.address()), &site.key).await;
    let counts = proxy.counts();
    assert_eq!((counts.refused, counts.slowed, counts.dropped), (2, 1, 1), "{counts:?}");

    let balance = check_stored(&site, &expected, counts.dropped).await;
    if !FORGET_LOST_ANSWERS.contains(&sdk) {
        assert!(balance["duplicate"].as_u64() > Some(0), "the batch whose answer was lost was sent again");
    }
    counts.largest_body
}

/// Checks that each call is its row, once, or its dead letter, and that nothing else was stored for the
/// project `shop`. Returns its audit. `lost` answers let a dead letter be written again.
pub async fn check_stored(site: &Site, expected: &[Value], lost: u64) -> Value {
    let balance = site.settled("shop").await;
    let (mut events, letters) = (site.events().await, site.letters().await);
    events.retain(|event| event["name"] != FILLER);
    let by_case: BTreeMap<&str, Vec<&Value>> = events.iter().fold(BTreeMap::new(), |mut cases, event| {
        let (context, properties) = (&event["context"], &event["properties"]);
        let in_contexts = &context["snowplow"]["contexts"][0]["data"];
        let places = [context, properties, in_contexts].map(|place| &place["case"]);
        let case = places.into_iter().find_map(Value::as_str);
        let case = case.unwrap_or_else(|| panic!("a row of no call: {event}"));
        cases.entry(case).or_insert_with(Vec::new).push(event);
        cases
    });
    let mut repeated = 0;
    for call in expected {
        let case = call["case"].as_str().unwrap();
        let rows = by_case.get(case).map_or(&[][..], Vec::as_slice);
        let dead: Vec<_> = letters.iter().filter(|letter| is_of(letter, case)).collect();
        match call["dead"].as_str() {
            Some(code) => {
                assert_eq!(rows.len(), 0, "{call}: {rows:?}");
                assert!(dead.iter().all(|letter| letter.code == code), "{call}: {dead:?}");
                // A call of the batch that was sent again is a letter of each of both batches.
                assert!((1..=1 + lost as usize).contains(&dead.len()), "{call}: {dead:?}");
                repeated += dead.len() - 1;
            }
            None => {
                assert_eq!((rows.len(), dead.len()), (1, 0), "{call}: {rows:?} {dead:?}");
                check(rows[0], &call["row"], call["family"].as_str().unwrap_or("segment"));
            }
        }
    }
    assert_eq!(events.len() + letters.len() - repeated, expected.len(), "nothing else is stored");
    let sums = ["stored", "dead", "pending"].map(|sum| balance[sum].as_u64().unwrap());
    assert_eq!(sums, [events.len() as u64, letters.len() as u64, 0], "{balance}");
    let used = site.get("/v1/limits").await["events"]["used"].clone();
    assert_eq!(used, json!(events.len()), "dead calls and repeated calls are refunded");
    balance
}

/// Runs the program, and returns what it expects of the store.
pub async fn run((interpreter, program): Interpreter, sdk: &str, host: &str, key: &str) -> Vec<Value> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let interpreter =
        if interpreter.contains('/') { project.join(interpreter) } else { PathBuf::from(interpreter) };
    let folder = tempfile::tempdir().unwrap();
    let expected = folder.path().join("expected.json");
    let output = tokio::process::Command::new(&interpreter)
        .arg(project.join(program))
        .args([sdk, host, key])
        .arg(&expected)
        .env("NO_PROXY", "127.0.0.1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap_or_else(|error| panic!("{}: {error}; ./test installs the SDKs", interpreter.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&std::fs::read(expected).unwrap()).unwrap()
}

/// Whether the text of a dead letter is that of the call.
fn is_of(letter: &Letter, case: &str) -> bool {
    let text = String::from_utf8_lossy(&letter.payload);
    ["\"case\":", "\"case\": "].iter().any(|member| text.contains(&format!("{member}\"{case}\"")))
}

/// Compares a row with the expected columns. `rest` has members of what has no column, `properties_have` and
/// `context_has` have some members of theirs.
fn check(event: &Value, row: &Value, family: &str) {
    for (column, expected) in row.as_object().unwrap() {
        match column.as_str() {
            "rest" => {
                for (name, value) in expected.as_object().unwrap() {
                    assert_eq!(&event["context"][family][name], value, "{name} of {row}: {event}");
                }
            }
            "properties_have" | "context_has" => {
                let object = &event[if column == "context_has" { "context" } else { "properties" }];
                for (name, value) in expected.as_object().unwrap() {
                    assert_eq!(&object[name], value, "{name} of {row}: {event}");
                }
            }
            "subject_begins" => {
                let subject = event["subject"].as_str().unwrap();
                assert!(subject.starts_with(expected.as_str().unwrap()) && subject.len() <= 200, "{event}");
            }
            "timestamp" if expected == "received_at" => {
                assert_eq!(event["timestamp"], event["received_at"], "{row}: {event}");
            }
            _ => assert_eq!(&event[column], expected, "{column} of {row}: {event}"),
        }
    }
}
