//! What is corrected while events come in: events are cancelled, and meters are made that count from the
//! first stored event. The process that corrects is killed, and so is the one that stores.

use testkit::oracle::{Cancellers, Load};

use crate::operator::Operator;
use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, Standalone, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "events cancelled under load",
        target: "cancellations",
        fault: "the same events cancelled by several clients; SIGKILL of the API before and after the COMMIT of a \
                cancellation, and of a worker",
        expected: "each answered event is cancelled once, no other is; usage and meters without them",
        tier: Tier::Quick,
        run: |drill| Box::pin(cancelled(drill, 1)),
    },
    Row {
        name: "events cancelled under load for long",
        target: "cancellations",
        fault: "the same, four times",
        expected: "the same",
        tier: Tier::Nightly,
        run: |drill| Box::pin(cancelled(drill, 4)),
    },
    Row {
        name: "embedded events cancelled under load",
        target: "cancellations, millrace alone",
        fault: "SIGKILL before and after the COMMIT of a cancellation, twice each",
        expected: "each answered event is cancelled once, no other is; usage and meters without them",
        tier: Tier::Nightly,
        run: |drill| Box::pin(embedded_cancelled(drill)),
    },
    Row {
        name: "meters made from the first event on",
        target: "backfill of meters",
        fault: "SIGKILL of `millrace meter create --backfill` and of its repetitions before and after the COMMIT of a \
                step, and of a worker meanwhile",
        expected: "no event is missing from the meter or counted twice",
        tier: Tier::Quick,
        run: |drill| Box::pin(backfilled(drill)),
    },
    Row {
        name: "embedded meters made from the first event on",
        target: "backfill of meters, millrace alone",
        fault: "the same, next to a running `millrace` that is killed meanwhile",
        expected: "no event is missing from the meter or counted twice",
        tier: Tier::Nightly,
        run: |drill| Box::pin(embedded_backfilled(drill)),
    },
];

/// Moments around the COMMIT of a cancellation.
const CANCEL_POINTS: [&str; 2] = ["cancel::before_commit", "cancel::after_commit"];
/// Events that must be cancelled between two faults.
const CANCELLED: u64 = 20;

async fn cancelled(drill: Drill, rounds: u64) -> Verdict {
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load { copy_one_in: 40, ..Load::default() });
    let projects = [system.project("alpha"), system.project("beta")];
    let cancellers = Cancellers::start(&projects, &system.targets, system.drill.seed);
    for _ in 0..rounds {
        for (api, point) in CANCEL_POINTS.into_iter().enumerate() {
            cancellers.cancel(CANCELLED).await;
            system.apis[api].kill().await;
            system.apis[api].start_with(&[("FAILPOINTS", &format!("{point}=1*off->1*return(kill)"))]).await;
            system.aim().await;
            system.apis[api].died().await;
            system.apis[api].start().await;
            system.aim().await;
        }
        cancellers.cancel(CANCELLED).await;
        system.workers[0].kill().await;
        system.workers[0].start_with(&[("FAILPOINTS", "store::before_commit=1*return(kill)")]).await;
        system.workers[0].died().await;
        system.workers[0].start().await;
        clients.acknowledge(20).await;
    }
    cancellers.cancel(CANCELLED).await;
    system.note(Effect::Cancelled, cancellers.cancelled());
    system.note(Effect::Killed, 3 * rounds);
    // An acknowledged event may wait long under load, and cannot be cancelled before it is stored.
    system.come_to_rest(clients).await;
    cancellers.stop().await;
    let clients = system.load_of("beta", Load::default());
    clients.acknowledge(5).await;
    let needs =
        [(Effect::Acknowledged, 50), (Effect::Cancelled, 4 * CANCELLED), (Effect::Killed, 3 * rounds)];
    system.finish(clients, &needs).await
}

async fn embedded_cancelled(drill: Drill) -> Verdict {
    let folder = tempfile::tempdir().expect("a folder can be created");
    let mut standalone = Standalone::start(drill, folder.path(), &[]).await;
    let clients = standalone.load(Load { copy_one_in: 40, ..Load::default() });
    let projects = [standalone.project("alpha"), standalone.project("beta")];
    let cancellers = Cancellers::start(&projects, standalone.targets(), standalone.drill.seed);
    for point in CANCEL_POINTS.into_iter().cycle().take(4) {
        cancellers.cancel(CANCELLED).await;
        standalone.node.kill().await;
        standalone.start_again(&[("FAILPOINTS", &format!("{point}=1*off->1*return(kill)"))]).await;
        standalone.node.died().await;
        standalone.start_again(&[]).await;
        standalone.note(Effect::Killed, 2);
    }
    cancellers.cancel(CANCELLED).await;
    standalone.note(Effect::Cancelled, cancellers.cancelled());
    cancellers.stop().await;
    let needs = [(Effect::Acknowledged, 50), (Effect::Cancelled, 5 * CANCELLED), (Effect::Killed, 8)];
    standalone.finish(clients, &needs).await
}

/// More events of one project than two steps of a backfill count.
const STORED: u64 = 11_000;
/// The first meter that a backfill counts, and the second.
const SUM: [&str; 8] =
    ["alpha", "late-amounts", "--event", "checkout", "--aggregation", "sum", "--value", "$.amount"];
const UNIQUE: [&str; 8] = [
    "alpha",
    "late-products",
    "--event",
    "product_viewed",
    "--aggregation",
    "unique_count",
    "--value",
    "$.n",
];

/// Large batches, so that a backfill has several steps.
fn large() -> Load {
    Load { batch_events_max: 1_000, pause: std::time::Duration::from_millis(60), ..Load::default() }
}

/// Runs a command that must die at this point of its `nth` step.
async fn dies(operator: &Operator, arguments: &[&str], point: &str, nth: u32) {
    let failpoint = format!("backfill::{point}={}*off->1*return(kill)", nth - 1);
    let finished = operator.finished_with(arguments, &[("FAILPOINTS", &failpoint)]).await;
    assert_eq!(finished.code, None, "millrace {arguments:?} survived {failpoint}: {finished:?}");
}

async fn backfilled(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load_of("alpha", large());
    let alpha = system.project("alpha");
    testkit::eventually(crate::node::SOON, "many events", async || alpha.history.count() >= STORED).await;
    system.current_entries_are_drained().await;
    let operator = system.operator();
    let again = ["meter", "backfill", "alpha", "late-amounts"];
    dies(&operator, &[&["meter", "create"], &SUM[..], &["--backfill"]].concat(), "before_commit", 2).await;
    dies(&operator, &again, "after_commit", 1).await;
    system.workers[0].kill().await;
    system.workers[0].start_with(&[("FAILPOINTS", "store::before_commit=1*return(kill)")]).await;
    dies(&operator, &again, "before_commit", 1).await;
    system.workers[0].died().await;
    system.workers[0].start().await;
    operator.run(&again).await;
    operator.run(&[&["meter", "create"], &UNIQUE[..], &["--backfill"]].concat()).await;
    clients.acknowledge(10).await;
    system.note(Effect::BackfillKilled, 3);
    let needs = [(Effect::Acknowledged, 20), (Effect::BackfillKilled, 3)];
    system.finish(clients, &needs).await
}

async fn embedded_backfilled(drill: Drill) -> Verdict {
    let folder = tempfile::tempdir().expect("a folder can be created");
    let mut standalone = Standalone::start(drill, folder.path(), &[]).await;
    let clients = standalone.load_of("alpha", large());
    let alpha = standalone.project("alpha");
    testkit::eventually(crate::node::SOON, "many events", async || alpha.history.count() >= STORED).await;
    let operator = standalone.operator();
    let again = ["meter", "backfill", "alpha", "late-amounts"];
    dies(&operator, &[&["meter", "create"], &SUM[..], &["--backfill"]].concat(), "before_commit", 2).await;
    dies(&operator, &again, "after_commit", 1).await;
    standalone.node.kill().await;
    standalone.start_again(&[("FAILPOINTS", "store::before_commit=1*return(kill)")]).await;
    standalone.node.died().await;
    standalone.start_again(&[]).await;
    operator.run(&again).await;
    operator.run(&[&["meter", "create"], &UNIQUE[..], &["--backfill"]].concat()).await;
    clients.acknowledge(10).await;
    standalone.note(Effect::BackfillKilled, 2);
    standalone.note(Effect::Killed, 2);
    let needs = [(Effect::Acknowledged, 20), (Effect::BackfillKilled, 2), (Effect::Killed, 2)];
    standalone.finish(clients, &needs).await
}
