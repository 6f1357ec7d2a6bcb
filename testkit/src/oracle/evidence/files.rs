//! Reads the two SQLite files of the embedded backend, while `millrace` has them open or after it has ended.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags, Row, params};
use uuid::Uuid;

use super::{
    CancelledEvents, DeadLetter, Evidence, LedgerEntry, LimitCounter, LimitUse, MeterSums, StoredEvent,
    StreamCounters, Sums,
};

const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
const SUMS: &str = "
    SELECT l.accepted, l.stored, l.duplicate, l.dead, l.conflict, u.events, u.duplicates, u.dead, u.conflicts, d.dead
      FROM (SELECT coalesce(sum(accepted), 0) AS accepted, coalesce(sum(stored), 0) AS stored,
                   coalesce(sum(duplicate), 0) AS duplicate, coalesce(sum(dead), 0) AS dead,
                   coalesce(sum(conflict), 0) AS conflict
              FROM batches WHERE project_id = ?1) l,
           (SELECT coalesce(sum(events), 0) AS events, coalesce(sum(duplicates), 0) AS duplicates,
                   coalesce(sum(dead), 0) AS dead, coalesce(sum(conflicts), 0) AS conflicts
              FROM usage_hourly WHERE project_id = ?1) u,
           (SELECT coalesce(sum(event_count), 0) AS dead FROM dead_letters
             WHERE project_id = ?1 AND redriven_at IS NULL) d";
const LEDGER: &str = "
    SELECT batch_id, received_at / 1000, accepted FROM batches WHERE project_id = ?1 ORDER BY received_at, entry_seq";
const STORED_IN_MONTH: &str = "
    SELECT coalesce(sum(stored - redriven), 0) FROM batches
     WHERE project_id = ?1 AND strftime('%Y%m', received_at / 1000000, 'unixepoch')
                               = coalesce(CAST(?2 AS TEXT), strftime('%Y%m', 'now'))";
const EVENTS: &str = "
    SELECT properties ->> '$.n', event_id, timestamp, received_at, name, subject, client_id, properties, context
      FROM events WHERE project_id = ?1";
const LETTERS: &str = "
    SELECT event_count, payload, reason, code FROM dead_letters WHERE project_id = ?1 AND redriven_at IS NULL";
const BULK: &str = "
    SELECT coalesce(sum(length(properties ->> '$.bulk')), 0) FROM events WHERE project_id = ?1 AND event_id = ?2";
const METERED: &str = "SELECT project_id, sum(events + duplicates + dead) FROM usage_hourly GROUP BY project_id ORDER BY project_id";
const METERS: &str = "
    WITH kept AS (SELECT * FROM events e WHERE NOT EXISTS (SELECT 1 FROM cancellations c WHERE c.project_id = e.project_id AND c.timestamp = e.timestamp
                   AND c.event_id = e.event_id AND c.received_at = e.received_at))
    SELECT m.slug,
           CASE m.aggregation WHEN 'unique_count' THEN (SELECT coalesce(sum(events), 0) FROM meter_uniques u WHERE u.meter_id = m.meter_id)
                ELSE (SELECT coalesce(sum(events), 0) FROM meter_usage u WHERE u.meter_id = m.meter_id) END,
           CASE m.aggregation
                WHEN 'sum' THEN (SELECT CAST(coalesce(sum(4 * CAST(value AS REAL)), 0) AS INTEGER) FROM meter_usage u
                                  WHERE u.meter_id = m.meter_id)
                WHEN 'count' THEN 0
                ELSE (SELECT count(DISTINCT value) FROM meter_uniques u WHERE u.meter_id = m.meter_id) END,
           (SELECT count(*) FROM kept e WHERE e.project_id = m.project_id AND e.name = m.event_name),
           CASE m.aggregation
                WHEN 'sum' THEN (SELECT CAST(coalesce(sum(4 * (properties ->> '$.amount')), 0) AS INTEGER) FROM kept e
                                  WHERE e.project_id = m.project_id AND e.name = m.event_name)
                WHEN 'count' THEN 0
                ELSE (SELECT count(DISTINCT properties ->> '$.n') FROM kept e
                       WHERE e.project_id = m.project_id AND e.name = m.event_name) END
      FROM meters m WHERE m.project_id = ?1 AND m.deleted_at IS NULL ORDER BY m.slug";
const LIMIT_USES: &str = "
    SELECT u.meter_id, u.period, u.subject, u.window_number, 4 * u.units + u.billionths / 250000000,
           coalesce((SELECT sum(CASE m.aggregation WHEN 'sum' THEN CAST(4 * (e.properties ->> '$.amount') AS INTEGER) ELSE 4 END)
                       FROM events e
                      WHERE e.project_id = u.project_id AND e.name = m.event_name AND e.subject = u.subject
                        AND u.window_number = CASE u.period WHEN 'hour' THEN e.received_at / 3600000000
                                                            WHEN 'day' THEN e.received_at / 86400000000
                            ELSE CAST(strftime('%Y%m', e.received_at / 1000000, 'unixepoch') AS INTEGER) END), 0),
           (SELECT 4 * l.units + l.billionths / 250000000 FROM customer_limits l
             WHERE l.meter_id = u.meter_id AND l.period = u.period AND l.subject IN (u.subject, '')
             ORDER BY l.subject DESC LIMIT 1)
      FROM limit_usage u JOIN meters m USING (meter_id) WHERE u.project_id = ?1";
const LIMIT_COUNTERS: &str = "
    SELECT meter, period, subject, window, 4 * units + billionths / 250000000 FROM limit_counters WHERE project = ?1";
const CANCELLED: &str = "
    SELECT e.properties ->> '$.n' FROM cancellations c JOIN events e USING (project_id, timestamp, event_id, received_at)
     WHERE c.project_id = ?1";
const CANCELLED_SUMS: &str = "
    SELECT (SELECT count(*) FROM cancellations WHERE project_id = ?1),
           (SELECT coalesce(sum(cancelled), 0) FROM usage_hourly WHERE project_id = ?1)";
const COUNTERS: &str = "SELECT accepted, pending, used, tat_us, month FROM projects WHERE project = ?1";
const LEFT: &str = "
    SELECT (SELECT count(*) FROM entries), (SELECT count(*) FROM markers WHERE expires_ms IS NULL),
           backlog_entries, backlog_events, backlog_bytes FROM shard";

/// A data directory of `millrace`.
#[derive(Clone, Debug)]
pub struct Files {
    folder: PathBuf,
}

impl Files {
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Opens one of the files read-only.
    ///
    /// # Errors
    /// When the file does not exist.
    pub(in crate::oracle) fn open(&self, name: &str) -> rusqlite::Result<Connection> {
        let file = Connection::open_with_flags(self.folder.join(name), OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        file.busy_timeout(BUSY_TIMEOUT)?;
        Ok(file)
    }

    fn store(&self) -> Connection {
        self.open("events.db").expect("the store's file can be opened")
    }

    fn stream(&self) -> Connection {
        self.open("stream.db").expect("the stream's file can be opened")
    }

    fn all<T>(
        file: &Connection,
        query: &str,
        project: i64,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Vec<T> {
        let mut statement = file.prepare(query).expect("the query is valid");
        let rows = statement.query_map([project], read).expect("the file answers the oracle");
        rows.collect::<Result<_, _>>().expect("the file answers the oracle")
    }
}

/// The metered usage of every project. See [`Evidence::metered`].
///
/// # Errors
/// When the file cannot be read.
pub(in crate::oracle) fn metered(file: &Connection) -> rusqlite::Result<Vec<(i64, i64)>> {
    file.prepare(METERED)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn uuid(row: &Row<'_>, at: usize) -> rusqlite::Result<Uuid> {
    row.get(at).map(Uuid::from_bytes)
}

#[async_trait]
impl Evidence for Files {
    async fn events(&self, project: i64, visit: &mut (dyn FnMut(StoredEvent) + Send)) {
        let file = self.store();
        let stored = |row: &Row<'_>| {
            visit(StoredEvent {
                number: row.get(0)?,
                event_id: uuid(row, 1)?,
                time_us: row.get(2)?,
                received_us: row.get(3)?,
                name: row.get(4)?,
                subject: row.get(5)?,
                client_id: row.get(6)?,
                properties: row.get(7)?,
                context: row.get(8)?,
            });
            Ok(())
        };
        Self::all(&file, EVENTS, project, stored);
    }

    async fn letters(&self, project: i64) -> Vec<DeadLetter> {
        Self::all(&self.store(), LETTERS, project, |row| {
            Ok(DeadLetter {
                events: row.get(0)?,
                payload: row.get(1)?,
                reason: row.get(2)?,
                code: row.get(3)?,
            })
        })
    }

    async fn sums(&self, project: i64) -> Sums {
        let sums = Self::all(&self.store(), SUMS, project, |row| {
            let mut sums = [0; 10];
            for (at, sum) in sums.iter_mut().enumerate() {
                *sum = row.get(at)?;
            }
            Ok(sums)
        });
        let [ledger @ .., events, duplicates, dead, conflicts, letters] = sums[0];
        Sums { ledger, usage: [events, duplicates, dead, conflicts], letters }
    }

    async fn ledger(&self, project: i64) -> Vec<LedgerEntry> {
        Self::all(&self.store(), LEDGER, project, |row| {
            Ok(LedgerEntry { batch: uuid(row, 0)?, received_ms: row.get(1)?, accepted: row.get(2)? })
        })
    }

    async fn stored_in_month(&self, project: i64, month: Option<u64>) -> u64 {
        let stored = self.store().query_row(STORED_IN_MONTH, params![project, month], |row| row.get(0));
        stored.expect("the file answers the oracle")
    }

    async fn bulk_chars(&self, project: i64, event_id: Uuid) -> usize {
        let chars = self.store().query_row(BULK, params![project, event_id.as_bytes()], |row| row.get(0));
        chars.expect("the file answers the oracle")
    }

    async fn metered(&self) -> Vec<(i64, i64)> {
        metered(&self.store()).expect("the file answers the oracle")
    }

    async fn counters(&self, project: i64) -> StreamCounters {
        let counters = Self::all(&self.stream(), COUNTERS, project, |row| {
            Ok(StreamCounters {
                accepted: row.get(0)?,
                pending: row.get(1)?,
                used: row.get(2)?,
                tat: row.get(3)?,
                month: row.get(4)?,
            })
        });
        counters.first().copied().unwrap_or_default()
    }

    async fn meters(&self, project: i64) -> Vec<MeterSums> {
        Self::all(&self.store(), METERS, project, |row| {
            Ok(MeterSums {
                slug: row.get(0)?,
                figures: (row.get(1)?, row.get(2)?),
                events: (row.get(3)?, row.get(4)?),
            })
        })
    }

    async fn limit_uses(&self, project: i64) -> Vec<LimitUse> {
        Self::all(&self.store(), LIMIT_USES, project, |row| {
            Ok(LimitUse {
                name: (row.get(0)?, row.get(1)?, row.get(2)?),
                window: row.get(3)?,
                recorded: row.get(4)?,
                events: row.get(5)?,
                limit: row.get(6)?,
            })
        })
    }

    async fn limit_counters(&self, project: i64) -> Vec<LimitCounter> {
        Self::all(&self.stream(), LIMIT_COUNTERS, project, |row| {
            let name = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(LimitCounter { name, window: row.get(3)?, used: row.get(4)? })
        })
    }

    async fn cancelled_events(&self, project: i64) -> CancelledEvents {
        let file = self.store();
        let sums = Self::all(&file, CANCELLED_SUMS, project, |row| Ok((row.get(0)?, row.get(1)?)));
        let numbers = Self::all(&file, CANCELLED, project, |row| row.get(0));
        CancelledEvents { numbers, records: sums[0].0, metered: sums[0].1 }
    }

    async fn left(&self) -> Vec<String> {
        let mut held = [0_i64; 5];
        let read = self.stream().query_row(LEFT, [], |row| {
            for (at, count) in held.iter_mut().enumerate() {
                *count = row.get(at)?;
            }
            Ok(())
        });
        read.expect("the file answers the oracle");
        let [entries, markers, backlog_entries, events, bytes] = held;
        let said = format!(
            "the stream holds {entries} entries and {markers} markers pending, and counts a backlog of {backlog_entries} entries, \
             {events} events, {bytes} B"
        );
        if held == [0; 5] { Vec::new() } else { vec![said] }
    }

    async fn epochs(&self) -> Vec<(Option<String>, Option<String>)> {
        let epoch = |file: Connection, query: &str| {
            let bytes: Option<Option<[u8; 16]>> = file.query_row(query, [], |row| row.get(0)).ok();
            bytes.flatten().map(|bytes| Uuid::from_bytes(bytes).to_string())
        };
        let in_stream = epoch(self.stream(), "SELECT epoch FROM shard");
        vec![(in_stream, epoch(self.store(), "SELECT epoch FROM stream_epochs WHERE shard = 0"))]
    }
}
