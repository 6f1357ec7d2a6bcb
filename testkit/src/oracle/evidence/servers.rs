//! Reads PostgreSQL and Redis.

use std::pin::pin;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use redis::aio::MultiplexedConnection;
use tokio_postgres::Client;
use uuid::Uuid;

use super::{
    CancelledEvents, DeadLetter, Evidence, LedgerEntry, LimitCounter, LimitUse, MeterSums, StoredEvent,
    StreamCounters, Sums,
};

const ANSWERS: &str = "PostgreSQL answers the oracle";
const SUMS: &str = "
    SELECT l.accepted, l.stored, l.duplicate, l.dead, l.conflict, u.events, u.duplicates, u.dead, u.conflicts, d.dead
      FROM (SELECT coalesce(sum(accepted), 0)::bigint AS accepted, coalesce(sum(stored), 0)::bigint AS stored,
                   coalesce(sum(duplicate), 0)::bigint AS duplicate, coalesce(sum(dead), 0)::bigint AS dead,
                   coalesce(sum(conflict), 0)::bigint AS conflict
              FROM ledger WHERE project_id = $1) l,
           (SELECT coalesce(sum(events), 0)::bigint AS events, coalesce(sum(duplicates), 0)::bigint AS duplicates,
                   coalesce(sum(dead), 0)::bigint AS dead, coalesce(sum(conflicts), 0)::bigint AS conflicts
              FROM usage_hourly WHERE project_id = $1) u,
           (SELECT coalesce(sum(event_count), 0)::bigint AS dead FROM dead_letters
             WHERE project_id = $1 AND redriven_at IS NULL) d";
const LEDGER: &str = "
    SELECT batch_id, (extract(epoch FROM received_at) * 1000)::bigint, accepted
      FROM ledger WHERE project_id = $1 ORDER BY received_at, entry_seq";

const STORED_IN_MONTH: &str = "
    SELECT coalesce(sum(stored - redriven), 0)::bigint FROM ledger
     WHERE project_id = $1 AND to_char(received_at AT TIME ZONE 'UTC', 'YYYYMM')
                        = coalesce($2::bigint::text, to_char(now() AT TIME ZONE 'UTC', 'YYYYMM'))";
const EVENTS: &str = "
    SELECT (properties->>'n')::bigint, event_id, (extract(epoch FROM timestamp) * 1000000)::bigint,
           (extract(epoch FROM received_at) * 1000000)::bigint, name, subject, client_id, properties::text, context::text
      FROM events WHERE project_id = $1";
const DEAD_LETTERS: &str = "
    SELECT event_count, payload, reason, code FROM dead_letters WHERE project_id = $1 AND redriven_at IS NULL";

const BULK: &str = "
    SELECT coalesce(sum(length(properties->>'bulk')), 0)::bigint FROM events WHERE project_id = $1 AND event_id = $2";
const METERED: &str = "
    SELECT coalesce(array_agg(project_id ORDER BY project_id), '{}'),
           coalesce(array_agg(metered ORDER BY project_id), '{}')
      FROM (SELECT project_id, sum(events + duplicates + dead)::bigint AS metered
              FROM usage_hourly GROUP BY project_id) u";

const METERS: &str = "
    SELECT m.slug, f.events::bigint, (4 * f.value)::bigint, e.events,
           CASE m.aggregation WHEN 'sum' THEN e.quarters WHEN 'count' THEN 0 ELSE e.different END
      FROM meters m,
           LATERAL (SELECT coalesce(sum(events), 0) AS events, coalesce(sum(value), 0) AS value
                      FROM (SELECT events, value FROM meter_usage u WHERE u.meter_id = m.meter_id
                            UNION ALL
                            SELECT a.* FROM meter_additions w, unnest(w.events, w.values) a
                             WHERE w.meter_id = m.meter_id AND m.aggregation <> 'unique_count'
                            UNION ALL
                            SELECT sum(events), count(DISTINCT value) / 4.0
                              FROM (SELECT events, value FROM meter_uniques u WHERE u.meter_id = m.meter_id
                                    UNION ALL
                                    SELECT a.* FROM meter_additions w, unnest(w.events, w.texts) a
                                     WHERE w.meter_id = m.meter_id AND m.aggregation = 'unique_count') u) all_figures) f,
           LATERAL (SELECT count(*) AS events, coalesce(sum(4 * (properties ->> 'amount')::numeric), 0)::bigint AS quarters,
                           count(DISTINCT properties ->> 'n') AS different
                      FROM events s WHERE s.project_id = m.project_id AND s.name = m.event_name
                       AND NOT EXISTS (SELECT 1 FROM cancellations c WHERE c.project_id = s.project_id AND c.timestamp = s.timestamp
                           AND c.event_id = s.event_id AND c.received_at = s.received_at)) e
     WHERE m.project_id = $1 AND m.deleted_at IS NULL ORDER BY m.slug";

const LIMIT_USES: &str = "
    SELECT u.meter_id, u.period, u.subject, u.window_number, (4 * u.used)::bigint,
           (SELECT coalesce(sum(CASE m.aggregation WHEN 'sum' THEN 4 * (e.properties ->> 'amount')::numeric ELSE 4 END), 0)::bigint
              FROM events e
             WHERE e.project_id = u.project_id AND e.name = m.event_name AND e.subject = u.subject
               AND u.window_number = CASE u.period WHEN 'hour' THEN floor(extract(epoch FROM e.received_at) / 3600)
                                                   WHEN 'day' THEN floor(extract(epoch FROM e.received_at) / 86400)
                   ELSE to_char(e.received_at AT TIME ZONE 'UTC', 'YYYYMM')::numeric END),
           (SELECT (4 * l.amount)::bigint FROM customer_limits l
             WHERE l.meter_id = u.meter_id AND l.period = u.period AND l.subject IN (u.subject, '')
             ORDER BY l.subject DESC LIMIT 1)
      FROM limit_usage u JOIN meters m USING (meter_id) WHERE u.project_id = $1";

const CANCELLED: &str = "
    SELECT coalesce(array_agg((e.properties ->> 'n')::bigint), '{}'),
           (SELECT count(*) FROM cancellations WHERE project_id = $1),
           (SELECT coalesce(sum(cancelled), 0)::bigint FROM usage_hourly WHERE project_id = $1)
      FROM cancellations c JOIN events e USING (project_id, timestamp, event_id, received_at)
     WHERE c.project_id = $1";

/// Connections to both servers.
pub struct Servers<'a> {
    pub database: &'a Client,
    /// One connection for each shard of the stream, to the server that is in charge of it.
    pub redis: Vec<MultiplexedConnection>,
}

impl Servers<'_> {
    fn shards(&self) -> u16 {
        u16::try_from(self.redis.len()).expect("there are few shards")
    }

    async fn ask<T: redis::FromRedisValue>(&self, shard: u16, command: &redis::Cmd) -> redis::RedisResult<T> {
        command.query_async(&mut self.redis[usize::from(shard)].clone()).await
    }

    fn shard_of(&self, project: i64) -> u16 {
        u16::try_from(project.rem_euclid(i64::from(self.shards()))).expect("less than the shards")
    }

    /// What is left in the stream of one shard.
    async fn left_in_shard(&self, shard: u16) -> redis::RedisResult<Option<String>> {
        let stream = format!("{{s{shard}}}:events");
        let entries: u64 = self.ask(shard, redis::cmd("XLEN").arg(&stream)).await?;
        let pending = match self.ask(shard, redis::cmd("XPENDING").arg(&stream).arg("workers")).await {
            Ok(redis::Value::Array(summary)) => match summary.first() {
                Some(redis::Value::Int(count)) => *count,
                other => panic!("XPENDING starts with {other:?} instead of a count"),
            },
            Ok(other) => panic!("XPENDING responds {other:?}"),
            // No worker has created the group yet.
            Err(error) if error.code() == Some("NOGROUP") => 0,
            Err(error) => return Err(error),
        };
        let fields = ["backlog_events", "backlog_bytes"];
        let backlog = redis::cmd("HMGET").arg(format!("{{s{shard}}}:shard")).arg(&fields).to_owned();
        let backlog: Vec<Option<i64>> = self.ask(shard, &backlog).await?;
        let backlog: Vec<i64> = backlog.into_iter().map(|count| count.unwrap_or(0)).collect();
        let is_empty = entries == 0 && pending == 0 && backlog.iter().all(|count| *count == 0);
        let description = format!(
            "shard {shard} holds {entries} entries, {pending} pending, and counts a backlog of {backlog:?}"
        );
        Ok((!is_empty).then_some(description))
    }
}

/// The metered usage of every project. See [`Evidence::metered`].
///
/// # Errors
/// When PostgreSQL does not answer.
pub(in crate::oracle) async fn metered(database: &Client) -> Result<Vec<(i64, i64)>, tokio_postgres::Error> {
    let row = database.query_one(METERED, &[]).await?;
    let (projects, sums): (Vec<i64>, Vec<i64>) = (row.get(0), row.get(1));
    Ok(projects.into_iter().zip(sums).collect())
}

/// A count or a sum of counts.
fn count(number: i64) -> u64 {
    u64::try_from(number).expect("a count is not negative")
}

#[async_trait]
impl Evidence for Servers<'_> {
    async fn events(&self, project: i64, visit: &mut (dyn FnMut(StoredEvent) + Send)) {
        let mut rows = pin!(self.database.query_raw(EVENTS, [project]).await.expect(ANSWERS));
        while let Some(row) = rows.try_next().await.expect(ANSWERS) {
            visit(StoredEvent {
                number: row.get(0),
                event_id: row.get(1),
                time_us: row.get(2),
                received_us: row.get(3),
                name: row.get(4),
                subject: row.get(5),
                client_id: row.get(6),
                properties: row.get(7),
                context: row.get(8),
            });
        }
    }

    async fn letters(&self, project: i64) -> Vec<DeadLetter> {
        let rows = self.database.query(DEAD_LETTERS, &[&project]).await.expect(ANSWERS);
        let letter = |row: tokio_postgres::Row| DeadLetter {
            events: count(row.get(0)),
            payload: row.get(1),
            reason: row.get(2),
            code: row.get(3),
        };
        rows.into_iter().map(letter).collect()
    }

    async fn sums(&self, project: i64) -> Sums {
        let row = self.database.query_one(SUMS, &[&project]).await.expect(ANSWERS);
        let sum = |at: usize| count(row.get(at));
        Sums { ledger: [0, 1, 2, 3, 4].map(sum), usage: [5, 6, 7, 8].map(sum), letters: sum(9) }
    }

    async fn ledger(&self, project: i64) -> Vec<LedgerEntry> {
        let rows = self.database.query(LEDGER, &[&project]).await.expect(ANSWERS);
        let entry = |row: tokio_postgres::Row| LedgerEntry {
            batch: row.get(0),
            received_ms: count(row.get(1)),
            accepted: count(row.get(2)),
        };
        rows.into_iter().map(entry).collect()
    }

    async fn stored_in_month(&self, project: i64, month: Option<u64>) -> u64 {
        let month = month.map(|month| i64::try_from(month).expect("months are small"));
        let row = self.database.query_one(STORED_IN_MONTH, &[&project, &month]).await.expect(ANSWERS);
        count(row.get(0))
    }

    async fn bulk_chars(&self, project: i64, event_id: Uuid) -> usize {
        let row = self.database.query_one(BULK, &[&project, &event_id]).await.expect(ANSWERS);
        usize::try_from(row.get::<_, i64>(0)).expect("a length is not negative")
    }

    async fn metered(&self) -> Vec<(i64, i64)> {
        metered(self.database).await.expect(ANSWERS)
    }

    async fn counters(&self, project: i64) -> StreamCounters {
        let shard = self.shard_of(project);
        let key = format!("{{s{shard}}}:project:{project}");
        let fields = ["accepted", "pending", "used", "tat", "month"];
        let row: redis::RedisResult<Vec<Option<i64>>> =
            self.ask(shard, redis::cmd("HMGET").arg(key).arg(&fields)).await;
        let row = row.expect("Redis answers the oracle");
        let field = |at: usize| row.get(at).copied().flatten().unwrap_or(0);
        let [accepted, used, tat, month] = [0, 2, 3, 4].map(|at| count(field(at)));
        StreamCounters { accepted, pending: field(1), used, tat, month }
    }

    async fn meters(&self, project: i64) -> Vec<MeterSums> {
        let rows = self.database.query(METERS, &[&project]).await.expect(ANSWERS);
        let sums = |row: tokio_postgres::Row| MeterSums {
            slug: row.get(0),
            figures: (row.get(1), row.get(2)),
            events: (row.get(3), row.get(4)),
        };
        rows.into_iter().map(sums).collect()
    }

    async fn limit_uses(&self, project: i64) -> Vec<LimitUse> {
        let rows = self.database.query(LIMIT_USES, &[&project]).await.expect(ANSWERS);
        let limit_use = |row: tokio_postgres::Row| LimitUse {
            name: (row.get(0), row.get(1), row.get(2)),
            window: row.get(3),
            recorded: row.get(4),
            events: row.get(5),
            limit: row.get(6),
        };
        rows.into_iter().map(limit_use).collect()
    }

    async fn limit_counters(&self, project: i64) -> Vec<LimitCounter> {
        const REDIS_ANSWERS: &str = "Redis answers the oracle";
        let shard = self.shard_of(project);
        let epoch = self.ask(shard, redis::cmd("GET").arg(format!("{{s{shard}}}:epoch"))).await;
        let Some(epoch): Option<String> = epoch.expect(REDIS_ANSWERS) else { return Vec::new() };
        let prefix = format!("{{s{shard}}}:limit:{epoch}:{project}:");
        let keys = self.ask(shard, redis::cmd("KEYS").arg(format!("{prefix}*"))).await;
        let keys: Vec<String> = keys.expect(REDIS_ANSWERS);
        let mut counters = Vec::new();
        for key in keys {
            let fields = ["window", "units", "billionths"];
            let row = self.ask(shard, redis::cmd("HMGET").arg(&key).arg(&fields)).await;
            let [window, units, billionths]: [i64; 3] = row.expect(REDIS_ANSWERS);
            let mut parts = key[prefix.len()..].splitn(3, ':');
            let mut part = || parts.next().expect("a key has a meter, a period and a subject");
            let meter = part().parse().expect("a meter has a number");
            let name = (meter, part().to_owned(), part().to_owned());
            counters.push(LimitCounter { name, window, used: 4 * units + billionths / 250_000_000 });
        }
        counters
    }

    async fn cancelled_events(&self, project: i64) -> CancelledEvents {
        let row = self.database.query_one(CANCELLED, &[&project]).await.expect(ANSWERS);
        CancelledEvents { numbers: row.get(0), records: row.get(1), metered: row.get(2) }
    }

    async fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for shard in 0..self.shards() {
            match self.left_in_shard(shard).await {
                Ok(description) => left.extend(description),
                Err(error) => left.push(format!("shard {shard} does not answer: {error}")),
            }
        }
        left
    }

    async fn epochs(&self) -> Vec<(Option<String>, Option<String>)> {
        let mut epochs = Vec::new();
        for shard in 0..self.shards() {
            let epoch = self.ask(shard, redis::cmd("GET").arg(format!("{{s{shard}}}:epoch"))).await;
            let in_stream: Option<String> = epoch.expect("Redis answers the oracle");
            let recorded = "SELECT epoch::text FROM stream_epochs WHERE shard = $1";
            let recorded = self.database.query_opt(recorded, &[&i32::from(shard)]).await.expect(ANSWERS);
            epochs.push((in_stream, recorded.map(|row| row.get(0))));
        }
        epochs
    }
}
