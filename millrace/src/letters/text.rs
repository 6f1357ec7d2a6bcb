//! Letters as text and as JSON. Text must never contain control characters, which a terminal would obey.

use millrace_event::plan::ProjectId;
use millrace_event::printable::printable;
use millrace_store::DeadLetter;
use serde_json::{Value, json};

use crate::moment::shown;

pub(crate) fn project(letter: &DeadLetter) -> String {
    match &letter.project_name {
        Some(name) => printable(name),
        None if letter.project == ProjectId(0) => "(unreadable)".to_owned(),
        None => format!("({})", letter.project),
    }
}

pub(crate) fn as_json(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "project_id": letter.project,
        "project": letter.project_name,
        "batch_id": letter.batch_id,
        "received_at": shown(letter.received_at),
        "event_index": letter.event_index,
        "events": letter.event_count,
        "sqlstate": letter.sqlstate,
        "code": letter.code,
        "reason": letter.reason,
        "payload_bytes": letter.payload_bytes,
        "worker_version": letter.worker_version,
        "created_at": shown(letter.created_at),
        "attempted_at": letter.attempted_at.map(shown),
        "redriven_at": letter.redriven_at.map(shown),
        "redrive_id": letter.redrive_id,
    })
}
