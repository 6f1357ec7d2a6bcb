//! Properties of the path that reads a body which the parser has refused.

use millrace_event::dialect::{Dialect, native, read, segment};
use millrace_event::event::Batch;
use millrace_event::row;
use millrace_event::undeliverable::UndeliverableCall;
use proptest::prelude::*;

use crate::bodies::*;

/// Strings with everything that a scan for brackets and quotes could take for structure.
const TEXTS: [&str; 8] = ["a", "", "],[{}", "\\\"", "\\\\", "é\\u00e9", ",{\\\"x\\\":[", "\\ud83d\\ude00"];

fn any_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        proptest::sample::select(TEXTS.to_vec()).prop_map(|text| format!("\"{text}\"")),
        any::<i32>().prop_map(|number| number.to_string()),
        Just("null".to_owned()),
        Just("1.50e3".to_owned()),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let name = proptest::sample::select(TEXTS.to_vec());
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|all| format!("[{}]", all.join(" , "))),
            proptest::collection::vec((name, inner), 0..4).prop_map(|all| {
                let members: Vec<_> =
                    all.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// A call that is an event in both formats' eyes: the native members are those of a native event.
fn any_event(is_native: bool) -> impl Strategy<Value = String> {
    (any_value(), 0..1_000_u32).prop_map(move |(value, id)| {
        if is_native {
            format!(r#"{{"name":"n","id":"i{id}","properties":{{"v":{value}}}}}"#)
        } else {
            format!(r#"{{"type":"track","event":"e","messageId":"i{id}","properties":{{"v":{value}}}}}"#)
        }
    })
}

fn format_of(is_native: bool) -> (&'static Dialect, &'static str) {
    if is_native { (&native::JSON, "events") } else { (&segment::BATCH, "batch") }
}

/// Each event's bytes and the rest of its body.
fn body_of(envelope: &str, events: &[Vec<u8>], shared: &str) -> Vec<u8> {
    let list = events.join(&b" ,\n"[..]);
    [
        b"{\"context\":{\"a\":".as_slice(),
        shared.as_bytes(),
        b"},\"",
        envelope.as_bytes(),
        b"\": [",
        &list,
        b"] }",
    ]
    .concat()
}

/// The rows of a batch that are events, by their event ids.
fn event_rows(batch: &Batch) -> Vec<Vec<u8>> {
    let rows = row::split(&batch.rows).map(Result::unwrap);
    rows.filter(|row| UndeliverableCall::read(row).is_none()).map(<[u8]>::to_vec).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// An event that only the tolerant path can read does not change how the others are read.
    #[test]
    fn the_tolerant_path_reads_valid_events_as_the_parser_does(
        (is_native, events) in any::<bool>().prop_flat_map(|native| (Just(native), proptest::collection::vec(any_event(native), 1..6))),
        shared in any_value(),
    ) {
        let (dialect, envelope) = format_of(is_native);
        let mut events: Vec<_> = events.into_iter().map(String::into_bytes).collect();
        let fast = read(dialect, &body_of(envelope, &events, &shared), origin(), EVENTS_MAX).unwrap();
        prop_assert!(fast.rejected.is_empty() && fast.dead.is_empty(), "{:?}", fast);
        events.push(b"{\"broken\":NaN \xFF".to_vec());
        let tolerant = read(dialect, &body_of(envelope, &events, &shared), origin(), EVENTS_MAX).unwrap();
        prop_assert_eq!(event_rows(&tolerant), event_rows(&fast));
        prop_assert_eq!(tolerant.rejected.len() + tolerant.dead.len(), 1);
    }

    /// Any bytes that leave brackets and quotes alone cost one event.
    #[test]
    fn one_event_with_any_bytes_in_it_costs_nothing_but_itself(
        (is_native, events) in any::<bool>().prop_flat_map(|native| (Just(native), proptest::collection::vec(any_event(native), 2..6))),
        broken in any::<proptest::sample::Index>(),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (dialect, envelope) = format_of(is_native);
        let mut events: Vec<_> = events.into_iter().map(String::into_bytes).collect();
        let broken = broken.index(events.len());
        let is_structure = |byte: u8| b"\"\\{}[],".contains(&byte);
        for (at, byte) in changes {
            let at = at.index(events[broken].len());
            if !is_structure(events[broken][at]) && !is_structure(byte) {
                events[broken][at] = byte;
            }
        }
        let batch = read(dialect, &body_of(envelope, &events, "1"), origin(), EVENTS_MAX);
        let batch = batch.map_err(|error| TestCaseError::fail(format!("{error:?}")))?;
        prop_assert_eq!(batch.count as usize + batch.rejected.len(), events.len());
        let refused = batch.rejected.iter().chain(&batch.dead);
        prop_assert!(refused.clone().all(|refused| refused.index == broken), "{:?}", batch);
        events[broken] = b"5".to_vec();
        let without = read(dialect, &body_of(envelope, &events, "1"), origin(), EVENTS_MAX).unwrap();
        let mut rows = event_rows(&batch);
        if refused.count() == 0 {
            rows.remove(broken);
        }
        prop_assert_eq!(rows, event_rows(&without));
    }

    /// One stray or missing quote, bracket, comma or escape costs one event, or the whole body a 400; it
    /// never makes an event of what is none.
    #[test]
    fn a_structural_fault_never_changes_the_other_events(
        (is_native, events) in any::<bool>().prop_flat_map(|native| (Just(native), proptest::collection::vec(any_event(native), 2..6))),
        broken in any::<proptest::sample::Index>(),
        at in any::<proptest::sample::Index>(),
        byte in proptest::option::of(proptest::sample::select(b"\"\\{}[],:".to_vec())),
    ) {
        let (dialect, envelope) = format_of(is_native);
        let mut events: Vec<_> = events.into_iter().map(String::into_bytes).collect();
        let all = read(dialect, &body_of(envelope, &events, "1"), origin(), EVENTS_MAX).unwrap();
        let broken = broken.index(events.len());
        let at = at.index(events[broken].len());
        match byte {
            Some(byte) => events[broken].insert(at, byte),
            None => { events[broken].remove(at); }
        }
        if serde_json::from_slice::<serde_json::Value>(&events[broken]).is_ok() {
            return Ok(());
        }
        if let Ok(batch) = read(dialect, &body_of(envelope, &events, "1"), origin(), EVENTS_MAX) {
            let (rows, mut known) = (event_rows(&batch), event_rows(&all));
            // The fault may be one that is repaired, such as half of a surrogate pair.
            if let Ok(alone) = read(dialect, &body_of(envelope, &events[broken..=broken], "1"), origin(), EVENTS_MAX) {
                known.extend(event_rows(&alone));
            }
            prop_assert!(rows.iter().all(|row| known.contains(row)), "{}", String::from_utf8_lossy(&events[broken]));
        }
    }

    #[test]
    fn a_body_that_was_cut_off_is_refused_as_a_whole(
        (is_native, events) in any::<bool>().prop_flat_map(|native| (Just(native), proptest::collection::vec(any_event(native), 1..4))),
        at in any::<proptest::sample::Index>(),
    ) {
        let (dialect, envelope) = format_of(is_native);
        let events: Vec<_> = events.into_iter().map(String::into_bytes).collect();
        let body = body_of(envelope, &events, "1");
        let cut = &body[..at.index(body.trim_ascii_end().len())];
        prop_assert!(read(dialect, cut, origin(), EVENTS_MAX).is_err(), "{}", String::from_utf8_lossy(cut));
    }

    #[test]
    fn bytes_that_resemble_a_batch_never_make_it_panic(
        middle in r#"([\[\]{}:,"\\ue0-9 .-]|NaN|\\ud800|"type":"page"|"name":"n"|"batch":\[|"events":\[){0,40}"#,
        junk in proptest::collection::vec(any::<u8>(), 0..4),
    ) {
        for (opening, closing) in [("{\"batch\":[", "]}"), ("{\"events\":[", "]}"), ("[", "]"), ("{", "}"), ("", "")] {
            let body = [opening.as_bytes(), middle.as_bytes(), &junk, closing.as_bytes()].concat();
            for dialect in DIALECTS {
                dialect.find_key(&body);
                if let Ok(batch) = read(dialect, &body, origin(), EVENTS_MAX) {
                    prop_assert_eq!(row::split(&batch.rows).count(), batch.count as usize);
                    prop_assert_eq!(batch.count as usize, event_rows(&batch).len() + batch.dead.len());
                }
            }
        }
    }
}

/// As values of the last field, such strings used to take the next event with them, or the whole batch when
/// their event was the last.
#[test]
fn a_string_whose_end_is_missing_costs_one_event() {
    let ends = [r#""abc"#, r#"abc""#, r#""C:\dir\""#, r#""He said "hi""#, r#""a", b""#, r#"'a"b'"#, "/x\"[/"];
    for (broken, last) in ends.into_iter().flat_map(|end| [(end, true), (end, false)]) {
        for (index, is_native) in (0..6).map(|number| (number % 3, number > 2)) {
            let (dialect, envelope) = format_of(is_native);
            let name = if is_native { r#""name":"e""# } else { r#""type":"track","event":"e""# };
            let more = if last { "" } else { r#","w":"z"},"context":{"l":[{"a":1},{"b":"c"}]"# };
            let mut events = vec![format!(r#"{{{name}}}"#); 3];
            events[index] = format!(r#"{{{name},"properties":{{"v":{broken}{more}}}}}"#);
            for after in ["", r#","sentAt":"x""#] {
                let body = format!(r#"{{"{envelope}":[{}]{after}}}"#, events.join(", "));
                let batch = read(dialect, body.as_bytes(), origin(), EVENTS_MAX);
                let batch = batch.unwrap_or_else(|error| panic!("{body}: {error:?}"));
                let refused: Vec<_> = batch.rejected.iter().chain(&batch.dead).map(|one| one.index).collect();
                assert_eq!((event_rows(&batch).len(), refused), (2, vec![index]), "{body}");
            }
        }
    }
}

/// Work is counted by bytes that the thread has to look at: bodies that would take hours if any step were
/// quadratic.
#[test]
fn hostile_bodies_are_read_in_linear_time() {
    let size = 1 << 18;
    let bodies = [
        format!("{{\"batch\":[{}", "[".repeat(size)),
        format!("{{\"batch\":[{}{}]}}", "[".repeat(size), "}".repeat(size)),
        format!("{{\"batch\":[{}]}}", "{,".repeat(size)),
        format!("{{\"batch\":[{}]}}", "\"a\" ".repeat(size)),
        format!("{{\"batch\":[{}]}}", ",".repeat(size)),
        format!("{{\"batch\":[{}\"]}}", "NaN,".repeat(size)),
        format!("{{{}\"batch\":[NaN]}}", "\"batch\":1,".repeat(size / 8)),
        format!("{{\"batch\":[\"{}\"]}}", "\\ud800".repeat(size)),
        format!("{{\"batch\":[{{\"a\":\"{}\"}}, x]}}", "\"writeKey\\".repeat(size)),
        format!("{{\"batch\":[{{\"a\":{}}}, x]}}", "\"writeKey\":".repeat(size)),
        format!("{{\"batch\":[{}x]}}", "{\"a\":1},".repeat(999)),
        format!("{{\"batch\":[{}]}}", "\"a}},{".repeat(size)),
        format!("{{\"batch\":[{}]}}", "\"}]} ".repeat(size)),
        format!("{{\"batch\":[\"{}\\", "} ".repeat(size)),
    ];
    for body in bodies {
        for dialect in [&segment::BATCH, &native::JSON, &segment::TRACK] {
            dialect.find_key(body.as_bytes());
            if let Ok(batch) = read(dialect, body.as_bytes(), origin(), EVENTS_MAX) {
                assert_eq!(row::split(&batch.rows).count(), batch.count as usize);
            }
        }
    }
}
