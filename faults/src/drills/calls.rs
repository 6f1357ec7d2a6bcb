//! Batches of SDKs with calls that no event can be made of, and repetitions with a new timestamp, while
//! processes die. The oracle knows of each call whether it must be a row or a dead letter.

use rand::RngExt;
use testkit::oracle::Load;

use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, Standalone, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "undeliverable calls",
        target: "API, worker and redis",
        fault: "batches of SDKs, one call in six broken; SIGKILL of a worker before it commits their dead letters, \
                of an API after admission, and of redis, twice each",
        expected: "every broken call of an acknowledged batch is one dead letter with its text; the others are stored",
        tier: Tier::Quick,
        run: |drill| Box::pin(undeliverable(drill)),
    },
    Row {
        name: "embedded with undeliverable calls",
        target: "millrace alone",
        fault: "batches of SDKs, one call in six broken; SIGKILL before dead letters are committed, and after admission, \
                twice each",
        expected: "every broken call of an acknowledged batch is one dead letter with its text; the others are stored",
        tier: Tier::Quick,
        run: |drill| Box::pin(undeliverable_alone(drill)),
    },
    Row {
        name: "events stamped again",
        target: "worker and redis",
        fault: "events of a project that recognizes ids repeated with other timestamps and properties; SIGKILL of workers \
                and of redis",
        expected: "each id is stored once; other properties are counted as conflicts",
        tier: Tier::Quick,
        run: |drill| Box::pin(stamped_again(drill)),
    },
];

/// Every batch is of calls.
const CALLS: Load = Load {
    clients: 3,
    batch_events_max: 20,
    pause: std::time::Duration::from_millis(5),
    copy_one_in: 160,
    calls_one_in: 1,
};
const ROUNDS: u64 = 2;

async fn undeliverable(drill: Drill) -> Verdict {
    let mut rng = drill.rng(1);
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(CALLS);
    for round in 0..2 {
        clients.acknowledge(30).await;
        let worker = &mut system.workers[round];
        worker.kill().await;
        worker.start_with(&[("FAILPOINTS", "store::before_commit=1*return(kill)")]).await;
        worker.died().await;
        worker.start().await;
        kill_after_admission(&mut system, round, rng.random_range(1..20)).await;
        clients.acknowledge(20).await;
        system.redis_mut().kill().await;
        system.more_unanswered(5).await;
        system.redis_mut().restart().await;
    }
    clients.acknowledge(30).await;
    system.note(Effect::KilledInTransaction, ROUNDS);
    system.note(Effect::Killed, 2 * ROUNDS);
    let needs = [
        (Effect::Acknowledged, 100),
        (Effect::Undeliverable, 100),
        (Effect::Retried, 1),
        (Effect::TakenOver, 1),
        (Effect::KilledInTransaction, ROUNDS),
    ];
    system.finish(clients, &needs).await
}

/// Kills an API after it has admitted a batch. The other one is killed before, so that clients use the first.
async fn kill_after_admission(system: &mut System, victim: usize, earlier: u32) {
    let other = 1 - victim;
    system.apis[victim].kill().await;
    let point = format!("api::after_admission={earlier}*off->1*return(kill)");
    system.apis[victim].start_with(&[("FAILPOINTS", &point)]).await;
    system.aim().await;
    system.apis[other].kill().await;
    system.apis[victim].died().await;
    for api in [victim, other] {
        system.apis[api].start().await;
    }
    system.aim().await;
}

async fn undeliverable_alone(drill: Drill) -> Verdict {
    let mut rng = drill.rng(1);
    let folder = tempfile::tempdir().expect("a folder can be created");
    let mut standalone = Standalone::start(drill, folder.path(), &[]).await;
    let clients = standalone.load(CALLS);
    for point in ["store::before_commit", "api::after_admission"].repeat(2) {
        clients.acknowledge(20).await;
        standalone.node.kill().await;
        let earlier = rng.random_range(1..10);
        standalone.start_again(&[("FAILPOINTS", &format!("{point}={earlier}*off->1*return(kill)"))]).await;
        standalone.node.died().await;
        standalone.start_again(&[]).await;
    }
    clients.acknowledge(30).await;
    standalone.note(Effect::Killed, 2 * ROUNDS);
    standalone.note(Effect::KilledInTransaction, ROUNDS);
    let needs = [(Effect::Acknowledged, 80), (Effect::Undeliverable, 60), (Effect::Retried, 1)];
    standalone.finish(clients, &needs).await
}

async fn stamped_again(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load_of("by-id", Load { copy_one_in: 24, clients: 6, ..Load::default() });
    for (worker, point) in [(0, "store::after_copy"), (1, "store::after_commit")] {
        clients.acknowledge(40).await;
        let worker = &mut system.workers[worker];
        worker.kill().await;
        worker.start_with(&[("FAILPOINTS", &format!("{point}=1*return(kill)"))]).await;
        worker.died().await;
        worker.start().await;
        system.redis_mut().kill().await;
        system.more_unanswered(5).await;
        system.redis_mut().restart().await;
    }
    // Only the store remembers ids: these workers have seen none of the events.
    for worker in &mut system.workers {
        assert_eq!(worker.terminate().await, Some(0), "the worker stops gracefully after SIGTERM");
        worker.start().await;
    }
    clients.acknowledge(40).await;
    system.note(Effect::Killed, 2 * ROUNDS);
    let needs =
        [(Effect::Acknowledged, 100), (Effect::Copied, 50), (Effect::Conflict, 10), (Effect::TakenOver, 1)];
    system.finish(clients, &needs).await
}
