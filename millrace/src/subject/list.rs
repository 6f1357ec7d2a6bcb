//! `millrace subject erasures`: the record of erasures.

use millrace_event::printable::printable;
use millrace_store::{Erasure, Store};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::find;
use crate::moment::shown;
use crate::output::{Output, table};

/// Erasures that are listed, at most.
const LISTED_MAX: u32 = 1_000;

pub(super) async fn run(store: &dyn Store, output: &Output, project: Option<&str>) -> Result<(), Failure> {
    let project = match project {
        Some(name) => Some(find::project(store, name).await?.project),
        None => None,
    };
    let names = store.projects().await?;
    let name = |erasure: &Erasure| {
        let found = names.iter().find(|info| info.project == erasure.project);
        found.map_or_else(|| erasure.project.to_string(), |info| info.name.clone())
    };
    let erasures = store.erasures(project, LISTED_MAX).await?;
    let rows: Vec<Vec<String>> = erasures.iter().map(|erasure| row(erasure, name(erasure))).collect();
    let head = ["id", "project", "kind", "started", "finished", "events", "dead letters", "samples", "by"];
    let json: Vec<Value> = erasures.iter().map(|erasure| document(erasure, &name(erasure))).collect();
    let text = match erasures.is_empty() {
        true => "No erasures.".to_owned(),
        false => table(&head, &rows),
    };
    output.print(&text, &json!({ "erasures": json }))
}

fn row(erasure: &Erasure, project: String) -> Vec<String> {
    let open = erasure.subject.as_deref().unwrap_or_default();
    vec![
        erasure.id.to_string(),
        project,
        <&str>::from(erasure.kind).to_owned(),
        shown(erasure.started_at),
        erasure.finished_at.map_or_else(|| format!("open: {}", printable(open)), shown),
        erasure.events.to_string(),
        erasure.dead_letters.to_string(),
        erasure.samples.to_string(),
        erasure.by.clone(),
    ]
}

/// An erasure for programs.
pub(super) fn document(erasure: &Erasure, project: &str) -> Value {
    json!({
        "erasure_id": erasure.id,
        "project": project,
        "kind": <&str>::from(erasure.kind),
        "subject": erasure.subject,
        "pseudonym": erasure.pseudonym,
        "events": erasure.events,
        "dead_letters": erasure.dead_letters,
        "samples": erasure.samples,
        "by": erasure.by,
        "started_at": shown(erasure.started_at),
        "finished_at": erasure.finished_at.map(shown),
    })
}
