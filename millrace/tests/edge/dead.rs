//! Each row of the documentation's table of dead letters, with calls of its kind. Each is kept with its text,
//! and every report shows it.

use crate::reports::Counted;
use crate::site::Site;
use crate::ways::Way;

/// A row of the documentation, the code of the reason, and a call.
pub type DeadCall = (&'static str, &'static str, Vec<u8>);

pub fn all() -> Vec<DeadCall> {
    const TYPE: &str = "has no `type`, or one that is unknown";
    const EVENT: &str = "is a track call without an `event`, or with an empty one";
    const OBJECT: &str = r#"has a `properties` or `traits` that is not an object (`[1]`, `"x"`)"#;
    const NUMBER: &str =
        "has a number that is too large ([limits](http-api.md#event-fields)), such as `1e400`";
    const DEEP: &str = "is nested too deeply";
    const JSON: &str = "is not JSON after all repairs (`undefined`, a missing quote or bracket)";
    const NOT_AN_OBJECT: &str = "is not an object";
    let with = |properties: &str| {
        format!(r#"{{"type":"track","event":"e","userId":"u","properties":{properties}}}"#)
    };
    let deep = |levels: usize| with(&format!(r#"{{"a":{}{}}}"#, "[".repeat(levels), "]".repeat(levels)));
    let rows: Vec<(&str, &str, String)> = vec![
        (TYPE, "invalid_type", r#"{"event":"e","userId":"u"}"#.to_owned()),
        (TYPE, "invalid_type", "{}".to_owned()),
        (TYPE, "invalid_type", r#"{"type":"tarck","event":"e","userId":"u"}"#.to_owned()),
        (TYPE, "invalid_type", r#"{"type":"","event":"e","userId":"u"}"#.to_owned()),
        (TYPE, "invalid_type", r#"{"type":7,"event":"e","userId":"u"}"#.to_owned()),
        (EVENT, "missing_field", r#"{"type":"track","userId":"u"}"#.to_owned()),
        (EVENT, "missing_field", r#"{"type":"track","event":null,"userId":"u"}"#.to_owned()),
        (EVENT, "invalid_length", r#"{"type":"track","event":"","userId":"u"}"#.to_owned()),
        (OBJECT, "invalid_type", with("[1]")),
        (OBJECT, "invalid_type", with(r#""x""#)),
        (OBJECT, "invalid_type", r#"{"type":"identify","userId":"u","traits":7}"#.to_owned()),
        (NUMBER, "invalid_number", with(r#"{"v":1e400}"#)),
        (NUMBER, "invalid_number", with(&format!(r#"{{"v":{}}}"#, "1".repeat(41)))),
        (DEEP, "too_deep", deep(80)),
        (DEEP, "too_deep", deep(5_000)),
        (JSON, "invalid_json", with(r#"{"v":undefined}"#)),
        (JSON, "invalid_json", with(r#"{"v":'x'}"#)),
        (JSON, "invalid_json", with(r#"{"v":"a"b"}"#)),
        (JSON, "invalid_json", with(r#"{"v":1,}"#)),
        (JSON, "invalid_json", with(r#"{"v":[1}"#)),
        (JSON, "invalid_json", with(r#"{"v" 1}"#)),
        (NOT_AN_OBJECT, "invalid_event", "5".to_owned()),
        (NOT_AN_OBJECT, "invalid_event", "null".to_owned()),
        (NOT_AN_OBJECT, "invalid_event", r#"["track"]"#.to_owned()),
        (NOT_AN_OBJECT, "invalid_event", r#""track""#.to_owned()),
    ];
    rows.into_iter().map(|(documented, code, call)| (documented, code, call.into_bytes())).collect()
}

/// The row whose calls need a project with bounds of its own.
pub const OUT_OF_BOUNDS: (&str, &str) = (
    "is outside the project's bounds of event time, if the project refuses such events",
    "invalid_timestamp",
);

async fn every_call_that_cannot_be_repaired_is_a_dead_letter_in_every_report(site: Site) {
    let mut counted = Counted::default();
    let mut expected = Vec::new();
    for (case, (documented, code, call)) in all().into_iter().enumerate() {
        for way in Way::OF_BATCHES {
            let text = way.marked(case, &call);
            let answer = way.post(&site, &site.key, &text, "").await;
            let dead = answer["dead"].as_array().unwrap_or_else(|| panic!("{documented}: {answer}"));
            assert_eq!(
                (dead.len(), &dead[0]["index"], &dead[0]["code"]),
                (1, &1.into(), &code.into()),
                "{answer}"
            );
            counted.posted(way, 1);
            *counted.codes.entry(code.to_owned()).or_default() += 1;
            expected.push((code.to_owned(), 1, text));
        }
    }
    let balance = site.settled("shop").await;
    let events = site.events().await;
    assert_eq!(events.len() as u64, counted.good, "no call costs its neighbor");
    assert!(events.iter().all(|event| event["name"] == "good"), "no dead call is also stored");
    let letters = site.letters().await;
    let mut kept: Vec<_> =
        letters.iter().map(|letter| (letter.code.clone(), letter.index, letter.payload.clone())).collect();
    kept.sort();
    expected.sort();
    assert_eq!(kept, expected, "each letter has the text of its call");
    counted.check(&site, &balance).await;
    counted.check_letters(&site, &letters).await;
}

#[tokio::test]
async fn every_call_that_cannot_be_repaired_is_a_dead_letter_in_every_report_on_files() {
    every_call_that_cannot_be_repaired_is_a_dead_letter_in_every_report(Site::on_files().await).await;
}

#[tokio::test]
async fn every_call_that_cannot_be_repaired_is_a_dead_letter_in_every_report_on_servers() {
    every_call_that_cannot_be_repaired_is_a_dead_letter_in_every_report(Site::on_servers().await).await;
}

#[tokio::test]
async fn a_call_outside_the_bounds_of_its_project_is_a_dead_letter_if_the_project_refuses_it() {
    let site = Site::on_files().await;
    let key =
        site.project("bounded", &["--oldest", "365d", "--newest", "1d", "--out-of-bounds", "refuse"]).await;
    let lenient = site.project("lenient", &["--oldest", "365d", "--newest", "1d"]).await;
    let sent = [r#""2001-01-01T00:00:00Z""#, r#""9999-12-31T23:59:59Z""#, "1000000000"];
    for (case, timestamp) in sent.iter().enumerate() {
        let call = format!(r#"{{"type":"track","event":"e","userId":"u","timestamp":{timestamp}}}"#);
        for way in Way::OF_BATCHES {
            let text = way.marked(case, call.as_bytes());
            let answer = way.post(&site, &key, &text, "").await;
            assert_eq!(answer["dead"][0]["code"], OUT_OF_BOUNDS.1, "{answer}");
            assert_eq!(way.post(&site, &lenient, &text, "").await.get("dead"), None);
        }
    }
    let calls = sent.len() as u64 * 3;
    let balance = site.settled("bounded").await;
    assert_eq!((&balance["stored"], &balance["dead"]), (&calls.into(), &calls.into()), "{balance}");
    let letters = site.letters().await;
    assert!(letters.iter().all(|letter| letter.code == OUT_OF_BOUNDS.1), "{letters:?}");
    let events = site.events().await;
    let moved: Vec<_> = events.iter().filter(|event| event["name"] == "e").collect();
    assert_eq!(moved.len() as u64, calls);
    for event in moved {
        assert_eq!(event["timestamp"], event["received_at"], "{event}");
        let kept = event["context"]["segment"]["timestamp"].to_string();
        assert!(sent.contains(&kept.as_str()), "the time as it was sent is kept: {event}");
    }
}
