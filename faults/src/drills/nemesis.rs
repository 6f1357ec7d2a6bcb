//! The nemesis: rounds of random faults, up to three at the same time. The seed decides which faults happen,
//! in which order and for how long, but not what they interrupt.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use testkit::chaos::{Act, Call, ChaosProxy, Moment, Transaction, Trap, Weather};
use testkit::oracle::Load;

use super::data;
use super::scripts::{ADMISSION, SETTLE};
use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, Node, System, Verdict};

pub(crate) const NAME: &str = "random nemesis";
/// How long it runs as a drill of the table.
const NIGHTLY: Duration = Duration::from_secs(600);

pub(super) const ROWS: &[Row] = &[Row {
    name: NAME,
    target: "everything",
    fault: "up to three random faults at the same time, for ten minutes or longer",
    expected: "all invariants",
    tier: Tier::Nightly,
    run: |drill| Box::pin(run_for(drill, NIGHTLY)),
}];

/// Requests that must be acknowledged between two rounds, to prove that the system works.
const PAUSE_REQUESTS: u64 = 20;
/// Duration of a round and of a lock, in milliseconds.
const LASTING_MS: std::ops::Range<u64> = 200..3_000;

/// Faults in a round. Each element is equally likely.
const FAULTS_PER_ROUND: [usize; 4] = [1, 2, 2, 3];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    KillApi,
    StopApi,
    TerminateApi,
    ApiDiesAt(&'static str),
    KillWorker,
    TerminateWorker,
    StopWorker,
    WorkerDiesAt(&'static str),
    WorkerPanicsAt(&'static str),
    KillRedis,
    StopRedis,
    FlushScripts,
    DropRedisClients,
    KillPostgres,
    RestartPostgres,
    StopPostgres,
    KillSession,
    LockTable(&'static str),
    Weather(usize, Weather),
    TrapAdmission,
    TrapRead,
    TrapSettle,
    TrapCommit(Moment),
}

const FAULTS: &[Fault] = &[
    Fault::KillApi,
    Fault::StopApi,
    Fault::TerminateApi,
    Fault::ApiDiesAt("api::before_admission"),
    Fault::ApiDiesAt("api::after_admission"),
    Fault::KillWorker,
    Fault::TerminateWorker,
    Fault::StopWorker,
    Fault::WorkerDiesAt("lane::after_read"),
    Fault::WorkerDiesAt("store::inside_copy"),
    Fault::WorkerDiesAt("store::after_ledger"),
    Fault::WorkerDiesAt("store::before_commit"),
    Fault::WorkerDiesAt("store::after_commit"),
    Fault::WorkerDiesAt("store::dead_letter_written"),
    Fault::WorkerPanicsAt("lane::after_read"),
    Fault::WorkerPanicsAt("store::after_copy"),
    Fault::KillRedis,
    Fault::StopRedis,
    Fault::FlushScripts,
    Fault::DropRedisClients,
    Fault::KillPostgres,
    Fault::RestartPostgres,
    Fault::StopPostgres,
    Fault::KillSession,
    Fault::LockTable("usage_hourly"),
    Fault::LockTable("events"),
    Fault::Weather(0, Weather::Mute),
    Fault::Weather(0, Weather::BlackHole),
    Fault::Weather(0, Weather::Delay { ms: 200, jitter_ms: 100 }),
    Fault::Weather(1, Weather::Mute),
    Fault::Weather(1, Weather::Slice),
    Fault::Weather(1, Weather::Flap { up_ms: 300, down_ms: 200 }),
    Fault::Weather(2, Weather::BlackHole),
    Fault::Weather(2, Weather::HalfClose),
    Fault::Weather(2, Weather::Refuse),
    Fault::Weather(2, Weather::Throttle { bytes_per_s: 20_000 }),
    Fault::TrapAdmission,
    Fault::TrapRead,
    Fault::TrapSettle,
    Fault::TrapCommit(Moment::CommitSent(Transaction::WithCopy)),
    Fault::TrapCommit(Moment::CommitAnswered(Transaction::WithCopy)),
    Fault::TrapCommit(Moment::CopyData),
];

/// Runs rounds of faults for at least this long.
pub(crate) async fn run_for(drill: Drill, at_least: Duration) -> Verdict {
    let mut rng = StdRng::seed_from_u64(drill.seed);
    let layout = Layout {
        proxy_api_redis: true,
        proxy_worker_redis: true,
        proxy_worker_postgres: true,
        ..Layout::default()
    };
    let mut system = System::start(drill, layout).await;
    let clients = system.load(Load::default());
    let started = Instant::now();
    while started.elapsed() < at_least {
        clients.acknowledge(PAUSE_REQUESTS).await;
        if rng.random_bool(0.3) {
            // Without a fault, so that the entry is certainly in the stream.
            data::force_poison(&system, rng.random_range(0..64), &mut rng).await;
        }
        let count = *FAULTS_PER_ROUND.choose(&mut rng).expect("it is not empty");
        let chosen: Vec<Fault> = FAULTS.sample(&mut rng, count).copied().collect();
        eprintln!("[{:4} s] {chosen:?}", started.elapsed().as_secs());
        for fault in chosen {
            system.inflict(fault, &mut rng).await;
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(LASTING_MS))).await;
        system.end_failpoints().await;
        system.heal().await;
    }
    let needs = [
        (Effect::Acknowledged, 200),
        (Effect::Unknown, 1),
        (Effect::Redelivered, 1),
        (Effect::UsageRead, 10),
    ];
    system.finish(clients, &needs).await
}

impl System {
    async fn inflict(&mut self, fault: Fault, rng: &mut StdRng) {
        let (api, worker) = (rng.random_range(0..self.apis.len()), rng.random_range(0..self.workers.len()));
        let nth = rng.random_range(1..6);
        match fault {
            Fault::KillApi if self.apis[api].is_running() => self.apis[api].kill().await,
            Fault::StopApi if self.apis[api].is_running() => self.apis[api].program().pause(),
            Fault::KillWorker if self.workers[worker].is_running() => self.workers[worker].kill().await,
            Fault::TerminateWorker if self.workers[worker].is_running() => {
                self.workers[worker].program().terminate()
            }
            Fault::StopWorker if self.workers[worker].is_running() => self.workers[worker].program().pause(),
            Fault::TerminateApi if self.apis[api].is_running() => self.apis[api].program().terminate(),
            Fault::ApiDiesAt(point) => {
                restart_with_failpoints(&mut self.apis[api], &format!("{point}={nth}*off->1*return(kill)"))
                    .await
            }
            Fault::WorkerDiesAt(point) => {
                restart_with_failpoints(
                    &mut self.workers[worker],
                    &format!("{point}={nth}*off->1*return(kill)"),
                )
                .await;
            }
            // Fewer panics than it takes to dead-letter an entry.
            Fault::WorkerPanicsAt(point) => {
                restart_with_failpoints(&mut self.workers[worker], &format!("{point}={nth}*off->2*panic"))
                    .await;
            }
            // The process has ended already.
            Fault::KillApi | Fault::StopApi | Fault::TerminateApi => {}
            Fault::KillWorker | Fault::TerminateWorker | Fault::StopWorker => {}
            Fault::KillRedis => self.redis_mut().kill().await,
            Fault::StopRedis => self.redis_mut().pause(),
            Fault::FlushScripts => self.command_redis(&["SCRIPT", "FLUSH"]).await,
            Fault::DropRedisClients => self.command_redis(&["CLIENT", "KILL", "TYPE", "normal"]).await,
            Fault::KillPostgres => self.postgres.kill().await,
            Fault::RestartPostgres => self.postgres.stop_fast().await,
            Fault::StopPostgres => self.postgres.pause(),
            Fault::KillSession => self.kill_a_session().await,
            Fault::LockTable(table) => {
                self.lock(table, Duration::from_millis(rng.random_range(LASTING_MS))).await
            }
            Fault::Weather(wire, weather) => self.wires()[wire].set(weather),
            Fault::TrapAdmission => self.arm(0, nth, Moment::Reply(ADMISSION), rng),
            Fault::TrapRead => self.arm(1, nth, Moment::Reply(Call::named("XREADGROUP")), rng),
            Fault::TrapSettle => self.arm(1, nth, Moment::Reply(SETTLE), rng),
            Fault::TrapCommit(moment) => self.arm(2, nth, moment, rng),
        }
    }

    /// Ends the processes with a failpoint, which must not act after the faults have ended.
    async fn end_failpoints(&mut self) {
        for node in self.apis.iter_mut().chain(&mut self.workers) {
            if node.is_rigged() && node.is_running() {
                node.kill().await;
            }
        }
    }

    /// Arms a trap with a random act.
    fn arm(&self, wire: usize, nth: u64, moment: Moment, rng: &mut StdRng) {
        let act = *ACTS.choose(rng).expect("it is not empty");
        self.wires()[wire].arm(Trap::nth(nth, moment, act));
    }

    /// APIs to Redis, workers to Redis, workers to PostgreSQL.
    fn wires(&self) -> [&ChaosProxy; 3] {
        [&self.wire_api_redis, &self.wire_worker_redis, &self.wire_worker_postgres]
            .map(|wire| wire.as_ref().expect("the nemesis has proxies there"))
    }
}

const ACTS: [Act; 4] = [Act::Cut, Act::CutReply, Act::BlackHole, Act::Pause { ms: 700 }];

/// Starts a node again with failpoints.
async fn restart_with_failpoints(node: &mut Node, points: &str) {
    if node.is_running() {
        node.kill().await;
    }
    node.launch(&[("FAILPOINTS", points)]);
}
