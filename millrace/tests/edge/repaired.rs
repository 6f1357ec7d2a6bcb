//! Each row of the documentation's table of repairs, with calls of its kind and the row that each must
//! become.

use serde_json::{Value, json};

use crate::reports::Counted;
use crate::site::Site;
use crate::times;
use crate::ways::Way;

/// A call, and what its row must be.
pub struct Repair {
    /// The row, or the phrase, of the documentation.
    pub documented: &'static str,
    pub call: Vec<u8>,
    /// Further members of the batch.
    pub around: &'static str,
    /// Columns by name. `rest` has members of what has no column, `null` for those that must be absent.
    pub row: Value,
    ways: &'static [Way],
}

const ALL: &[Way] = &[Way::Head, Way::Body, Way::Query, Way::Alone];

/// A call that is repaired alike in each way of sending it.
fn call(documented: &'static str, call: impl Into<Vec<u8>>, row: Value) -> Repair {
    Repair { documented, call: call.into(), around: "", row, ways: &Way::OF_BATCHES }
}

/// A track call with further members.
pub fn track(documented: &'static str, members: &str, row: Value) -> Repair {
    let text = format!(r#"{{"type":"track","event":"e","userId":"u",{members}}}"#);
    Repair { ways: ALL, ..call(documented, text, row) }
}

fn cut() -> Vec<Repair> {
    const ROW: &str = r#"half of a surrogate pair (`"cut \ud83d"`), in a value or a name"#;
    let repaired = json!({"t": "cut \u{FFFD}", "\u{FFFD}": "\u{FFFD} \u{1F600}"});
    vec![
        track(ROW, r#""properties":{"t":"cut \ud83d"}"#, json!({"properties": {"t": "cut \u{FFFD}"}})),
        track(
            ROW,
            r#""properties":{"t":"cut \ud83d","\ude00":"\ude00 \ud83d\ude00"},"\ud83d":1"#,
            json!({"properties": repaired, "rest": {"\u{FFFD}": 1}}),
        ),
        call(
            ROW,
            r#"{"type":"track","event":"\ud83d","userId":"\udfff","messageId":"~ \ud800"}"#,
            json!({"name": "\u{FFFD}", "subject": "\u{FFFD}", "client_id": "~ \u{FFFD}"}),
        ),
        Repair {
            around: r#","context":{"\ud83d":"\ud83d"}"#,
            ..call(ROW, r#"{"type":"page","userId":"u"}"#, json!({"context": {"\u{FFFD}": "\u{FFFD}"}}))
        },
    ]
}

fn bytes() -> Vec<Repair> {
    const NOT_UTF8: &str = "bytes in a string that are not UTF-8";
    const RAW: &str = "a raw tab, line break or other control character in a string";
    const NUMBERS: &str = "`NaN`, `Infinity`, `-Infinity`, `nan`, `inf`, `-inf`";
    let latin =
        b"{\"type\":\"track\",\"event\":\"caf\xE9\",\"userId\":\"u\",\"properties\":{\"\xFF\":\"\xC3\"}}";
    let raw =
        "{\"type\":\"track\",\"event\":\"a\tb\",\"userId\":\"u\",\"properties\":{\"t\":\"1\r\n\u{1}2\"}}";
    vec![
        call(
            NOT_UTF8,
            latin.to_vec(),
            json!({"name": "caf\u{FFFD}", "properties": {"\u{FFFD}": "\u{FFFD}"}}),
        ),
        call(RAW, raw, json!({"name": "a\tb", "properties": {"t": "1\r\n\u{1}2"}})),
        track(
            NUMBERS,
            r#""properties":{"a":NaN,"b":[Infinity,-Infinity],"c":{"d":nan,"e":inf,"f":-inf},"g":"NaN"}"#,
            json!({"properties": {"a": null, "b": [null, null], "c": {"d": null, "e": null, "f": null}, "g": "NaN"}}),
        ),
        Repair {
            around: ",\"context\":{\"n\":NaN,\"t\":\"a\tb\"}",
            ..call(NUMBERS, r#"{"type":"page","userId":"u"}"#, json!({"context": {"n": null, "t": "a\tb"}}))
        },
        call(
            "a comma after the last call",
            r#"{"type":"track","event":"e","userId":"u","properties":{"a":1}},"#,
            json!({"name": "e", "subject": "u", "properties": {"a": 1}}),
        ),
    ]
}

fn shapes() -> Vec<Repair> {
    const EMPTY: &str = "`[]` as `properties`, `traits` or `context`";
    const CONTEXT: &str = "another `context` that is not an object";
    const TYPE: &str = "`type` in any case, with blanks around it";
    const ROUTE: &str = "an empty or unknown `type` on a route for one type";
    let alone = |kind: &str| Repair {
        ways: &[Way::Alone],
        ..call(
            ROUTE,
            format!(r#"{{"type":{kind},"event":"e","userId":"u"}}"#),
            json!({"name": "e", "subject": "u"}),
        )
    };
    vec![
        track(EMPTY, r#""properties":[]"#, json!({"name": "e", "subject": "u", "properties": {}})),
        track(EMPTY, r#""context":[]"#, json!({"name": "e", "rest": {"type": "track", "context": null}})),
        call(
            EMPTY,
            r#"{"type":"identify","userId":"u","traits":[]}"#,
            json!({"name": "$identify", "properties": {}}),
        ),
        track(CONTEXT, r#""context":"web""#, json!({"rest": {"context": "web"}})),
        track(CONTEXT, r#""context":[1]"#, json!({"rest": {"context": [1]}})),
        call(TYPE, r#"{"type":"Track","event":"e","userId":"u"}"#, json!({"name": "e", "subject": "u"})),
        call(TYPE, r#"{"type":" IDENTIFY ","userId":"u"}"#, json!({"name": "$identify"})),
        alone(r#""""#),
        alone(r#""tarck""#),
        alone("7"),
    ]
}

fn ids() -> Vec<Repair> {
    const SCALAR: &str = "a number or a boolean as `event`, `userId`, `anonymousId` or `messageId`";
    const LONG: &str = "`userId`, `anonymousId` or `messageId` of more than 200 bytes";
    const NAME: &str = "`event` of more than 200 characters";
    const ODD: &str = "an object or an array as an id";
    let long = "x".repeat(201);
    let name = "é".repeat(201);
    vec![
        call(
            SCALAR,
            r#"{"type":"track","event":5,"userId":7,"messageId":1.5~}"#,
            json!({"name": "5", "subject": "7", "client_id": "1.5~"}),
        ),
        call(
            SCALAR,
            r#"{"type":"track","event":true,"anonymousId":false}"#,
            json!({"name": "true", "subject": "false", "client_id": null}),
        ),
        track(
            LONG,
            &format!(r#""anonymousId":"{long}""#),
            json!({"subject": "u", "rest": {"anonymousId": long}}),
        ),
        call(
            LONG,
            format!(r#"{{"type":"track","event":"e","userId":"{long}","messageId":"{long}~"}}"#),
            json!({"subject": Shortened(&long).json(), "client_id": Shortened(&long).json(),
                   "rest": {"userId": long, "messageId": format!("{long}~")}}),
        ),
        call(
            NAME,
            format!(r#"{{"type":"track","event":"{name}","userId":"u"}}"#),
            json!({"name": format!("{}…", "é".repeat(199)), "rest": {"event": name}}),
        ),
        track(ODD, r#""anonymousId":{"id":1}"#, json!({"subject": "u", "rest": {"anonymousId": {"id": 1}}})),
        call(
            ODD,
            r#"{"type":"track","event":"e","userId":[1],"anonymousId":"anonymous","messageId":{"m":1}}"#,
            json!({"subject": "anonymous", "client_id": null, "rest": {"userId": [1], "messageId": {"m": 1}}}),
        ),
    ]
}

/// A column that must begin as this text does, and differ from that of other texts with the same beginning.
struct Shortened<'a>(&'a str);

impl Shortened<'_> {
    fn json(&self) -> Value {
        json!({"shortened": self.0})
    }
}

/// What the first table of that page promises, about members that have two sources.
fn sources() -> Vec<Repair> {
    let traits = r#","context":{"traits":{"plan":"pro"}}}"#;
    vec![
        call(
            "",
            format!(r#"{{"type":"identify","userId":"u"{traits}"#),
            json!({"properties": {"plan": "pro"}}),
        ),
        call(
            "",
            format!(r#"{{"type":"group","userId":"u","groupId":"g"{traits}"#),
            json!({"properties": {"plan": "pro"}, "rest": {"groupId": "g"}}),
        ),
        call(
            "",
            r#"{"type":"alias","userId":"u","previousId":"p"}"#,
            json!({"name": "$alias", "subject": "u", "properties": {"previousId": "p"}}),
        ),
        track("", r#""properties":{"a":1,"a":2,"\u0061":3}"#, json!({"properties": {"a": 3}})),
        Repair {
            around: r#","context":{"tz":"batch","os":"x"},"integrations":{"A":1}"#,
            ..call(
                "",
                r#"{"type":"page","userId":"u","context":{"tz":"call"},"integrations":{"B":2}}"#,
                json!({"context": {"tz": "call", "os": "x"}, "rest": {"integrations": {"B": 2}}}),
            )
        },
    ]
}

pub fn all() -> Vec<Repair> {
    [cut(), bytes(), shapes(), ids(), sources(), times::repairs()].into_iter().flatten().collect()
}

/// Compares the row of a case with what it must be.
fn check(event: &Value, row: &Value, shown: &str) {
    for (column, expected) in row.as_object().unwrap() {
        let found = &event[column];
        match column.as_str() {
            "rest" | "context" => {
                let found = if column == "rest" { &event["context"]["segment"] } else { found };
                for (name, value) in expected.as_object().unwrap() {
                    assert_eq!(found.get(name).unwrap_or(&Value::Null), value, "{name} of {shown}: {event}");
                }
            }
            _ if expected.get("shortened").is_some() => {
                let (found, whole) = (found.as_str().unwrap(), expected["shortened"].as_str().unwrap());
                assert!(found.len() <= 200 && found[..100] == whole[..100], "{shown}: {event}");
            }
            "timestamp" if expected == "received_at" => {
                assert_eq!(found, &event["received_at"], "{shown}: {event}");
            }
            _ => assert_eq!(found, expected, "{column} of {shown}: {event}"),
        }
    }
}

async fn every_repaired_call_is_stored_with_the_documented_value(site: Site) {
    let repairs = all();
    let mut counted = Counted::default();
    for (case, repair) in repairs.iter().enumerate() {
        for way in repair.ways {
            if *way == Way::Alone && !repair.around.is_empty() {
                continue;
            }
            let answer = way.post(&site, &site.key, &way.marked(case, &repair.call), repair.around).await;
            assert_eq!(answer.get("dead"), None, "{}: {answer}", repair.documented);
            counted.posted(*way, 0);
        }
    }
    let balance = site.settled("shop").await;
    let events = site.events().await;
    for (case, repair) in repairs.iter().enumerate() {
        for way in repair.ways {
            let shown = format!("{} {way:?} {}", repair.documented, String::from_utf8_lossy(&repair.call));
            let marked = |event: &&Value| event["context"]["segment"]["case"] == way.name(case);
            let rows: Vec<_> = events.iter().filter(marked).collect();
            assert_eq!(rows.len(), 1, "{shown}");
            check(rows[0], &way.expected(&repair.row), &shown);
        }
    }
    let good =
        events.iter().filter(|event| event["name"] == "good" && event["subject"] == "u").count() as u64;
    assert_eq!(good, counted.good, "no call costs its neighbor");
    counted.check(&site, &balance).await;
}

#[tokio::test]
async fn every_repaired_call_is_stored_with_the_documented_value_on_files() {
    every_repaired_call_is_stored_with_the_documented_value(Site::on_files().await).await;
}

#[tokio::test]
async fn every_repaired_call_is_stored_with_the_documented_value_on_servers() {
    every_repaired_call_is_stored_with_the_documented_value(Site::on_servers().await).await;
}
