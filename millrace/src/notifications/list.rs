//! `millrace notifications` without a subcommand: the log.

use clap::Args;
use ingest_api::documents;
use millrace_event::printable::printable;
use millrace_settings::number;
use millrace_store::{Notification, NotificationState, Store};
use serde_json::json;

use crate::failure::Failure;
use crate::find;
use crate::moment::shown;
use crate::output::{Output, cut_table, grouped_decimal};

#[derive(Args, Debug)]
pub(super) struct ListArgs {
    /// Only notifications of this project
    project: Option<String>,
    /// Only notifications that were given up
    #[arg(long)]
    failed: bool,
    /// Show at most this many, the newest
    #[arg(long, value_name = "N", default_value = "20", value_parser = number(1..=10_000_u32))]
    limit: u32,
}

pub(super) async fn run(store: &dyn Store, output: &Output, arguments: &ListArgs) -> Result<(), Failure> {
    let project = match &arguments.project {
        Some(name) => Some(find::project(store, name).await?.project),
        None => None,
    };
    let state = arguments.failed.then_some(NotificationState::Dead);
    let all = store.notifications(project, state, None, arguments.limit).await?;
    let text = if all.is_empty() {
        "No notifications.".to_owned()
    } else {
        let head = ["number", "project", "threshold", "reached", "subject", "period", "value", "delivery"];
        cut_table(&head, &all.iter().map(row).collect::<Vec<_>>())
    };
    output.print(
        &text,
        &json!({ "notifications": all.iter().map(documents::notification).collect::<Vec<_>>() }),
    )
}

fn row(notification: &Notification) -> Vec<String> {
    vec![
        notification.notification_id.to_string(),
        notification.project_name.clone(),
        notification.threshold_name.clone(),
        shown(notification.created_at),
        printable(&notification.subject),
        format!("{} of {}", notification.period, shown(notification.period_start)),
        grouped_decimal(&notification.value),
        delivery(notification),
    ]
}

/// Such as `pending after 3 attempts: the answer was 500`.
fn delivery(notification: &Notification) -> String {
    let delivery = &notification.delivery;
    let attempts = match delivery.attempts {
        0 => String::new(),
        1 => " after 1 attempt".to_owned(),
        more => format!(" after {more} attempts"),
    };
    let error = delivery.error.as_ref().map(|error| format!(": {}", printable(error))).unwrap_or_default();
    format!("{}{attempts}{error}", delivery.state)
}
