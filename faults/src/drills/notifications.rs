//! Thresholds are reached while the workers and the receiver of notifications die.

use testkit::eventually;
use testkit::oracle::{Invariant, Load};
use tokio_postgres::Client;

use super::receiver::Receiver;
use crate::node::SOON;
use crate::operator::CUSTOMERS;
use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "thresholds reached under load",
        target: "notifications",
        fault: "the receiver is away, answers 500 and closes connections without an answer; SIGKILL of workers before \
                and after COMMIT and at any moment",
        expected: "each threshold that a customer reaches has one notification, delivered under one id; no other has any",
        tier: Tier::Quick,
        run: |drill| Box::pin(reached(drill, 1)),
    },
    Row {
        name: "thresholds reached under load for long",
        target: "notifications",
        fault: "the same, four times",
        expected: "the same",
        tier: Tier::Nightly,
        run: |drill| Box::pin(reached(drill, 4)),
    },
];

/// Thresholds of the project: name, meter, period and value. No customer reaches the last.
const THRESHOLDS: [(&str, &str, &str, &str); 4] = [
    ("some-orders", "orders", "month", "20"),
    ("orders-of-a-day", "orders", "day", "60"),
    ("amounts", "amounts", "month", "300000.5"),
    ("never", "orders", "month", "1000000"),
];
/// Workers may send to this machine.
const ALLOW: &[(&str, &str)] = &[("NOTIFY_ALLOW_HOSTS", "127.0.0.1")];
/// What must have a notification, by the stored events, and the notifications that there are.
const COMPARE: &str = "
    WITH reached AS (
        SELECT t.threshold_id, e.subject, date_trunc(t.period, e.timestamp, 'UTC') AS start
          FROM thresholds t JOIN meters m USING (meter_id)
          JOIN events e ON e.project_id = m.project_id AND e.name = m.event_name AND e.subject IS NOT NULL
         WHERE date_trunc(t.period, e.timestamp, 'UTC') + ('1 ' || t.period)::interval > t.created_at
         GROUP BY 1, 2, 3, t.value, m.aggregation
        HAVING CASE m.aggregation WHEN 'sum' THEN sum((e.properties ->> 'amount')::numeric) ELSE count(*) END >= t.value),
    written AS (
        SELECT threshold_id, subject, period_start AS start, count(*) AS times, min('msg_' || replace(webhook_id::text, '-', '')) AS id,
               min(state) AS state, sum(attempts)::bigint AS attempts
          FROM notifications GROUP BY 1, 2, 3)
    SELECT format('threshold %s, %s, from %s', threshold_id, subject, start), r IS NOT NULL, w.times, w.id, w.state,
           w.attempts
      FROM reached r FULL JOIN written w USING (threshold_id, subject, start)";

async fn reached(drill: Drill, rounds: u64) -> Verdict {
    let layout = Layout { customers: true, worker: ALLOW, ..Layout::default() };
    let mut system = System::start(drill, layout).await;
    let mut receiver = Receiver::start().await;
    for (name, meter, per, value) in THRESHOLDS {
        let set = ["threshold", "set", CUSTOMERS, name, "--meter", meter, "--per", per, "--value", value];
        system.operate(&[&set[..], &["--url", &receiver.url()]].concat()).await;
    }
    let clients = system.load_of(CUSTOMERS, Load { clients: 4, ..Load::default() });
    // The first attempts are refused.
    receiver.leave();
    for round in 0..rounds {
        for point in ["store::before_commit", "store::after_commit"] {
            clients.acknowledge(10).await;
            let victim = &mut system.workers[usize::try_from(round % 2).expect("it is 0 or 1")];
            victim.kill().await;
            victim.start_with(&[("FAILPOINTS", &format!("{point}=1*off->1*return(kill)"))]).await;
            victim.died().await;
            victim.start().await;
        }
        failed_attempts(&system, 3 * (round + 1)).await;
        receiver.come_back().await;
        receiver.fail_next(4);
        receiver.hang_up_next(4);
        system.workers[0].kill().await;
        system.workers[1].kill().await;
        clients.acknowledge(5).await;
        system.workers[0].start().await;
        system.workers[1].start().await;
        receiver.receives(1).await;
        if round + 1 < rounds {
            receiver.leave();
        }
        system.note(Effect::Killed, 4);
    }
    system.come_to_rest(clients).await;
    let database = system.postgres.connect().await;
    everything_is_delivered(&database).await;
    compare(&mut system, &database, &receiver).await;
    let clients = system.load_of("beta", Load::default());
    clients.acknowledge(5).await;
    let needs = [
        (Effect::Acknowledged, 50),
        (Effect::Notified, 6),
        (Effect::DeliveryFailed, 3),
        (Effect::Killed, 4 * rounds),
    ];
    system.finish(clients, &needs).await
}

/// Waits until attempts of this many notifications have failed.
async fn failed_attempts(system: &System, at_least: u64) {
    let database = system.postgres.connect().await;
    let failed = "SELECT coalesce(sum(attempts), 0)::bigint FROM notifications";
    eventually(SOON, "deliveries to fail", async || {
        let row = database.query_one(failed, &[]).await.expect("PostgreSQL answers the drill");
        u64::try_from(row.get::<_, i64>(0)).is_ok_and(|attempts| attempts >= at_least)
    })
    .await;
}

/// Waits until additions are in the figures of meters and no notification waits. Retries come at once.
async fn everything_is_delivered(database: &Client) {
    let left = "SELECT (SELECT count(*) FROM meter_additions) + (SELECT count(*) FROM notifications WHERE state <> 'delivered')";
    let hurry = "UPDATE notifications SET next_attempt_at = now() WHERE state = 'pending' AND claim IS NULL";
    eventually(SOON, "every notification to be delivered", async || {
        database.batch_execute(hurry).await.expect("PostgreSQL answers the drill");
        let row = database.query_one(left, &[]).await.expect("PostgreSQL answers the drill");
        match row.get::<_, i64>(0) {
            0 => Ok(()),
            left => Err(format!("{left} are left")),
        }
    })
    .await;
}

async fn compare(system: &mut System, database: &Client, receiver: &Receiver) {
    let received = receiver.received();
    let mut known = Vec::new();
    let mut broken = Vec::new();
    for row in database.query(COMPARE, &[]).await.expect("PostgreSQL answers the drill") {
        let (what, is_reached): (String, bool) = (row.get(0), row.get(1));
        let (times, id): (Option<i64>, Option<String>) = (row.get(2), row.get(3));
        let attempts = row.get::<_, Option<i64>>(5).unwrap_or(0);
        if times != is_reached.then_some(1) {
            broken.push(format!("{what}: reached: {is_reached}, notifications: {times:?}"));
        }
        let Some(id) = id else { continue };
        if !received.contains_key(&id) {
            broken.push(format!("{what}: {:?}, and its receiver never had {id}", row.get::<_, String>(4)));
        }
        system.note(Effect::Notified, 1);
        system.note(Effect::DeliveryFailed, u64::try_from(attempts - 1).unwrap_or(0));
        known.push(id);
    }
    broken.extend(
        received
            .keys()
            .filter(|id| !known.contains(id))
            .map(|id| format!("{id} was received, and is not known")),
    );
    let bodies = received.iter().filter(|(_, bodies)| bodies.len() != 1);
    broken.extend(bodies.map(|(id, bodies)| format!("{id} was received with {} bodies", bodies.len())));
    broken.into_iter().for_each(|said| system.violated(Invariant::NotifiedOnce, said));
}
