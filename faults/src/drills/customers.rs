//! Limits of customers, while everything that charges them or gives back is killed or loses its data.

use testkit::eventually;
use testkit::oracle::{Clients, Load};

use crate::node::SOON;
use crate::operator::CUSTOMERS;
use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, Standalone, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "customers reach their limits",
        target: "limits of customers",
        fault: "counters deleted while charged batches wait; FLUSHALL; SIGKILL of workers after COMMIT, of an API after \
                admission and of Redis",
        expected: "never more admitted than a limit; each counter, restored too, is what the stored events took",
        tier: Tier::Quick,
        run: |drill| Box::pin(limits(drill, 1)),
    },
    Row {
        name: "customers reach their limits, again and again",
        target: "limits of customers",
        fault: "the same, four times",
        expected: "the same",
        tier: Tier::Nightly,
        run: |drill| Box::pin(limits(drill, 4)),
    },
    Row {
        name: "embedded customers reach their limits",
        target: "limits of customers, millrace alone",
        fault: "SIGKILL before COMMIT, after COMMIT and after admission; the epoch removed when limits are reached",
        expected: "never more admitted than a limit; each counter, restored too, is what the stored events took",
        tier: Tier::Quick,
        run: |drill| Box::pin(embedded_limits(drill)),
    },
];

/// Entries in the stream when its counters are deleted.
const WAITING: u64 = 30;
/// Requests over a limit before the drill continues.
const REFUSED: u64 = 20;

/// Many events are sent twice: what they were charged must be given back.
fn load() -> Load {
    Load { clients: 6, copy_one_in: 6, ..Load::default() }
}

async fn limits(drill: Drill, rounds: u64) -> Verdict {
    let mut system = System::start(drill, Layout { customers: true, ..Layout::default() }).await;
    system.expect_rebuild();
    for _ in 0..rounds {
        // First what restores the counters: it would hide what is lost before.
        let clients = system.load_of(CUSTOMERS, load());
        clients.acknowledge(5).await;
        system.pause_workers();
        clients.acknowledge(WAITING).await;
        system.forget_counters().await;
        system.resume_workers();
        clients.acknowledge(5).await;
        system.come_to_rest(clients).await;
        system.command_redis(&["FLUSHALL"]).await;
        let clients = system.load_of(CUSTOMERS, load());
        kill_around_the_charge(&mut system, &clients).await;
        over_limit(&system, REFUSED).await;
        system.come_to_rest(clients).await;
    }
    // The other shard has its counters again when a project on it is served. Nothing is sent to it before: it
    // may lose them twice before a periodic check notices.
    let clients = system.load_of("beta", Load::default());
    clients.acknowledge(5).await;
    let needs = [
        (Effect::Acknowledged, 80),
        (Effect::LimitExceeded, REFUSED * rounds),
        (Effect::Duplicate, 20),
        (Effect::Redelivered, rounds),
        (Effect::Rebuilt, 2 * rounds + 1),
        (Effect::Killed, 5 * rounds),
    ];
    system.finish(clients, &needs).await
}

async fn kill_around_the_charge(system: &mut System, clients: &Clients) {
    clients.acknowledge(5).await;
    for worker in &mut system.workers {
        worker.kill().await;
        worker.start_with(&[("FAILPOINTS", "store::after_commit=1*off->1*return(kill)")]).await;
        worker.died().await;
        worker.start().await;
    }
    system.apis[0].kill().await;
    system.apis[0].start_with(&[("FAILPOINTS", "api::after_admission=2*off->1*return(kill)")]).await;
    // Clients stay with the API that answers them.
    system.apis[1].kill().await;
    system.aim().await;
    system.apis[0].died().await;
    system.apis[0].start().await;
    system.apis[1].start().await;
    system.aim().await;
    clients.acknowledge(10).await;
    system.redis_mut().kill().await;
    system.more_unanswered(5).await;
    system.redis_mut().restart().await;
    clients.acknowledge(10).await;
    system.note(Effect::Killed, 5);
}

/// Waits until so many more requests were over a limit.
async fn over_limit(system: &System, more: u64) {
    let project = system.project(CUSTOMERS);
    let refused = || project.history.tally().refused.get("limit_exceeded").copied().unwrap_or(0);
    let goal = refused() + more;
    eventually(SOON, "customers to be over their limits", async || refused() >= goal).await;
}

async fn embedded_limits(drill: Drill) -> Verdict {
    let folder = tempfile::tempdir().expect("a folder can be created");
    let mut standalone = Standalone::start(drill, folder.path(), &[]).await;
    standalone.add_customers().await;
    standalone.expect_rebuild();
    let clients = standalone.load_of(CUSTOMERS, load());
    let mut killed = 0;
    for point in ["store::before_commit", "store::after_commit", "api::after_admission"] {
        clients.acknowledge(15).await;
        standalone.node.kill().await;
        standalone.start_again(&[("FAILPOINTS", &format!("{point}=3*off->1*return(kill)"))]).await;
        standalone.node.died().await;
        standalone.start_again(&[]).await;
        killed += 2;
    }
    let project = standalone.project(CUSTOMERS);
    let refused = || project.history.tally().refused.get("limit_exceeded").copied().unwrap_or(0);
    for _ in 0..2 {
        let goal = refused() + REFUSED;
        eventually(SOON, "customers to be over their limits", async || refused() >= goal).await;
        standalone.node.kill().await;
        standalone.forget_epoch();
        standalone.start_again(&[]).await;
        killed += 1;
    }
    clients.acknowledge(10).await;
    standalone.note(Effect::Killed, killed);
    let needs = [
        (Effect::Acknowledged, 55),
        (Effect::LimitExceeded, 2 * REFUSED),
        (Effect::Duplicate, 10),
        (Effect::Redelivered, 1),
        (Effect::Killed, killed),
        (Effect::Rebuilt, 1),
    ];
    standalone.finish(clients, &needs).await
}
