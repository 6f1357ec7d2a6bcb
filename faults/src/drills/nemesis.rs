//! The nemesis: two or three random faults at once, again and again, for as long as one likes. The seed decides which
//! faults come, in which order and for how long; what they hit at that moment is up to the machine.

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
    fault: "two or three random faults at the same time, for ten minutes or as long as asked for",
    expected: "all invariants",
    tier: Tier::Nightly,
    run: |drill| Box::pin(torment(drill, NIGHTLY)),
}];

/// Requests that must pass between two rounds of faults: the system has to be seen working, too.
const BREATH: u64 = 20;
/// A fault that lasts, lasts so long, in milliseconds.
const LASTING_MS: std::ops::Range<u64> = 200..3_000;

/// How many faults come together, each as likely as the next.
const AT_ONCE: [usize; 4] = [1, 2, 2, 3];

/// What can go wrong.
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

/// The row's drill.
pub(crate) async fn torment(drill: Drill, at_least: Duration) -> Verdict {
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
        clients.acknowledge(BREATH).await;
        if rng.random_bool(0.3) {
            // While all is well, so that it is known to be there.
            data::force_poison(&system, rng.random_range(0..64), &mut rng).await;
        }
        let count = *AT_ONCE.choose(&mut rng).expect("it is not empty");
        let chosen: Vec<Fault> = FAULTS.sample(&mut rng, count).copied().collect();
        eprintln!("[{:4} s] {chosen:?}", started.elapsed().as_secs());
        for fault in chosen {
            system.inflict(fault, &mut rng).await;
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(LASTING_MS))).await;
        system.defuse().await;
        system.heal().await;
    }
    let needs =
        [(Effect::Acknowledged, 200), (Effect::Unknown, 1), (Effect::Redelivered, 1), (Effect::Looked, 10)];
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
                rig(&mut self.apis[api], &format!("{point}={nth}*off->1*return(kill)")).await
            }
            Fault::WorkerDiesAt(point) => {
                rig(&mut self.workers[worker], &format!("{point}={nth}*off->1*return(kill)")).await;
            }
            // As many as a single entry could meet and not be convicted.
            Fault::WorkerPanicsAt(point) => {
                rig(&mut self.workers[worker], &format!("{point}={nth}*off->2*panic")).await;
            }
            // They are dead or dying already.
            Fault::KillApi | Fault::StopApi | Fault::TerminateApi => {}
            Fault::KillWorker | Fault::TerminateWorker | Fault::StopWorker => {}
            Fault::KillRedis => self.redis.kill().await,
            Fault::StopRedis => self.redis.pause(),
            Fault::FlushScripts => self.tell_redis(&["SCRIPT", "FLUSH"]).await,
            Fault::DropRedisClients => self.tell_redis(&["CLIENT", "KILL", "TYPE", "normal"]).await,
            Fault::KillPostgres => self.postgres.kill().await,
            Fault::RestartPostgres => self.postgres.stop_fast().await,
            Fault::StopPostgres => self.postgres.pause(),
            Fault::KillSession => self.kill_a_session().await,
            Fault::LockTable(table) => {
                self.lock(table, Duration::from_millis(rng.random_range(LASTING_MS))).await
            }
            Fault::Weather(wire, weather) => self.wires()[wire].set(weather),
            Fault::TrapAdmission => self.lay(0, nth, Moment::Reply(ADMISSION), rng),
            Fault::TrapRead => self.lay(1, nth, Moment::Reply(Call::named("XREADGROUP")), rng),
            Fault::TrapSettle => self.lay(1, nth, Moment::Reply(SETTLE), rng),
            Fault::TrapCommit(moment) => self.lay(2, nth, moment, rng),
        }
    }

    /// Ends the lives in which a failpoint may still be armed: it is not to spring when all is said to be well.
    async fn defuse(&mut self) {
        for node in self.apis.iter_mut().chain(&mut self.workers) {
            if node.is_rigged() && node.is_running() {
                node.kill().await;
            }
        }
    }

    /// A trap with one of the things that can be done to a connection.
    fn lay(&self, wire: usize, nth: u64, moment: Moment, rng: &mut StdRng) {
        let act = *ACTS.choose(rng).expect("it is not empty");
        self.wires()[wire].arm(Trap::nth(nth, moment, act));
    }

    /// APIs to Redis, workers to Redis, workers to PostgreSQL.
    fn wires(&self) -> [&ChaosProxy; 3] {
        [&self.wire_api_redis, &self.wire_worker_redis, &self.wire_worker_postgres]
            .map(|wire| wire.as_ref().expect("the nemesis has proxies on these"))
    }
}

const ACTS: [Act; 4] = [Act::Cut, Act::CutReply, Act::BlackHole, Act::Pause { ms: 700 }];

/// A life in which failpoints are armed, beginning now.
async fn rig(node: &mut Node, points: &str) {
    if node.is_running() {
        node.kill().await;
    }
    node.launch(&[("FAILPOINTS", points)]);
}
