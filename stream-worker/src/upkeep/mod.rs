//! All work that is not on an event's path: the stream's health, the backlog's gauges, retention, the
//! servers of the store, meters, notifications, and the checks. It must never wait for a lane or delay one.

mod backlog;
mod conservation;
mod housekeeping;
mod meters;
mod notifications;
mod schedule;
mod servers;

use millrace_reconcile::keeper;
use tokio::sync::watch;

use crate::deps::Deps;

/// Runs until the process is to stop, in six loops that do not wait for each other: a round of retention
/// can take long, and a store that does not answer holds it up. Lanes cannot settle while the epoch is
/// uncertain, and the backlog matters most while the store does not answer.
pub async fn run(deps: Deps, shutdown: watch::Receiver<bool>) {
    let Deps { stream, store, stream_health, check_periods, settings } = deps;
    let allowed_hosts = settings.notify_allow_hosts.clone().unwrap_or_default();
    tokio::join!(
        keeper::keep(&stream_health, &stream, &store, check_periods, shutdown.clone()),
        backlog::measure(&stream, shutdown.clone()),
        servers::watch(&stream, &store, &settings, shutdown.clone()),
        meters::run(&store, shutdown.clone()),
        notifications::run(&store, allowed_hosts, shutdown.clone()),
        housekeeping::run(&stream, &store, &settings, shutdown)
    );
}
