//! Who delivers which notification when. Each function is one short transaction, so none is held during a
//! delivery.

use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior, params};
use uuid::Uuid;

use super::super::clock::{DAY_US, now_us};
use super::log::{COLUMNS, notification};
use crate::thresholds::{CLAIMED_OF_PROJECT_MAX, NOTIFICATION_DAYS, VALUE_DAYS, threshold_gone};
use crate::{ClaimedNotification, DeliveryResult, StoreError};

const CLAIM: &str = "
    UPDATE notifications SET attempts = attempts + 1, claim = ?2, attempted_at = ?3, next_attempt_at = ?4
     WHERE notification_id IN (
               SELECT notification_id
                 FROM (SELECT notification_id, next_attempt_at,
                              row_number() OVER (PARTITION BY project_id ORDER BY next_attempt_at) AS place
                         FROM notifications WHERE state = 'pending' AND next_attempt_at <= ?3)
                WHERE place <= ?5 ORDER BY next_attempt_at LIMIT ?1)";
const IS_ANY_DUE: &str = "SELECT 1 FROM notifications WHERE state = 'pending' AND next_attempt_at <= ?1";
const FINISH: &str = "
    UPDATE notifications SET claim = NULL, status = ?3, error = ?4, state = ?5, next_attempt_at = ?6
     WHERE notification_id = ?1 AND claim = ?2 AND state = 'pending'";
const RETRY: &str = "
    UPDATE notifications SET state = 'pending', attempts = 0, claim = NULL, next_attempt_at = ?2
     WHERE notification_id = ?1
       AND EXISTS (SELECT 1 FROM thresholds t WHERE t.threshold_id = notifications.threshold_id)";
const FORGET: &str = "DELETE FROM notifications WHERE period_end < ?1 AND state <> 'pending'";
const FORGET_VALUES: &str = "DELETE FROM threshold_values WHERE period_start < ?1";

pub(in super::super) fn claim(
    connection: &mut Connection,
    lease: Duration,
    limit: u32,
) -> Result<Vec<ClaimedNotification>, StoreError> {
    if !connection.prepare_cached(IS_ANY_DUE)?.exists([now_us()])? {
        return Ok(Vec::new());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (claim, now) = (Uuid::new_v4(), now_us());
    let until = now.saturating_add(micros(lease));
    transaction.execute(CLAIM, params![limit, claim.as_bytes(), now, until, CLAIMED_OF_PROJECT_MAX])?;
    let select = format!(
        "SELECT {COLUMNS}, t.url, s.secret, CASE WHEN s.previous_until > ?2 THEN s.previous END
           FROM notifications n JOIN projects p USING (project_id) JOIN thresholds t USING (threshold_id)
           JOIN webhook_secrets s ON s.project_id = n.project_id
          WHERE n.claim = ?1 AND n.state = 'pending' ORDER BY n.notification_id"
    );
    let mut claimed = Vec::new();
    {
        let mut statement = transaction.prepare_cached(&select)?;
        let mut rows = statement.query(params![claim.as_bytes(), now])?;
        while let Some(row) = rows.next()? {
            let secrets = [Some(row.get::<_, Vec<u8>>(22)?), row.get(23)?];
            claimed.push(ClaimedNotification {
                notification: notification(row)?,
                url: row.get(21)?,
                claim,
                secrets: secrets.into_iter().flatten().collect(),
            });
        }
    }
    transaction.commit()?;
    Ok(claimed)
}

pub(in super::super) fn finish(
    connection: &Connection,
    notification_id: i64,
    claim: Uuid,
    result: &DeliveryResult,
) -> Result<bool, StoreError> {
    let state = match (&result.error, result.retry_after) {
        (None, _) => "delivered",
        (Some(_), None) => "dead",
        (Some(_), Some(_)) => "pending",
    };
    let next = now_us().saturating_add(micros(result.retry_after.unwrap_or_default()));
    let values = params![notification_id, claim.as_bytes(), result.status, result.error, state, next];
    Ok(connection.prepare_cached(FINISH)?.execute(values)? == 1)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

pub(in super::super) fn retry(connection: &Connection, notification_id: i64) -> Result<bool, StoreError> {
    if connection.execute(RETRY, [notification_id, now_us()])? == 1 {
        return Ok(true);
    }
    let mut exists = connection.prepare("SELECT 1 FROM notifications WHERE notification_id = ?1")?;
    if exists.exists([notification_id])? { Err(threshold_gone(notification_id)) } else { Ok(false) }
}

pub(in super::super) fn forget(connection: &Connection) -> Result<u64, StoreError> {
    let days_ago = |days: u16| now_us() - i64::from(days) * DAY_US;
    let forgotten = connection.execute(FORGET, [days_ago(NOTIFICATION_DAYS)])?;
    Ok((forgotten + connection.execute(FORGET_VALUES, [days_ago(VALUE_DAYS)])?) as u64)
}
