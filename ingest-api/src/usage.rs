//! `GET /v1/usage`: the usage of a project, from the hourly metering.

use hyper::StatusCode;
use millrace_store::{UsageRow, UsageWindow};
use serde::Serialize;
use time::OffsetDateTime;

use crate::answer::{self, Answer};
use crate::api_key::ApiKey;
use crate::error::Problem;
use crate::parameters::{UsageQuery, shown};
use crate::request::Request;

#[derive(Serialize)]
struct UsageReport {
    from: String,
    to: String,
    window: &'static str,
    total: Sums,
    usage: Vec<Window>,
}

#[derive(Serialize, Clone, Copy, Default)]
struct Sums {
    events: u64,
    bytes: u64,
    duplicates: u64,
    dead: u64,
    conflicts: u64,
    cancelled: u64,
}

#[derive(Serialize)]
struct Window {
    start: String,
    #[serde(flatten)]
    sums: Sums,
}

/// Asks the store for the usage of the project.
///
/// # Errors
/// 400 for a wrong parameter, 503 when the store cannot be reached.
pub async fn get(request: Request<'_>, key: &ApiKey) -> Result<Answer, Problem> {
    let query = request.head.uri.query().unwrap_or_default();
    let UsageQuery { from, to, window } = UsageQuery::read(query, OffsetDateTime::now_utc())?;
    let Request { service, .. } = request;
    let rows = service.reports.ask(service.store.usage(key.account.project, from, to, window)).await?;
    let mut total = Sums::default();
    for row in &rows {
        total.events += row.events;
        total.bytes += row.bytes;
        total.duplicates += row.duplicates;
        total.dead += row.dead;
        total.conflicts += row.conflicts;
        total.cancelled += row.cancelled;
    }
    let usage = rows.iter().map(Window::of).collect();
    let report = UsageReport { from: shown(from), to: shown(to), window: name(window), total, usage };
    Ok(answer::json(StatusCode::OK, &report))
}

impl Window {
    fn of(row: &UsageRow) -> Self {
        let UsageRow { start, events, bytes, duplicates, dead, conflicts, cancelled } = *row;
        Self { start: shown(start), sums: Sums { events, bytes, duplicates, dead, conflicts, cancelled } }
    }
}

fn name(window: UsageWindow) -> &'static str {
    match window {
        UsageWindow::Hour => "hour",
        UsageWindow::Day => "day",
        UsageWindow::Month => "month",
    }
}
