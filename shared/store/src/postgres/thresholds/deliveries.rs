//! Who delivers which notification when. Each statement is atomic, so no transaction is held during a
//! delivery.

use std::time::Duration;

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::log::{COLUMNS, notification};
use crate::thresholds::{CLAIMED_OF_PROJECT_MAX, GONE, NOTIFICATION_DAYS, VALUE_DAYS, threshold_gone};
use crate::{ClaimedNotification, DeliveryResult, StoreError};

/// The UPDATE checks its condition again once it has waited for the row, so one of two calls gets it.
const CLAIM: &str = "
    UPDATE notifications n
       SET attempts = attempts + 1, claim = $2, attempted_at = now(),
           next_attempt_at = now() + $3 * interval '1 microsecond'
     WHERE state = 'pending' AND next_attempt_at <= now() AND notification_id = ANY (ARRAY(
               SELECT notification_id
                 FROM (SELECT notification_id, next_attempt_at,
                              row_number() OVER (PARTITION BY project_id ORDER BY next_attempt_at) AS place
                         FROM notifications WHERE state = 'pending' AND next_attempt_at <= now()) due
                WHERE place <= $4 ORDER BY next_attempt_at LIMIT $1))";
/// A threshold can be deleted while its figures are compared.
const GIVE_UP: &str = "
    UPDATE notifications n SET state = 'dead', claim = NULL, error = $2
     WHERE claim = $1 AND state = 'pending' AND NOT EXISTS (SELECT FROM thresholds t WHERE t.threshold_id = n.threshold_id)";
const FINISH: &str = "
    UPDATE notifications
       SET claim = NULL, status = $3, error = $4,
           state = CASE WHEN $4::text IS NULL THEN 'delivered' WHEN $5::float8 IS NULL THEN 'dead' ELSE state END,
           next_attempt_at = now() + coalesce($5::float8, 0) * interval '1 microsecond'
     WHERE notification_id = $1 AND claim = $2 AND state = 'pending'";
const RETRY: &str = "
    UPDATE notifications n SET state = 'pending', attempts = 0, claim = NULL, next_attempt_at = now()
     WHERE notification_id = $1 AND EXISTS (SELECT FROM thresholds t WHERE t.threshold_id = n.threshold_id)";
const FORGET: &str = "
    DELETE FROM notifications
     WHERE period_end < now() - make_interval(days => $1) AND state <> 'pending'";
const FORGET_VALUES: &str = "
    DELETE FROM threshold_values v
     WHERE period_start < now() - make_interval(days => $1)
        OR NOT EXISTS (SELECT FROM thresholds t WHERE t.threshold_id = v.threshold_id)";

pub(in super::super) async fn claim(
    client: &Client,
    lease: Duration,
    limit: u32,
) -> Result<Vec<ClaimedNotification>, StoreError> {
    let (claim, lease_us) = (Uuid::new_v4(), lease.as_micros() as f64);
    let of_project = i64::from(CLAIMED_OF_PROJECT_MAX);
    let values: [&(dyn ToSql + Sync); 4] = [&i64::from(limit), &claim, &lease_us, &of_project];
    let count = client.execute(CLAIM, &values).await?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let claimed = format!(
        "SELECT {COLUMNS}, t.url, s.secret, CASE WHEN s.previous_until > now() THEN s.previous END AS previous
           FROM notifications n JOIN projects p USING (project_id) JOIN thresholds t USING (threshold_id)
           JOIN webhook_secrets s ON s.project_id = n.project_id
          WHERE n.claim = $1 AND n.state = 'pending' ORDER BY n.notification_id"
    );
    let rows = client.query(&claimed, &[&claim]).await?;
    let claimed = |row: &tokio_postgres::Row| {
        let secrets = [row.get("secret"), row.get::<_, Option<Vec<u8>>>("previous")];
        Ok(ClaimedNotification {
            notification: notification(row)?,
            url: row.get("url"),
            claim,
            secrets: secrets.into_iter().flatten().collect(),
        })
    };
    let claimed = rows.iter().map(claimed).collect::<Result<Vec<_>, StoreError>>()?;
    if claimed.len() as u64 != count {
        client.execute(GIVE_UP, &[&claim, &GONE]).await?;
    }
    Ok(claimed)
}

pub(in super::super) async fn finish(
    client: &Client,
    notification_id: i64,
    claim: Uuid,
    result: &DeliveryResult,
) -> Result<bool, StoreError> {
    let status = result.status.map(i32::from);
    let retry_us = result.retry_after.map(|after| after.as_micros() as f64);
    let values: [&(dyn ToSql + Sync); 5] = [&notification_id, &claim, &status, &result.error, &retry_us];
    Ok(client.execute(FINISH, &values).await? == 1)
}

pub(in super::super) async fn retry(client: &Client, notification_id: i64) -> Result<bool, StoreError> {
    if client.execute(RETRY, &[&notification_id]).await? == 1 {
        return Ok(true);
    }
    let exists = "SELECT FROM notifications WHERE notification_id = $1";
    match client.query_opt(exists, &[&notification_id]).await? {
        Some(_) => Err(threshold_gone(notification_id)),
        None => Ok(false),
    }
}

pub(in super::super) async fn forget(client: &Client) -> Result<u64, StoreError> {
    let forgotten = client.execute(FORGET, &[&i32::from(NOTIFICATION_DAYS)]).await?;
    Ok(forgotten + client.execute(FORGET_VALUES, &[&i32::from(VALUE_DAYS)]).await?)
}
