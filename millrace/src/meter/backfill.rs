//! `millrace meter backfill`: counts the events that were stored before the meter.
//!
//! Each step is one transaction, so a process that ends at any moment leaves a backfill that can be
//! continued.

use indicatif::{ProgressBar, ProgressStyle};
use millrace_store::{MeterInfo, Store, StoreError};
use serde_json::json;

use crate::failure::Failure;
use crate::output::{Output, counted};

/// Events of one step. Workers wait for it, so it must be short.
const STEP_EVENTS: u32 = 5_000;

pub(super) async fn run(store: &dyn Store, output: &Output, info: &MeterInfo) -> Result<(), Failure> {
    let (project, slug) = (&info.project_name, &info.meter.definition.slug);
    let progress = progress(stored(store, info).await?);
    let mut events = 0;
    if info.meter.counted_until_us != i64::MAX {
        loop {
            let step = store.backfill(info.meter.id, STEP_EVENTS).await;
            let step = step.map_err(|error| interrupted(error, project, slug))?;
            events += step.events;
            progress.set_position(events);
            if step.is_last() {
                break;
            }
        }
    }
    progress.finish_and_clear();
    let text = format!(
        "The meter {slug} of project {project} counts all its events: {} were read.",
        counted(events, "stored event")
    );
    output
        .print(&text, &json!({ "project": project, "slug": slug, "events": events, "backfill": "complete" }))
}

/// Events of the project that were ever stored: at least as many as the backfill reads.
async fn stored(store: &dyn Store, info: &MeterInfo) -> Result<u64, Failure> {
    let totals = store.totals(false).await?;
    Ok(totals.iter().find(|totals| totals.project == info.meter.project).map_or(0, |totals| totals.stored))
}

fn interrupted(error: StoreError, project: &str, slug: &str) -> Failure {
    Failure::Store(match error {
        StoreError::Unavailable(cause) => StoreError::Unavailable(format!(
            "{cause}; what was counted remains so; continue with `millrace meter backfill {project} {slug}`"
        )),
        other => other,
    })
}

/// Drawn only when standard error is a terminal.
fn progress(events: u64) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:40} {human_pos} of at most {human_len} events, {eta} left")
            .expect("the template is valid");
    ProgressBar::new(events).with_style(style)
}
