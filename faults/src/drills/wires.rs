//! Bytes are lost, delayed or cut off between programs and servers.

use testkit::chaos::{Act, Call, ChaosProxy, Moment, ProxyCounts, Trap, Weather};
use testkit::eventually;
use testkit::oracle::{Clients, Load};

use rand::seq::SliceRandom;

use super::scripts::SETTLE;
use crate::metric;
use crate::node::SOON;
use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "deliveries lost on the way to a worker",
        target: "worker to Redis",
        fault: "every reply to XREADGROUP with an entry cut until entries were delivered two or three times; in four rounds",
        expected: "lanes first read the entries pending for them; none is skipped or dead-lettered",
        tier: Tier::Quick,
        run: |drill| Box::pin(deliveries_lost(drill)),
    },
    Row {
        name: "replies to settling lost",
        target: "worker to Redis",
        fault: "every second reply to settling cut, while one event in three is a duplicate",
        expected: "settling again changes nothing: duplicates are refunded once",
        tier: Tier::Quick,
        run: |drill| Box::pin(settling_replies_lost(drill)),
    },
    Row {
        name: "bad weather on every wire",
        target: "all connections",
        fault: "200 ms of delay, one byte at a time, resets, half-closed, muted, black hole, up and down every second",
        expected: "slow or 503; all totals are exact",
        tier: Tier::Nightly,
        run: |drill| Box::pin(bad_weather(drill)),
    },
];

/// A reply with an entry. A reply without one must arrive: a lane that never learns that nothing is pending
/// for it reads no new entry.
const DELIVERY: Call = Call::named("XREADGROUP").answered_with("\r\nv\r\n");

async fn deliveries_lost(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout { proxy_worker_redis: true, ..Layout::default() }).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    for round in 0..4 {
        let wire = system.wire_worker_redis.as_ref().expect("the layout has a proxy there");
        let cut = wire.arm(Trap::every(1, Moment::Reply(DELIVERY), Act::CutReply));
        // From the third delivery on, an entry is written alone.
        let (shard, deliveries) = (round % 2, 2 + u64::from(round / 2));
        eventually(SOON, "an entry to be delivered again", async || {
            let now = system.deliveries_max(shard).await;
            if now >= deliveries {
                Ok(())
            } else {
                Err(format!("{now} deliveries, {} replies cut", cut.times()))
            }
        })
        .await;
        system.heal().await;
        system.note(Effect::ReplyCut, cut.times());
        system.note(Effect::DeliveryLost, 1);
        clients.acknowledge(20).await;
    }
    system
        .finish(clients, &[(Effect::Acknowledged, 100), (Effect::ReplyCut, 8), (Effect::DeliveryLost, 4)])
        .await
}

async fn settling_replies_lost(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout { proxy_worker_redis: true, ..Layout::default() }).await;
    let clients = system.load(Load { copy_one_in: 3, ..Load::default() });
    let wire = system.wire_worker_redis.as_ref().expect("the layout has a proxy there");
    let cut = wire.arm(Trap::every(2, Moment::Reply(SETTLE), Act::CutReply));
    eventually(SOON, "twelve replies to settling to be cut", async || {
        let times = cut.times();
        if times >= 12 { Ok(()) } else { Err(format!("{times}")) }
    })
    .await;
    clients.acknowledge(100).await;
    system.heal().await;
    // A lane pauses before it settles again. Meanwhile nothing is pending.
    eventually(SOON, "twelve entries to be settled again", async || {
        let mut settled = 0.0;
        for worker in &mut system.workers {
            settled += worker.metric(metric::SETTLED_LATE).await;
        }
        if settled >= 12.0 { Ok(()) } else { Err(settled.to_string()) }
    })
    .await;
    system.note(Effect::ReplyCut, cut.times());
    let needs = [
        (Effect::Acknowledged, 100),
        (Effect::ReplyCut, 12),
        (Effect::SettledLate, 12),
        (Effect::Duplicate, 50),
        (Effect::Reconnected, 1),
    ];
    system.finish(clients, &needs).await
}

/// The weathers of every connection.
const WEATHERS: [Weather; 7] = [
    Weather::Delay { ms: 200, jitter_ms: 50 },
    Weather::Slice,
    Weather::Refuse,
    Weather::HalfClose,
    Weather::Mute,
    Weather::BlackHole,
    Weather::Flap { up_ms: 1_000, down_ms: 1_000 },
];
/// Bytes that must pass over a connection with a weather that loses none.
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
        apply_until_effective(wires(&system)[wire], weather).await;
        system.heal().await;
        system.note(Effect::Weathered, 1);
        reset_repeatedly(wires(&system)[wire], &clients).await;
    }
    let needs = [
        (Effect::Acknowledged, 500),
        (Effect::Unknown, 1),
        (Effect::Retried, 1),
        (Effect::Reconnected, 10),
        (Effect::Weathered, turns.len() as u64),
    ];
    system.finish(clients, &needs).await
}

fn wires(system: &System) -> [&ChaosProxy; 4] {
    [&system.wire_clients, &system.wire_api_redis, &system.wire_worker_redis, &system.wire_worker_postgres]
        .map(|wire| wire.as_ref().expect("the layout has a proxy there"))
}

/// Sets a weather and waits for its effect: lost bytes, refused connections, or [`SLOW_BYTES`] passed.
async fn apply_until_effective(wire: &ChaosProxy, weather: Weather) {
    let before = wire.counts();
    wire.set(weather);
    eventually(SOON, &format!("{weather:?} to have an effect"), async || {
        let now = wire.counts();
        if had_effect(weather, &before, &now) { Ok(()) } else { Err(format!("{before:?}, now {now:?}")) }
    })
    .await;
}

fn had_effect(weather: Weather, before: &ProxyCounts, now: &ProxyCounts) -> bool {
    match weather {
        Weather::Refuse | Weather::Flap { .. } => now.refused > before.refused && now.reset > before.reset,
        Weather::HalfClose | Weather::Mute | Weather::BlackHole => now.bytes_lost > before.bytes_lost,
        _ => now.bytes_up + now.bytes_down >= before.bytes_up + before.bytes_down + SLOW_BYTES,
    }
}

async fn reset_repeatedly(wire: &ChaosProxy, clients: &Clients) {
    for _ in 0..3 {
        wire.reset_all();
        clients.acknowledge(5).await;
    }
}
