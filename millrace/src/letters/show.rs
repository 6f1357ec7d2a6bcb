//! `millrace dead-letters show`

use millrace_event::printable::{escaped_json, printable};
use millrace_event::row::{self, EventTime, Row};
use millrace_event::undeliverable::UndeliverableCall;
use millrace_store::{DeadLetter, LetterFilter, LetterPayload, Store, rows_of_letter};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::text::{as_json, project};
use crate::failure::Failure;
use crate::moment::shown;
use crate::output::{Output, counted};

/// Bytes shown of an unreadable payload.
const BYTES_SHOWN: usize = 4_096;
/// Events shown of one letter.
const EVENTS_SHOWN: usize = 20;

pub(super) async fn run(store: &dyn Store, output: &Output, id: i64) -> Result<(), Failure> {
    let filter = LetterFilter { ids: vec![id], also_redriven: true, ..LetterFilter::default() };
    let letter = store.dead_letters(&filter, None, 1).await?.pop();
    let payload = store.letter_payloads(&[id]).await?.pop();
    let (Some(letter), Some(LetterPayload { payload, .. })) = (letter, payload) else {
        return Err(Failure::Refused(format!(
            "there is no dead letter {id}; `millrace dead-letters list` shows their numbers"
        )));
    };
    let contents = Contents::read(&letter, &payload);
    output.print(&contents.text(&letter), &contents.json(&letter))
}

enum Contents {
    Events(Vec<Value>),
    /// A call that no event can be made of, as text.
    Call(String),
    Unreadable {
        reason: String,
        bytes: String,
    },
}

impl Contents {
    fn read(letter: &DeadLetter, payload: &[u8]) -> Self {
        if letter.code.is_some() {
            return Self::Call(text_of_call(payload));
        }
        match rows_of_letter(letter.project, letter.event_index, letter.event_count, None, payload) {
            Ok(rows) => Self::Events(row::split(&rows).map_while(Result::ok).map(event).collect()),
            Err(reason) => Self::Unreadable { reason, bytes: escaped(payload) },
        }
    }

    fn text(&self, letter: &DeadLetter) -> String {
        let mut facts = vec![
            ("project", project(letter)),
            ("batch", letter.batch_id.to_string()),
            (
                "part",
                letter.event_index.map_or("the whole entry".to_owned(), |index| format!("event {index}")),
            ),
            ("events", letter.event_count.to_string()),
            ("received", shown(letter.received_at)),
            ("created", shown(letter.created_at)),
            ("sqlstate", letter.sqlstate.clone().unwrap_or_else(|| "-".to_owned())),
            ("code", letter.code.as_deref().map_or("-".to_owned(), printable)),
            ("reason", printable(&letter.reason)),
            ("worker", letter.worker_version.clone()),
        ];
        facts.extend(letter.attempted_at.map(|at| ("tried again", shown(at))));
        facts.extend(letter.redriven_at.map(|at| ("redriven", shown(at))));
        facts.extend(letter.redrive_id.map(|id| ("redrive", id.to_string())));
        let mut text = format!("Dead letter {}\n", letter.id);
        for (name, fact) in facts {
            text.push_str(&format!("  {name:<12}{fact}\n"));
        }
        match self {
            Self::Events(events) => {
                for event in events.iter().take(EVENTS_SHOWN) {
                    text.push_str(&format!("\n{}\n", escaped_json(&format!("{event:#}"))));
                }
                if events.len() > EVENTS_SHOWN {
                    text.push_str(&format!(
                        "\nand {}; --json shows all\n",
                        counted((events.len() - EVENTS_SHOWN) as u64, "more event")
                    ));
                }
            }
            Self::Call(call) => {
                text.push_str(&format!("\nNo event can be made of this call:\n{}\n", printable(call)));
            }
            Self::Unreadable { reason, bytes } => {
                text.push_str(&format!(
                    "\nIt cannot be read: {reason}. Its {}:\n{bytes}\n",
                    counted(letter.payload_bytes, "byte")
                ));
            }
        }
        text
    }

    fn json(&self, letter: &DeadLetter) -> Value {
        let mut value = as_json(letter);
        match self {
            Self::Events(events) => value["contents"] = json!(events),
            Self::Call(call) => value["call"] = json!(call),
            Self::Unreadable { reason, bytes } => {
                value["unreadable"] = json!(reason);
                value["payload"] = json!(bytes);
            }
        }
        value
    }
}

/// An event as its client could have sent it. Invalid JSON is shown as text.
fn event(bytes: &[u8]) -> Value {
    if let Some(UndeliverableCall { code, message, call, .. }) = UndeliverableCall::read(bytes) {
        return json!({ "code": code, "reason": message, "call": text_of_call(call) });
    }
    let row = match Row::read(bytes) {
        Ok(row) => row,
        Err(error) => return json!({ "unreadable": error.to_string(), "row": escaped(bytes) }),
    };
    let object = |text: Option<&[u8]>| {
        text.map(|text| serde_json::from_slice(text).unwrap_or_else(|_| Value::String(escaped(text))))
    };
    let timestamp = match row.time {
        EventTime::At(us) => OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000)
            .map_or_else(|_| format!("{us} µs since 1970"), unrounded),
        EventTime::Undated => "none; recognized by its id".to_owned(),
        EventTime::Anonymous | EventTime::Undeliverable => "none; recognized by its batch".to_owned(),
    };
    json!({
        "id": row.client_id.map_or_else(|| row.event_id.to_string(), str::to_owned),
        "event_id": row.event_id,
        "timestamp": timestamp,
        "name": row.name,
        "subject": row.subject,
        "properties": object(row.properties),
        "context": object(row.context),
    })
}

/// The call as it was sent. Bytes that are not UTF-8 become U+FFFD.
fn text_of_call(call: &[u8]) -> String {
    String::from_utf8_lossy(call).into_owned()
}

/// Not rounded: the timestamp is part of the identity of an event.
fn unrounded(moment: OffsetDateTime) -> String {
    moment.format(&time::format_description::well_known::Rfc3339).unwrap_or_else(|_| moment.to_string())
}

/// The first bytes, as ASCII.
fn escaped(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(BYTES_SHOWN)];
    let more = if bytes.len() > BYTES_SHOWN { "…" } else { "" };
    format!("{}{more}", cut.escape_ascii())
}
