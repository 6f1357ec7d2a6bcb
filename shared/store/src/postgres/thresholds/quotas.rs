//! Compares the stored events of a month with thresholds of quotas, in the transaction that adds to usage.
//!
//! Transactions of one project can add to different hours of one month at the same time, and none would see
//! the other's events. So each takes a lock of the project's thresholds first, after its own row of usage is
//! written, and the next one sees what it has added.

use std::collections::BTreeSet;

use tokio_postgres::{Client, Error, Statement};

use super::super::parameters::UsageRows;
use crate::thresholds::NOTIFICATION_DAYS;

const WATCHED: &str = "SELECT DISTINCT project_id FROM thresholds WHERE kind = 'quota'";
const LOCK: &str = "
    SELECT count(*) FROM (SELECT FROM thresholds WHERE project_id = ANY ($1) AND kind = 'quota'
                           ORDER BY threshold_id FOR NO KEY UPDATE) locked";
const COMPARE: &str = "
    INSERT INTO notifications (threshold_id, project_id, name, kind, percent, subject, period, period_start,
                               period_end, threshold, value)
    SELECT t.threshold_id, t.project_id, t.name, t.kind, t.percent, '', t.period, m.start, m.ends,
           ceil(l.events_per_month * t.percent::numeric / 100), used.events
      FROM (SELECT DISTINCT a.project_id, date_trunc('month', a.hour, 'UTC') AS start,
                   (date_trunc('month', a.hour, 'UTC') AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC' AS ends
              FROM unnest($1::bigint[], $2::timestamptz[]) a (project_id, hour)) m
      JOIN thresholds t ON t.project_id = m.project_id AND t.kind = 'quota'
      JOIN projects p ON p.project_id = m.project_id JOIN plans l ON l.name = p.plan
     CROSS JOIN LATERAL (SELECT sum(u.events - u.redriven) FROM usage_hourly u
                          WHERE u.project_id = m.project_id AND u.hour >= m.start AND u.hour < m.ends) used (events)
     WHERE m.ends > greatest(t.created_at, now() - make_interval(days => $3))
       AND used.events * 100 >= l.events_per_month::numeric * t.percent
       AND NOT EXISTS (SELECT FROM notifications n
                        WHERE n.threshold_id = t.threshold_id AND n.subject = '' AND n.period_start = m.start)
    ON CONFLICT (threshold_id, subject, period_start) DO NOTHING";

/// Prepared for one connection.
pub(in super::super) struct QuotaStatements {
    lock: Statement,
    compare: Statement,
}

impl QuotaStatements {
    pub(in super::super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self { lock: client.prepare(LOCK).await?, compare: client.prepare(COMPARE).await? })
    }

    /// The projects that have thresholds of their quota.
    pub(in super::super) async fn watched(client: &Client) -> Result<BTreeSet<i64>, Error> {
        Ok(client.query(WATCHED, &[]).await?.iter().map(|row| row.get(0)).collect())
    }

    /// Takes the lock of the thresholds of these projects, until the transaction ends.
    pub(in super::super) async fn lock(&self, client: &Client, usage: &UsageRows) -> Result<(), Error> {
        client.execute(&self.lock, &[&usage.projects]).await.map(drop)
    }

    /// Writes notifications of thresholds that these months reach. Needs the lock, in a statement before.
    pub(in super::super) async fn compare(&self, client: &Client, usage: &UsageRows) -> Result<(), Error> {
        let days = i32::from(NOTIFICATION_DAYS);
        client.execute(&self.compare, &[&usage.projects, &usage.hours, &days]).await.map(drop)
    }
}
