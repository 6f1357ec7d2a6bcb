//! Bytes get lost, late or torn between our processes and their servers.

use testkit::chaos::{Act, Call, ChaosProxy, Moment, ProxyCounts, Trap, Weather};
use testkit::eventually;
use testkit::oracle::{Clients, Load};

use rand::seq::SliceRandom;

use crate::matrix::{Row, Tier};
use crate::nemesis::SETTLE;
use crate::node::SOON;
use crate::{Drill, Layout, Sight, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "deliveries lost on the way to a worker",
        target: "worker to Redis",
        fault: "every reply to XREADGROUP cut until entries were handed out twice and three times; four times over",
        expected: "lanes read what is pending under their own names first; nothing is skipped, nothing is poison",
        tier: Tier::Quick,
        hold: |drill| Box::pin(deliveries_lost(drill)),
    },
    Row {
        name: "settled and not told",
        target: "worker to Redis",
        fault: "every second reply to settling cut, while one event in three is a duplicate",
        expected: "settled again to no effect: what duplicates had cost is given back once",
        tier: Tier::Quick,
        hold: |drill| Box::pin(settled_and_not_told(drill)),
    },
    Row {
        name: "bad weather on every wire",
        target: "all connections",
        fault: "200 ms late, one byte at a time, resets, half-closed, muted, black hole, up and down each second",
        expected: "slow or 503, and exact",
        tier: Tier::Nightly,
        hold: |drill| Box::pin(bad_weather(drill)),
    },
];

async fn deliveries_lost(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout { proxy_worker_redis: true, ..Layout::default() }).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    for round in 0..4 {
        let wire = system.wire_worker_redis.as_ref().expect("asked for");
        let cut = wire.arm(Trap::every(1, Moment::Reply(Call::named("XREADGROUP")), Act::CutReply));
        // From the third delivery on an entry goes alone.
        let (shard, deliveries) = (round % 2, 2 + u64::from(round / 2));
        eventually(SOON, "an entry to be handed out again", async || {
            let now = system.deliveries_max(shard).await;
            if now >= deliveries {
                Ok(())
            } else {
                Err(format!("{now} deliveries, {} replies cut", cut.times()))
            }
        })
        .await;
        system.heal().await;
        system.saw(Sight::ReplyCut, cut.times());
        system.saw(Sight::DeliveryLost, 1);
        clients.acknowledge(20).await;
    }
    system
        .finish(clients, &[(Sight::Acknowledged, 100), (Sight::ReplyCut, 8), (Sight::DeliveryLost, 4)])
        .await
}

async fn settled_and_not_told(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout { proxy_worker_redis: true, ..Layout::default() }).await;
    let clients = system.load(Load { copy_one_in: 3, ..Load::default() });
    let wire = system.wire_worker_redis.as_ref().expect("asked for");
    let cut = wire.arm(Trap::every(2, Moment::Reply(SETTLE), Act::CutReply));
    eventually(SOON, "twelve settlements not to be told", async || {
        let times = cut.times();
        if times >= 12 { Ok(()) } else { Err(format!("{times}")) }
    })
    .await;
    clients.acknowledge(100).await;
    system.heal().await;
    system.saw(Sight::ReplyCut, cut.times());
    let needs = [
        (Sight::Acknowledged, 100),
        (Sight::ReplyCut, 12),
        (Sight::SettledLate, 12),
        (Sight::Duplicate, 50),
        (Sight::Reconnected, 1),
    ];
    system.finish(clients, &needs).await
}

/// What every wire goes through.
const WEATHERS: [Weather; 7] = [
    Weather::Delay { ms: 200, jitter_ms: 50 },
    Weather::Slice,
    Weather::Refuse,
    Weather::HalfClose,
    Weather::Mute,
    Weather::BlackHole,
    Weather::Flap { up_ms: 1_000, down_ms: 1_000 },
];
/// Bytes that must have crept over a wire that is slow but loses none.
const SLOW_BYTES: u64 = 4_096;

async fn bad_weather(drill: Drill) -> Verdict {
    let mut rng = drill.rng(24);
    let layout = Layout {
        apis: 1,
        proxy_clients: true,
        proxy_api_redis: true,
        proxy_worker_redis: true,
        proxy_worker_postgres: true,
        ..Layout::default()
    };
    let mut system = System::start(drill, layout).await;
    let clients = system.load(Load::default());
    let mut turns: Vec<_> = (0..4).flat_map(|wire| WEATHERS.map(|weather| (wire, weather))).collect();
    turns.shuffle(&mut rng);
    for &(wire, weather) in &turns {
        clients.acknowledge(20).await;
        live_through(wires(&system)[wire], weather).await;
        system.heal().await;
        system.saw(Sight::Weathered, 1);
        storm_of_resets(wires(&system)[wire], &clients).await;
    }
    let needs = [
        (Sight::Acknowledged, 500),
        (Sight::Unknown, 1),
        (Sight::Retried, 1),
        (Sight::Reconnected, 10),
        (Sight::Weathered, turns.len() as u64),
    ];
    system.finish(clients, &needs).await
}

fn wires(system: &System) -> [&ChaosProxy; 4] {
    [&system.wire_clients, &system.wire_api_redis, &system.wire_worker_redis, &system.wire_worker_postgres]
        .map(|wire| wire.as_ref().expect("asked for"))
}

/// Until the weather has shown itself: bytes lost, connections refused, or so much gone through slowly.
async fn live_through(wire: &ChaosProxy, weather: Weather) {
    let before = wire.counts();
    wire.set(weather);
    eventually(SOON, &format!("{weather:?} to bite"), async || {
        let now = wire.counts();
        if has_bitten(weather, &before, &now) { Ok(()) } else { Err(format!("{before:?}, now {now:?}")) }
    })
    .await;
}

fn has_bitten(weather: Weather, before: &ProxyCounts, now: &ProxyCounts) -> bool {
    match weather {
        Weather::Refuse | Weather::Flap { .. } => now.refused > before.refused && now.reset > before.reset,
        Weather::HalfClose | Weather::Mute | Weather::BlackHole => now.bytes_lost > before.bytes_lost,
        _ => now.bytes_up + now.bytes_down >= before.bytes_up + before.bytes_down + SLOW_BYTES,
    }
}

async fn storm_of_resets(wire: &ChaosProxy, clients: &Clients) {
    for _ in 0..3 {
        wire.reset_all();
        clients.acknowledge(5).await;
    }
}
