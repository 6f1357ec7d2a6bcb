//! Reads notifications.

use std::time::Duration;

use millrace_event::plan::ProjectId;
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::super::clock::{moment, now_us};
use crate::thresholds::{period_of, state_of};
use crate::{DeliveryStatus, Notification, NotificationBacklog, NotificationState, StoreError};

/// The columns that [`notification`] reads, of `notifications n` and `projects p`.
pub(super) const COLUMNS: &str = "
    n.notification_id, n.project_id, p.name AS project, n.name, n.kind, n.percent, n.meter, n.subject, n.period,
    n.period_start, n.period_end, n.threshold, n.value, n.created_at, n.webhook_id, n.state, n.attempts,
    n.next_attempt_at, n.attempted_at, n.status, n.error";
const BACKLOG: &str = "
    SELECT count(*) FILTER (WHERE state = 'pending'), count(*) FILTER (WHERE state = 'dead'),
           min(created_at) FILTER (WHERE state = 'pending') FROM notifications";

pub(super) fn notification(row: &Row<'_>) -> Result<Notification, StoreError> {
    let at = |column: usize| row.get::<_, i64>(column).map(moment);
    let (period, state): (String, String) = (row.get(8)?, row.get(15)?);
    Ok(Notification {
        notification_id: row.get(0)?,
        project: ProjectId(row.get(1)?),
        project_name: row.get(2)?,
        threshold_name: row.get(3)?,
        kind: row.get(4)?,
        percent: row.get(5)?,
        meter: row.get(6)?,
        subject: row.get(7)?,
        period: period_of(&period)?,
        period_start: at(9)?,
        period_end: at(10)?,
        threshold: row.get(11)?,
        value: row.get(12)?,
        created_at: at(13)?,
        webhook_id: Uuid::from_bytes(row.get(14)?),
        delivery: DeliveryStatus {
            state: state_of(&state)?,
            attempts: row.get(16)?,
            next_attempt_at: at(17)?,
            attempted_at: row.get::<_, Option<i64>>(18)?.map(moment),
            status: row.get(19)?,
            error: row.get(20)?,
        },
    })
}

pub(in super::super) fn notifications(
    connection: &Connection,
    project: Option<ProjectId>,
    state: Option<NotificationState>,
    before: Option<i64>,
    limit: u32,
) -> Result<Vec<Notification>, StoreError> {
    let select = format!(
        "SELECT {COLUMNS} FROM notifications n JOIN projects p USING (project_id)
          WHERE (?1 IS NULL OR n.project_id = ?1) AND (?2 IS NULL OR n.state = ?2)
            AND (?3 IS NULL OR n.notification_id < ?3)
          ORDER BY n.notification_id DESC LIMIT ?4"
    );
    let (project, state) = (project.map(|project| project.0), state.map(<&str>::from));
    let mut statement = connection.prepare_cached(&select)?;
    let mut rows = statement.query(params![project, state, before, limit])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push(notification(row)?);
    }
    Ok(all)
}

pub(in super::super) fn backlog(connection: &Connection) -> Result<NotificationBacklog, StoreError> {
    let columns =
        |row: &Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, Option<i64>>(2)?));
    let (pending, dead, oldest_us) = connection.prepare_cached(BACKLOG)?.query_row([], columns)?;
    let age_us = oldest_us.map_or(0, |oldest| now_us().saturating_sub(oldest).max(0));
    Ok(NotificationBacklog {
        pending: pending.unsigned_abs(),
        dead: dead.unsigned_abs(),
        oldest_age: Duration::from_micros(age_us.unsigned_abs()),
    })
}
