//! The statements of a writer about the ledger.

use deadpool_postgres::Transaction;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row, Statement};

use super::copy::Instant;
use super::ledger_rows::{GroupRows, LedgerKeys, LedgerRows, SingleRows};
use super::parameters::index;
use millrace_event::Outcome;

// Lookups go key by key through the index, as those in `statements`.

/// Batches of which the ledger has another entry. Only a batch with a key of its client is looked up, and
/// such a batch is in no group.
const WRITTEN_BY_ANOTHER_ENTRY: &str = "
    SELECT k.at
      FROM unnest($1::int[], $2::uuid[], $3::timestamptz[], $4::bigint[], $5::int[])
           k (at, batch_id, received_at, entry_seq, shard),
           LATERAL (SELECT FROM batches b
                     WHERE b.batch_id = k.batch_id
                       AND (b.received_at, b.entry_seq, b.shard) IS DISTINCT FROM (k.received_at, k.entry_seq, k.shard)
                     LIMIT 1) another";
/// The outcome as it was when the entry was written: a late settlement must refund the events that were dead
/// then, even if they have been redriven since. A row for a group can lack the batch.
const WRITTEN_BEFORE: &str = "
    SELECT k.at, k.place IS NULL OR b.i IS NOT NULL AS has_batch,
           CASE WHEN k.place IS NULL THEN b.stored - b.redriven
                ELSE b.group_accepted[b.i] - coalesce(b.group_duplicate[b.i] + b.group_dead[b.i] + b.group_redriven[b.i], 0)
                END AS stored,
           CASE WHEN k.place IS NULL THEN b.duplicate ELSE coalesce(b.group_duplicate[b.i], 0) END AS duplicate,
           CASE WHEN k.place IS NULL THEN b.dead + b.redriven
                ELSE coalesce(b.group_dead[b.i] + b.group_redriven[b.i], 0) END AS dead,
           CASE WHEN k.place IS NULL THEN b.conflict ELSE coalesce(b.group_conflict[b.i], 0) END AS conflict
      FROM unnest($1::int[], $2::uuid[], $3::smallint[], $4::timestamptz[], $5::bigint[], $6::int[])
           k (at, row_id, place, received_at, entry_seq, shard),
           LATERAL (SELECT w.*, array_position(w.group_places, k.place) AS i FROM batches w
                     WHERE w.received_at = k.received_at AND w.entry_seq = k.entry_seq
                       AND w.batch_id = k.row_id AND w.shard = k.shard
                       AND w.received_at BETWEEN $7 AND $8
                     LIMIT 1) b";
/// A row that is in the ledger fails the statement: the transaction starts again in any case, and
/// `ON CONFLICT` would make each row a third more expensive.
const ADD_ROWS: &str = "
    INSERT INTO batches (batch_id, received_at, entry_seq, shard, project_id, accepted, stored, duplicate, dead, conflict)
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::int[], $5::bigint[], $6::bigint[],
                         $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[])";
/// As [`ADD_ROWS`]. Each row takes its part of the arrays that have an element for each batch. Arrays of
/// zeros are not stored.
const ADD_GROUPS: &str = "
    INSERT INTO batches (batch_id, received_at, entry_seq, shard, accepted, stored, duplicate, dead, conflict,
                         group_places, group_projects, group_accepted, group_duplicate, group_dead, group_conflict,
                         group_redriven)
    SELECT batch_id, received_at, entry_seq, shard, accepted, stored, duplicate, dead, conflict,
           ($12::smallint[])[first:last], ($13::bigint[])[first:last], ($14::bigint[])[first:last],
           CASE WHEN stored < accepted THEN ($15::bigint[])[first:last] END,
           CASE WHEN stored < accepted THEN ($16::bigint[])[first:last] END,
           CASE WHEN stored < accepted THEN ($17::bigint[])[first:last] END,
           CASE WHEN stored < accepted THEN array_fill(0::bigint, ARRAY[last - first + 1]) END
      FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::int[], $5::bigint[], $6::bigint[], $7::bigint[],
                  $8::bigint[], $9::bigint[], $10::int[], $11::int[])
           k (batch_id, received_at, entry_seq, shard, accepted, stored, duplicate, dead, conflict, first, last)";

/// A batch's place in the ledger that a lookup found.
pub(super) struct FoundPlace {
    /// The index of the entry that the key was made from.
    pub(super) index: usize,
    /// `None` when the row for its group lacks the batch.
    pub(super) outcome: Option<Outcome>,
}

pub(super) struct LedgerStatements {
    written_by_another_entry: Statement,
    written_before: Statement,
    add_rows: Statement,
    add_groups: Statement,
}

impl LedgerStatements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            written_by_another_entry: client.prepare(WRITTEN_BY_ANOTHER_ENTRY).await?,
            written_before: client.prepare(WRITTEN_BEFORE).await?,
            add_rows: client.prepare(ADD_ROWS).await?,
            add_groups: client.prepare(ADD_GROUPS).await?,
        })
    }

    /// Indices of those entries whose batch the ledger has from another entry.
    pub(super) async fn written_by_another_entry(
        &self,
        client: &Client,
        keys: &LedgerKeys,
    ) -> Result<Vec<usize>, Error> {
        if keys.rows.is_empty() {
            return Ok(Vec::new());
        }
        let LedgerKeys { indices, rows, times, seqs, shards, .. } = keys;
        let found =
            client.query(&self.written_by_another_entry, &[indices, rows, times, seqs, shards]).await?;
        Ok(found.iter().map(|row| index(row.get(0))).collect())
    }

    /// Those of these keys whose row is in the ledger.
    pub(super) async fn written_before(
        &self,
        client: &Client,
        keys: &LedgerKeys,
    ) -> Result<Vec<FoundPlace>, Error> {
        let Some((first, last)) = keys.span() else { return Ok(Vec::new()) };
        let rows = client.query(&self.written_before, &with_span(keys, &first, &last)).await?;
        Ok(rows.iter().map(found_place).collect())
    }

    /// False when one of the rows is in the ledger.
    pub(super) async fn add(&self, client: &Client, rows: &LedgerRows) -> Result<bool, Error> {
        let LedgerRows { single, group } = rows;
        let (single, group) =
            tokio::join!(biased; self.add_rows(client, single), self.add_groups(client, group));
        // After the first has failed, the second reports only that.
        Ok(single? && group?)
    }

    async fn add_rows(&self, client: &Client, rows: &SingleRows) -> Result<bool, Error> {
        let SingleRows { ids, times, seqs, shards, projects, counts } = rows;
        if ids.is_empty() {
            return Ok(true);
        }
        let parameters: [&(dyn ToSql + Sync); 10] = [
            ids,
            times,
            seqs,
            shards,
            projects,
            &counts.accepted,
            &counts.stored,
            &counts.duplicate,
            &counts.dead,
            &counts.conflict,
        ];
        is_new(client.execute(&self.add_rows, &parameters).await)
    }

    async fn add_groups(&self, client: &Client, rows: &GroupRows) -> Result<bool, Error> {
        let GroupRows { ids, times, seqs, shards, sums, firsts, lasts, batches } = rows;
        if ids.is_empty() {
            return Ok(true);
        }
        let parameters: [&(dyn ToSql + Sync); 17] = [
            ids,
            times,
            seqs,
            shards,
            &sums.accepted,
            &sums.stored,
            &sums.duplicate,
            &sums.dead,
            &sums.conflict,
            firsts,
            lasts,
            &batches.places,
            &batches.projects,
            &batches.counts.accepted,
            &batches.counts.duplicate,
            &batches.counts.dead,
            &batches.counts.conflict,
        ];
        is_new(client.execute(&self.add_groups, &parameters).await)
    }
}

/// Whether rows were added. False when one of them was in the table.
fn is_new(added: Result<u64, Error>) -> Result<bool, Error> {
    match added {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => Ok(false),
        Err(error) => Err(error),
    }
}

/// As [`LedgerStatements::written_before`], in any session.
pub(super) async fn written_before(
    transaction: &Transaction<'_>,
    keys: &LedgerKeys,
) -> Result<Vec<FoundPlace>, Error> {
    let Some((first, last)) = keys.span() else { return Ok(Vec::new()) };
    let rows = transaction.query(WRITTEN_BEFORE, &with_span(keys, &first, &last)).await?;
    Ok(rows.iter().map(found_place).collect())
}

/// The parameters of [`WRITTEN_BEFORE`].
fn with_span<'a>(keys: &'a LedgerKeys, first: &'a Instant, last: &'a Instant) -> [&'a (dyn ToSql + Sync); 8] {
    [&keys.indices, &keys.rows, &keys.places, &keys.times, &keys.seqs, &keys.shards, first, last]
}

fn found_place(row: &Row) -> FoundPlace {
    FoundPlace { index: index(row.get(0)), outcome: row.get::<_, bool>(1).then(|| outcome(row)) }
}

/// Reads the columns `stored`, `duplicate`, `dead` and `conflict`.
pub(super) fn outcome(row: &Row) -> Outcome {
    let count = |column| u32::try_from(row.get::<_, i64>(column)).unwrap_or(u32::MAX);
    Outcome {
        stored: count("stored"),
        duplicate: count("duplicate"),
        dead: count("dead"),
        conflict: count("conflict"),
    }
}
