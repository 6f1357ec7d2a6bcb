//! Clocks that jump, and clocks that are wrong.

use std::time::{Duration, Instant};

use testkit::oracle::{Invariant, Load, PlanLimits};
use testkit::{ServerOptions, Shim};

use crate::matrix::{Row, Tier};
use crate::{Drill, Layout, Sight, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "redis clock jumps",
        target: "redis",
        fault: "its clock an hour back, right again, and forward three times by an hour, under load",
        expected: "rates and quotas are never exceeded, receive times never go back, entries taken over are stored once",
        tier: Tier::Quick,
        hold: |drill| Box::pin(clock_jumps(drill)),
    },
    Row {
        name: "redis wiped and living through the same time again",
        target: "redis",
        fault: "an empty folder, and a clock that begins once more where the first life began: entry ids repeat",
        expected: "an entry is known by its batch, not by its id: everything is stored",
        tier: Tier::Quick,
        hold: |drill| Box::pin(same_time_again(drill)),
    },
    Row {
        name: "clocks of our programs wrong by a day",
        target: "api, worker",
        fault: "one API and one worker a day ahead, the others a day behind",
        expected: "receive times, billing hours and rates are those of Redis's clock",
        tier: Tier::Quick,
        hold: |drill| Box::pin(programs_wrong_by_a_day(drill)),
    },
];

/// A rate that clients reach on any machine.
const LIMITED: PlanLimits = PlanLimits { requests_per_minute: 600, burst: 5, events_per_month: Some(1_000) };
/// For workers that always hold something written and not settled, which a jump of the clock makes look abandoned. By the
/// clock that does not jump it never is.
const SLOW_TO_SETTLE: &[(&str, &str)] = &[("FAILPOINTS", "store::after_commit=30%sleep(200)")];
const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 24 * HOUR_S;

async fn clock_jumps(drill: Drill) -> Verdict {
    let shim = Shim::create();
    let system = start_on(&shim, drill, SLOW_TO_SETTLE).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    // While the clock is behind, the stream's stands still: it goes on where it was.
    for hours in [-1, 0, 1, 2, 3] {
        shim.set_clock_ahead(hours * HOUR_S);
        clients.acknowledge(60).await;
    }
    system
        .finish(
            clients,
            &[
                (Sight::Acknowledged, 300),
                (Sight::RateLimited, 1),
                (Sight::TakenOver, 1),
                (Sight::Redelivered, 1),
            ],
        )
        .await
}

/// Both lives have entries in most milliseconds of the same few seconds.
async fn same_time_again(drill: Drill) -> Verdict {
    let shim = Shim::create();
    let mut system = start_on(&shim, drill, &[]).await;
    system.expect_rebuild();
    let busy = Load { clients: 5, pause: Duration::ZERO, ..Load::default() };
    let clients = system.load(busy);
    clients.acknowledge(20).await;
    let began = Instant::now();
    clients.acknowledge(400).await;
    system.come_to_rest(clients).await;

    let lived = i64::try_from(began.elapsed().as_secs()).expect("drills are short");
    shim.set_clock_ahead(-lived);
    system.redis.wipe_and_restart().await;
    let clients = system.load(busy);
    clients.acknowledge(400).await;
    let repeated = repeated_ids(&system).await;
    system.saw(Sight::IdRepeated, repeated);
    system.finish(clients, &[(Sight::Acknowledged, 800), (Sight::Rebuilt, 2), (Sight::IdRepeated, 1)]).await
}

/// Entries in the ledger that have the id of another one.
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
    look_for_other_days(&mut system).await;
    system.finish(clients, &[(Sight::Acknowledged, 300), (Sight::RateLimited, 1)]).await
}

/// Everything of this drill was received within the last hour and is billed in that hour or the one before.
async fn look_for_other_days(system: &mut System) {
    let strangers = "SELECT (SELECT count(*) FROM batches
                              WHERE received_at NOT BETWEEN now() - interval '1 hour' AND now() + interval '1 minute'),
                            (SELECT count(*) FROM usage_hourly
                              WHERE hour NOT BETWEEN now() - interval '2 hours' AND now() + interval '1 minute')";
    let database = system.postgres.connect().await;
    let row = database.query_one(strangers, &[]).await.expect("PostgreSQL answers the oracle");
    let (entries, hours): (i64, i64) = (row.get(0), row.get(1));
    if entries > 0 || hours > 0 {
        let said = format!("{entries} entries and {hours} billing hours are of another time than Redis's");
        system.found(Invariant::TotalsAgree, said);
    }
}

async fn start_on(shim: &Shim, drill: Drill, worker: &[(&str, &str)]) -> System {
    let variables = shim.variables();
    let redis = ServerOptions { variables: &variables, ..ServerOptions::default() };
    System::start(drill, Layout { redis, worker, limited: LIMITED, ..Layout::default() }).await
}
