//! A standby of PostgreSQL is promoted without the last commits.

use testkit::oracle::{Invariant, Load};

use super::operations::revoke_a_key;
use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, System, Verdict};

pub(super) const ROWS: &[Row] = &[Row {
    name: "standby behind is promoted",
    target: "PostgreSQL and standby",
    fault: "replication is cut under load, the primary killed, and the standby promoted without the last commits",
    expected: "with SETTLE_AFTER=standby API and workers follow, and every event that the standby lacks is stored there again; nothing lost, nothing twice; `millrace audit` holds",
    tier: Tier::Quick,
    run: |drill| Box::pin(standby_behind(drill)),
}];

/// A worker writes for a quarter of its takeover time without a standby that confirms: here, a second.
const AFTER_STANDBY: &[(&str, &str)] = &[("SETTLE_AFTER", "standby"), ("TAKEOVER_IDLE_MS", "4000")];
/// Events that are stored on the primary only when it dies, at least.
const LACKING: u64 = 50;

async fn standby_behind(drill: Drill) -> Verdict {
    let layout = Layout { standby: true, worker: AFTER_STANDBY, ..Layout::default() };
    let mut system = System::start(drill, layout).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    system.standby().cut_replication().await;
    system.standby_lacks(LACKING).await;
    system.fail_over_to_standby().await;
    // Stored by the new primary, and not settled before it has a standby of its own.
    clients.acknowledge(50).await;
    let database = system.postgres.connect().await;
    revoke_a_key(&mut system, &database).await;
    system.start_standby().await;
    clients.acknowledge(50).await;
    system.come_to_rest(clients).await;
    let audit = system.audit(&[]).await;
    if audit.code != Some(0) {
        system.violated(Invariant::TotalsAgree, format!("millrace audit says: {}", audit.stdout));
    }
    let clients = system.load(Load::default());
    clients.acknowledge(20).await;
    let needs = [
        (Effect::Acknowledged, 170),
        (Effect::Killed, 1),
        (Effect::Promoted, 1),
        (Effect::LackedByStandby, LACKING),
        (Effect::WriteFailed, 1),
    ];
    system.finish(clients, &needs).await
}
