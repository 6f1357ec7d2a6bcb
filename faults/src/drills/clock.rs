//! Clocks that jump or are wrong.

use std::time::{Duration, Instant};

use testkit::oracle::{Invariant, Load, PlanLimits};
use testkit::{ServerOptions, Shim};

use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "redis clock jumps",
        target: "redis",
        fault: "its clock an hour back, correct, and then forward three times by an hour, under load",
        expected: "rates and quotas are not exceeded, receive times do not decrease, entries taken over are stored once",
        tier: Tier::Quick,
        run: |drill| Box::pin(clock_jumps(drill)),
    },
    Row {
        name: "redis wiped and its clock set back",
        target: "redis",
        fault: "an empty folder, and the clock back at the beginning of the drill: entry ids repeat",
        expected: "entries are distinguished by batch, not by id: everything is stored",
        tier: Tier::Quick,
        run: |drill| Box::pin(wiped_and_set_back(drill)),
    },
    Row {
        name: "program clocks wrong by a day",
        target: "api, worker",
        fault: "one API and one worker a day ahead, the others a day behind",
        expected: "receive times, billing hours and rates follow the clock of Redis",
        tier: Tier::Quick,
        run: |drill| Box::pin(programs_wrong_by_a_day(drill)),
    },
];

/// A rate that clients exceed on any machine.
const LIMITED: PlanLimits = PlanLimits { requests_per_minute: 600, burst: 5, events_per_month: Some(1_000) };
/// Makes workers hold entries that are written and not settled. After a jump of the clock these look
/// abandoned.
const SLOW_TO_SETTLE: &[(&str, &str)] = &[("FAILPOINTS", "store::after_commit=30%sleep(200)")];
const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 24 * HOUR_S;

async fn clock_jumps(drill: Drill) -> Verdict {
    let shim = Shim::create();
    let system = start_on(&shim, drill, SLOW_TO_SETTLE).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    // While the clock of Redis is behind, the clock of the stream does not move.
    for hours in [-1, 0, 1, 2, 3] {
        shim.set_clock_ahead(hours * HOUR_S);
        clients.acknowledge(60).await;
    }
    system
        .finish(
            clients,
            &[
                (Effect::Acknowledged, 300),
                (Effect::RateLimited, 1),
                (Effect::TakenOver, 1),
                (Effect::Redelivered, 1),
            ],
        )
        .await
}

/// Before and after the wipe, most milliseconds of the same few seconds have entries.
async fn wiped_and_set_back(drill: Drill) -> Verdict {
    let shim = Shim::create();
    let mut system = start_on(&shim, drill, &[]).await;
    system.expect_rebuild();
    let busy = Load { clients: 5, pause: Duration::ZERO, ..Load::default() };
    let clients = system.load(busy);
    clients.acknowledge(20).await;
    let start = Instant::now();
    clients.acknowledge(400).await;
    system.come_to_rest(clients).await;

    let elapsed = i64::try_from(start.elapsed().as_secs()).expect("drills are short");
    shim.set_clock_ahead(-elapsed);
    system.redis_mut().wipe_and_restart().await;
    let clients = system.load(busy);
    clients.acknowledge(400).await;
    let repeated = repeated_ids(&system).await;
    system.note(Effect::IdRepeated, repeated);
    system
        .finish(clients, &[(Effect::Acknowledged, 800), (Effect::Rebuilt, 2), (Effect::IdRepeated, 1)])
        .await
}

/// Number of entries in the ledger with the id of another one.
async fn repeated_ids(system: &System) -> u64 {
    let repeated = "SELECT coalesce(sum(times - 1), 0)::bigint
                      FROM (SELECT count(*) AS times FROM batches GROUP BY received_at, entry_seq) b";
    let database = system.postgres.connect().await;
    let repeated: i64 =
        database.query_one(repeated, &[]).await.expect("PostgreSQL answers the oracle").get(0);
    u64::try_from(repeated).unwrap_or_default()
}

async fn programs_wrong_by_a_day(drill: Drill) -> Verdict {
    let (ahead, behind) = (Shim::create(), Shim::create());
    ahead.set_clock_ahead(DAY_S);
    behind.set_clock_ahead(-DAY_S);
    let mut system = System::start(drill, Layout { limited: LIMITED, ..Layout::default() }).await;
    for nodes in [&mut system.apis, &mut system.workers] {
        for (node, shim) in nodes.iter_mut().zip([&ahead, &behind]) {
            node.terminate().await;
            shim.variables().into_iter().for_each(|(name, value)| node.set(name, value));
            node.start().await;
        }
    }
    system.aim().await;
    let clients = system.load(Load::default());
    clients.acknowledge(300).await;
    check_times(&mut system).await;
    system.finish(clients, &[(Effect::Acknowledged, 300), (Effect::RateLimited, 1)]).await
}

/// All events of the drill were received within the last hour and are billed in this hour or the last one.
async fn check_times(system: &mut System) {
    let misdated = "SELECT (SELECT count(*) FROM batches
                              WHERE received_at NOT BETWEEN now() - interval '1 hour' AND now() + interval '1 minute'),
                            (SELECT count(*) FROM usage_hourly
                              WHERE hour NOT BETWEEN now() - interval '2 hours' AND now() + interval '1 minute')";
    let database = system.postgres.connect().await;
    let row = database.query_one(misdated, &[]).await.expect("PostgreSQL answers the oracle");
    let (entries, hours): (i64, i64) = (row.get(0), row.get(1));
    if entries > 0 || hours > 0 {
        let text = format!("{entries} entries and {hours} billing hours do not follow the clock of Redis");
        system.violated(Invariant::TotalsAgree, text);
    }
}

async fn start_on(shim: &Shim, drill: Drill, worker: &[(&str, &str)]) -> System {
    let variables = shim.variables();
    let redis = ServerOptions { variables: &variables, ..ServerOptions::default() };
    System::start(drill, Layout { redis, worker, limited: LIMITED, ..Layout::default() }).await
}
