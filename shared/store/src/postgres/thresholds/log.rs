//! Reads notifications.

use std::time::Duration;

use millrace_event::plan::ProjectId;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

use super::super::copy::Instant;
use crate::thresholds::{period_of, state_of};
use crate::{DeliveryStatus, Notification, NotificationBacklog, NotificationState, StoreError};

/// The columns that [`notification`] reads, of `notifications n` and `projects p`.
pub(super) const COLUMNS: &str = "
    n.notification_id, n.project_id, p.name AS project, n.name, n.kind, n.percent, n.meter, n.subject, n.period,
    n.period_start, n.period_end, trim_scale(n.threshold)::text AS threshold, trim_scale(n.value)::text AS value,
    n.created_at, n.webhook_id, n.state, n.attempts, n.next_attempt_at, n.attempted_at, n.status, n.error";
const BACKLOG: &str = "
    SELECT count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'dead'),
           coalesce(extract(epoch FROM now() - min(created_at) FILTER (WHERE state = 'pending')), 0)::float8
      FROM notifications";

pub(super) fn notification(row: &Row) -> Result<Notification, StoreError> {
    let moment = |column: &str| row.get::<_, Instant>(column).into();
    let small = |column: &str| row.get::<_, Option<i32>>(column);
    Ok(Notification {
        notification_id: row.get("notification_id"),
        project: ProjectId(row.get("project_id")),
        project_name: row.get("project"),
        threshold_name: row.get("name"),
        kind: row.get("kind"),
        percent: small("percent").and_then(|percent| u8::try_from(percent).ok()),
        meter: row.get("meter"),
        subject: row.get("subject"),
        period: period_of(row.get("period"))?,
        period_start: moment("period_start"),
        period_end: moment("period_end"),
        threshold: row.get("threshold"),
        value: row.get("value"),
        created_at: moment("created_at"),
        webhook_id: row.get("webhook_id"),
        delivery: DeliveryStatus {
            state: state_of(row.get("state"))?,
            attempts: row.get::<_, i32>("attempts").unsigned_abs(),
            next_attempt_at: moment("next_attempt_at"),
            attempted_at: row.get::<_, Option<Instant>>("attempted_at").map(Into::into),
            status: small("status").and_then(|status| u16::try_from(status).ok()),
            error: row.get("error"),
        },
    })
}

pub(in super::super) async fn notifications(
    client: &Client,
    project: Option<ProjectId>,
    state: Option<NotificationState>,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<Notification>, StoreError> {
    let select = format!(
        "SELECT {COLUMNS} FROM notifications n JOIN projects p USING (project_id)
          WHERE ($1::bigint IS NULL OR n.project_id = $1) AND ($2::text IS NULL OR n.state = $2)
            AND ($3::bigint IS NULL OR n.notification_id < $3)
          ORDER BY n.notification_id DESC LIMIT $4"
    );
    let (project, state) = (project.map(|project| project.0), state.map(<&str>::from));
    let values: [&(dyn ToSql + Sync); 4] = [&project, &state, &before, &i64::from(limit)];
    client.query(&select, &values).await?.iter().map(notification).collect()
}

pub(in super::super) async fn backlog(client: &Client) -> Result<NotificationBacklog, StoreError> {
    let row = client.query_one(BACKLOG, &[]).await?;
    let count = |column| row.get::<_, i64>(column).unsigned_abs();
    Ok(NotificationBacklog {
        pending: count(0),
        dead: count(1),
        oldest_age: Duration::try_from_secs_f64(row.get(2)).unwrap_or_default(),
    })
}
