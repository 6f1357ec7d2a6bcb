//! The statements of a writer, prepared once for each connection. With `ledger_statements`, the only
//! file with SQL on the path of an event.

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, SimpleQueryMessage, Statement};

use super::add_event::{ADD_EVENT, add_event};
use super::copy::Instant;
use super::distribution;
use super::ledger_statements::LedgerStatements;
use super::meters::MeterStatements;
use super::parameters::{
    ClaimRows, DeadLetters, PositionRows, RefusalCounts, RowKeys, SampleRows, UsageRows, index,
};
use super::thresholds::QuotaStatements;
use crate::letters::NewLetter;
use crate::payload::PayloadDigest;
use crate::rejection_tally::RejectionTally;
use crate::rejections::SAMPLES_KEPT;
use millrace_event::row::{self as event_row, COLUMNS};

// Every lookup goes key by key through the index: LATERAL with LIMIT leaves the planner no other way. Plans
// are made once, when a partition may still be empty: a join would be planned to scan the few rows for every
// key, and would keep doing so when they have become millions.

/// Bounds on the timestamps let the planner exclude partitions before it opens them, if it knows the bounds:
/// a plan for any bounds would lock every partition of events.
const STORED_EVENTS: &str = "
    SELECT k.at, stored.name, stored.subject, stored.properties::text
      FROM unnest($1::int[], $2::bigint[], $3::timestamptz[], $4::uuid[]) k (at, project_id, timestamp, event_id),
           LATERAL (SELECT e.name, e.subject, e.properties FROM events e
                     WHERE e.project_id = k.project_id AND e.timestamp = k.timestamp AND e.event_id = k.event_id
                       AND e.timestamp BETWEEN $5 AND $6
                     LIMIT 1) stored";
const CLAIMED_IDS: &str = "
    SELECT k.at, claimed.timestamp, claimed.received_at IS NULL
      FROM unnest($1::int[], $2::bigint[], $3::uuid[]) k (at, project_id, event_id),
           LATERAL (SELECT u.timestamp, u.received_at FROM undated_ids u
                     WHERE u.project_id = k.project_id AND u.event_id = k.event_id LIMIT 1) claimed";
const CLAIM_IDS: &str = "
    INSERT INTO undated_ids (project_id, event_id, timestamp, received_at)
    SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::timestamptz[], $4::timestamptz[]) ON CONFLICT DO NOTHING";
const KEEP_CLAIMS: &str = "
    UPDATE undated_ids u SET received_at = k.received_at
      FROM unnest($1::bigint[], $2::uuid[], $3::timestamptz[]) k (project_id, event_id, received_at)
     WHERE u.project_id = k.project_id AND u.event_id = k.event_id AND u.received_at IS NULL";
const ADD_DEAD_LETTERS: &str = "
    INSERT INTO dead_letters
           (project_id, batch_id, received_at, event_index, event_count, sqlstate, code, reason, payload, worker_version)
    SELECT l.*, $10 FROM unnest($1::bigint[], $2::uuid[], $3::timestamptz[], $4::int[], $5::bigint[], $6::text[],
                                $7::text[], $8::text[], $9::bytea[]) l";
const ADD_REFUSALS: &str = "
    INSERT INTO rejections_hourly AS r (project_id, hour, kind, code, count)
    SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[], $5::bigint[])
    ON CONFLICT (project_id, hour, kind, code) DO UPDATE SET count = r.count + excluded.count";
const ADD_SAMPLES: &str = "
    INSERT INTO rejection_samples (project_id, at, kind, code, message, payload)
    SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::bytea[])";
/// Deletes all but the newest samples of these projects and kinds.
const REMOVE_SAMPLES: &str = "
    DELETE FROM rejection_samples d USING unnest($1::bigint[], $2::text[]) k (project_id, kind)
     WHERE d.project_id = k.project_id AND d.kind = k.kind
       AND d.sample_id < (SELECT min(newest.sample_id)
                            FROM (SELECT s.sample_id FROM rejection_samples s
                                   WHERE s.project_id = k.project_id AND s.kind = k.kind
                                   ORDER BY s.sample_id DESC LIMIT $3) newest)";
const ADD_USAGE: &str = "
    INSERT INTO usage_hourly AS u (project_id, hour, events, bytes, duplicates, dead, conflicts)
    SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                         $7::bigint[])
    ON CONFLICT (project_id, hour) DO UPDATE
       SET events = u.events + excluded.events, bytes = u.bytes + excluded.bytes,
           duplicates = u.duplicates + excluded.duplicates, dead = u.dead + excluded.dead,
           conflicts = u.conflicts + excluded.conflicts";

/// A row is locked also when it stays as it is. Usage precedes it in every transaction, so two lanes cannot
/// wait for each other.
const ADVANCE_POSITIONS: &str = "
    INSERT INTO stream_positions AS p (shard, entry_ms, entry_seq)
    SELECT * FROM unnest($1::int[], $2::bigint[], $3::bigint[])
    ON CONFLICT (shard) DO UPDATE SET entry_ms = excluded.entry_ms, entry_seq = excluded.entry_seq
     WHERE (p.entry_ms, p.entry_seq) < (excluded.entry_ms, excluded.entry_seq)";

pub(super) struct Statements {
    pub(super) copy: Statement,
    /// `None` where `events` is distributed.
    stored_events: Option<Statement>,
    add_event: Statement,
    claimed_ids: Statement,
    claim_ids: Statement,
    pub(super) ledger: LedgerStatements,
    keep_claims: Statement,
    add_dead_letters: Statement,
    add_refusals: Statement,
    add_samples: Statement,
    remove_samples: Statement,
    add_usage: Statement,
    advance_positions: Statement,
    pub(super) meters: MeterStatements,
    pub(super) quotas: QuotaStatements,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        let copy = format!("COPY events ({COLUMNS}) FROM STDIN BINARY");
        let stored_events = match distribution::is_distributed(client).await? {
            true => None,
            false => Some(client.prepare(STORED_EVENTS).await?),
        };
        Ok(Self {
            copy: client.prepare(&copy).await?,
            stored_events,
            add_event: client.prepare(ADD_EVENT).await?,
            claimed_ids: client.prepare(CLAIMED_IDS).await?,
            claim_ids: client.prepare(CLAIM_IDS).await?,
            ledger: LedgerStatements::prepare(client).await?,
            keep_claims: client.prepare(KEEP_CLAIMS).await?,
            add_dead_letters: client.prepare(ADD_DEAD_LETTERS).await?,
            add_refusals: client.prepare(ADD_REFUSALS).await?,
            add_samples: client.prepare(ADD_SAMPLES).await?,
            remove_samples: client.prepare(REMOVE_SAMPLES).await?,
            add_usage: client.prepare(ADD_USAGE).await?,
            advance_positions: client.prepare(ADVANCE_POSITIONS).await?,
            meters: MeterStatements::prepare(client).await?,
            quotas: QuotaStatements::prepare(client).await?,
        })
    }

    /// Whether `events` is distributed, see [`distribution`].
    pub(super) fn is_distributed(&self) -> bool {
        self.stored_events.is_none()
    }

    /// As [`add_event`], with the prepared statement.
    pub(super) async fn add_event(
        &self,
        client: &Client,
        event: &event_row::Row<'_>,
        received_at: Instant,
    ) -> Result<bool, Error> {
        add_event(client, &self.add_event, event, received_at).await
    }

    /// Indices of those rows whose keys are in `events`, with the payloads of the stored events.
    pub(super) async fn stored_events(
        &self,
        client: &Client,
        keys: &RowKeys,
    ) -> Result<Vec<(usize, PayloadDigest)>, Error> {
        let Some((first, last)) = keys.span() else { return Ok(Vec::new()) };
        let Some(stored_events) = &self.stored_events else {
            return stored_on_nodes(client, keys).await;
        };
        let RowKeys { indices, projects, times, ids } = keys;
        let parameters: [&(dyn ToSql + Sync); 6] = [indices, projects, times, ids, &first, &last];
        // One round trip.
        let (before, rows, after) = tokio::join!(
            biased;
            client.batch_execute("SET plan_cache_mode = force_custom_plan"),
            client.query(stored_events, &parameters),
            client.batch_execute("SET plan_cache_mode = force_generic_plan"),
        );
        before?;
        after?;
        let stored = |row: &Row| {
            let text = |column| row.get::<_, Option<&str>>(column).map(str::as_bytes);
            let payload = PayloadDigest::new(text(1).unwrap_or_default(), text(2), text(3));
            (index(row.get(0)), payload)
        };
        Ok(rows?.iter().map(stored).collect())
    }

    /// Those rows whose ids are claimed.
    pub(super) async fn claimed_ids(&self, client: &Client, keys: &RowKeys) -> Result<Vec<ClaimedId>, Error> {
        if keys.ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows = client.query(&self.claimed_ids, &[&keys.indices, &keys.projects, &keys.ids]).await?;
        let claimed =
            |row: &Row| ClaimedId { row: index(row.get(0)), timestamp: row.get(1), is_short: row.get(2) };
        Ok(rows.iter().map(claimed).collect())
    }

    /// Claims ids. False when one of them was claimed before.
    pub(super) async fn claim_ids(&self, client: &Client, claims: &ClaimRows) -> Result<bool, Error> {
        if claims.ids.is_empty() {
            return Ok(true);
        }
        let ClaimRows { projects, ids, times, kept_from } = claims;
        let claimed = client.execute(&self.claim_ids, &[projects, ids, times, kept_from]).await?;
        Ok(claimed == ids.len() as u64)
    }

    /// Keeps claims that were made for some days as long as the ledger.
    pub(super) async fn keep_claims(&self, client: &Client, claims: &ClaimRows) -> Result<(), Error> {
        let ClaimRows { projects, ids, kept_from, .. } = claims;
        if !ids.is_empty() {
            client.execute(&self.keep_claims, &[projects, ids, kept_from]).await?;
        }
        Ok(())
    }

    pub(super) async fn add_dead_letters(
        &self,
        client: &Client,
        letters: &[NewLetter<'_>],
    ) -> Result<(), Error> {
        if letters.is_empty() {
            return Ok(());
        }
        let DeadLetters {
            projects,
            batches,
            times,
            event_indices,
            counts,
            sqlstates,
            codes,
            reasons,
            payloads,
        } = &DeadLetters::new(letters);
        let version = env!("CARGO_PKG_VERSION");
        let parameters: [&(dyn ToSql + Sync); 10] =
            [projects, batches, times, event_indices, counts, sqlstates, codes, reasons, payloads, &version];
        client.execute(&self.add_dead_letters, &parameters).await?;
        Ok(())
    }

    /// Counts what the transaction refuses, and replaces the oldest samples.
    pub(super) async fn add_refusals(
        &self,
        client: &Client,
        refusals: &RejectionTally<'_>,
    ) -> Result<(), Error> {
        if refusals.is_empty() {
            return Ok(());
        }
        let RefusalCounts { projects, hours, kinds, codes, counts } = &RefusalCounts::new(refusals);
        client.execute(&self.add_refusals, &[projects, hours, kinds, codes, counts]).await?;
        let SampleRows { projects, times, kinds, codes, messages, payloads } = &SampleRows::new(refusals);
        client.execute(&self.add_samples, &[projects, times, kinds, codes, messages, payloads]).await?;
        let of_samples = refusals.samples.keys();
        let (projects, kinds): (Vec<i64>, Vec<&'static str>) =
            of_samples.map(|&(project, kind)| (project, <&'static str>::from(kind))).unzip();
        client.execute(&self.remove_samples, &[&projects, &kinds, &(i64::from(SAMPLES_KEPT))]).await?;
        Ok(())
    }

    /// One of the last statements of a transaction: every lane needs these rows.
    pub(super) async fn add_usage(&self, client: &Client, rows: &UsageRows) -> Result<(), Error> {
        let UsageRows { projects, hours, events, bytes, duplicates, dead, conflicts } = rows;
        let parameters: [&(dyn ToSql + Sync); 7] =
            [projects, hours, events, bytes, duplicates, dead, conflicts];
        client.execute(&self.add_usage, &parameters).await?;
        Ok(())
    }

    /// The last statement of a transaction: every lane of the shard needs this row.
    pub(super) async fn advance_positions(&self, client: &Client, rows: &PositionRows) -> Result<(), Error> {
        let PositionRows { shards, entry_ms, entry_seqs } = rows;
        client.execute(&self.advance_positions, &[shards, entry_ms, entry_seqs]).await?;
        Ok(())
    }
}

/// As [`Statements::stored_events`], where `events` is distributed.
async fn stored_on_nodes(client: &Client, keys: &RowKeys) -> Result<Vec<(usize, PayloadDigest)>, Error> {
    let mut stored = Vec::new();
    for message in client.simple_query(&distribution::stored_events(keys)).await? {
        if let SimpleQueryMessage::Row(row) = message {
            let bytes = |column| row.get(column).map(str::as_bytes);
            let at =
                row.get(0).and_then(|at| at.parse().ok()).expect("the statement returns the index first");
            stored.push((at, PayloadDigest::new(bytes(1).unwrap_or_default(), bytes(2), bytes(3))));
        }
    }
    Ok(stored)
}

/// A row whose id is in `undated_ids`.
pub(super) struct ClaimedId {
    /// Its index in the draft.
    pub(super) row: usize,
    /// The timestamp of the event that claimed the id.
    pub(super) timestamp: Instant,
    /// The claim is kept for some days only.
    pub(super) is_short: bool,
}
