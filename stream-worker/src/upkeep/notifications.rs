//! Delivers notifications. Several workers may: each claims some for a time, and one that ends meanwhile
//! leaves them to the others. So a notification can be delivered twice, with the same id.

use std::time::Duration;

use futures_util::future::join_all;
use millrace_store::{ClaimedNotification, DeliveryResult, SharedStore, StoreError};
use time::OffsetDateTime;
use tokio::sync::watch;

use super::schedule::Schedule;
use crate::backoff::stopped;
use crate::metrics::{self, DeliveryEnd};
use crate::webhook::{ANSWER_TIMEOUT, AllowedHosts, Message, Sender, next_attempt};

/// Pause between two looks for notifications that are due.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a claim holds. Longer than an attempt, with time to record it.
const LEASE: Duration = ANSWER_TIMEOUT.saturating_mul(2);
/// How long deliveries that are under way may take once the process is to stop. Later ones are repeated.
const GRACE: Duration = Duration::from_secs(2);
/// Notifications that one process delivers at once, at most.
const CLAIMED_MAX: u32 = 16;
const MEASURE_PERIOD: Duration = Duration::from_secs(15);
const FORGET_PERIOD: Duration = Duration::from_secs(3_600);

/// Delivers until the process is to stop.
pub(super) async fn run(store: &SharedStore, allowed: AllowedHosts, mut shutdown: watch::Receiver<bool>) {
    let sender = Sender::new(allowed);
    let mut measure = Schedule::new(MEASURE_PERIOD, Duration::ZERO);
    let mut forget = Schedule::new(FORGET_PERIOD, PAUSE);
    while !*shutdown.borrow() {
        let claimed = match store.claim_notifications(LEASE, CLAIMED_MAX).await {
            Ok(claimed) => claimed,
            Err(error) => {
                report(&error);
                Vec::new()
            }
        };
        let is_more_likely = !claimed.is_empty();
        let delivered = join_all(claimed.into_iter().map(|claimed| deliver(store, &sender, claimed)));
        tokio::select! {
            biased;
            _ = delivered => {}
            () = stopped_for_good(&mut shutdown) => tracing::info!("left notifications to the next worker"),
        }
        if measure.is_due() {
            self::measure(store).await;
        }
        if forget.is_due()
            && let Err(error) = store.forget_notifications().await
        {
            report(&error);
        }
        if is_more_likely {
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = stopped(&mut shutdown) => {}
        }
    }
}

/// Returns some time after the process is to stop.
async fn stopped_for_good(shutdown: &mut watch::Receiver<bool>) {
    stopped(shutdown).await;
    tokio::time::sleep(GRACE).await;
}

async fn measure(store: &SharedStore) {
    match store.notification_backlog().await {
        Ok(backlog) => metrics::notification_backlog(backlog),
        Err(error) => report(&error),
    }
}

/// The store's own alerts tell of an outage.
fn report(error: &StoreError) {
    tracing::debug!(%error, "notifications could not be read");
}

async fn deliver(store: &SharedStore, sender: &Sender, claimed: ClaimedNotification) {
    let ClaimedNotification { notification, url, claim, secrets } = claimed;
    let message = Message::new(&notification, &secrets, OffsetDateTime::now_utc());
    let (status, retry_after, error) = match sender.send(&url, &message).await {
        Ok(answer) if (200..300).contains(&answer.status) => (Some(answer.status), None, None),
        Ok(answer) => (Some(answer.status), answer.retry_after, Some(failure(answer.status))),
        Err(error) => (None, None, Some(error.to_string())),
    };
    let attempts = notification.delivery.attempts;
    let pause = error.as_ref().and_then(|_| next_attempt(attempts, status, retry_after, rand::random()));
    let (end, id) = (DeliveryEnd::of(error.is_some(), pause.is_some()), notification.notification_id);
    let (project, threshold) = (&notification.project_name, &notification.threshold_name);
    match (&error, end) {
        (Some(error), DeliveryEnd::Dead) => {
            tracing::warn!(id, project, threshold, attempts, error, "gave up delivering a notification");
        }
        (Some(error), _) => {
            tracing::info!(id, project, threshold, attempts, error, "a notification could not be delivered");
        }
        (None, _) => tracing::info!(id, project, threshold, attempts, "delivered a notification"),
    }
    metrics::notification_sent(end);
    let result = DeliveryResult { status, error, retry_after: pause };
    match store.finish_delivery(id, claim, &result).await {
        Ok(true) => {}
        Ok(false) => tracing::info!(id, "another worker has taken over the notification"),
        Err(error) => tracing::warn!(id, %error, "a delivery could not be recorded; it will be repeated"),
    }
}

fn failure(status: u16) -> String {
    match status {
        300..400 => format!("the answer was {status}; redirects are not followed"),
        410 => "the answer was 410: the endpoint wants no more notifications".to_owned(),
        _ => format!("the answer was {status}"),
    }
}
