//! The statements of a writer, prepared once, and their parameters: always arrays, one element a row, so that every
//! step is one round trip however many rows there are. The only file with SQL on the way of an event.

use deadpool_postgres::Transaction;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};
use uuid::Uuid;

use super::copy::Instant;
use super::draft::{Draft, Entry, State, Usage};
use crate::WriteOutcome;
use crate::ledger::LedgerKey;
use millrace_event::Outcome;
use millrace_event::row::COLUMNS;

// What is looked up is looked up key by key, each through the index: LATERAL with LIMIT leaves the planner no other way. Plans
// are made once, and a partition is empty when it is new: a join would be planned to walk through the "few" rows that
// there are for every key, and would go on to do so when they have become millions.

/// Bounds on the timestamps let the planner leave out partitions before it opens them.
const KNOWN_EVENTS: &str = "
    SELECT k.at
      FROM unnest($1::int[], $2::bigint[], $3::timestamptz[], $4::uuid[]) k (at, project_id, timestamp, event_id),
           LATERAL (SELECT FROM events e
                     WHERE e.project_id = k.project_id AND e.timestamp = k.timestamp AND e.event_id = k.event_id
                       AND e.timestamp BETWEEN $5 AND $6
                     LIMIT 1) known";
const KNOWN_UNDATED: &str = "
    SELECT k.at
      FROM unnest($1::int[], $2::bigint[], $3::uuid[]) k (at, project_id, event_id),
           LATERAL (SELECT FROM undated_ids u WHERE u.project_id = k.project_id AND u.event_id = k.event_id LIMIT 1) known";
const ADD_UNDATED: &str = "
    INSERT INTO undated_ids (project_id, event_id, timestamp)
    SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::timestamptz[]) ON CONFLICT DO NOTHING";
/// Batches of which another entry is in the ledger.
const ADMITTED_BEFORE: &str = "
    SELECT k.at
      FROM unnest($1::int[], $2::uuid[], $3::timestamptz[], $4::bigint[], $5::int[])
           k (at, batch_id, received_at, entry_seq, shard),
           LATERAL (SELECT FROM batches b
                     WHERE b.batch_id = k.batch_id
                       AND (b.received_at, b.entry_seq, b.shard) IS DISTINCT FROM (k.received_at, k.entry_seq, k.shard)
                     LIMIT 1) another";
/// As it was written: whoever settles late must refund what had died, though it may have been redriven since.
const WRITTEN_BEFORE: &str = "
    SELECT k.at, b.stored - b.redriven AS stored, b.duplicate, b.dead + b.redriven AS dead
      FROM unnest($1::int[], $2::uuid[], $3::timestamptz[], $4::bigint[], $5::int[])
           k (at, batch_id, received_at, entry_seq, shard),
           LATERAL (SELECT * FROM batches w
                     WHERE w.received_at = k.received_at AND w.entry_seq = k.entry_seq
                       AND w.batch_id = k.batch_id AND w.shard = k.shard
                       AND w.received_at BETWEEN $6 AND $7
                     LIMIT 1) b";
/// An entry that is there already fails the statement: the transaction begins anew in any case, and to be ready for a
/// conflict would make each row a third dearer.
const ADD_LEDGER: &str = "
    INSERT INTO batches (batch_id, received_at, entry_seq, shard, project_id, accepted, stored, duplicate, dead)
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::int[], $5::bigint[], $6::bigint[],
                         $7::bigint[], $8::bigint[], $9::bigint[])";
const ADD_DEAD_LETTERS: &str = "
    INSERT INTO dead_letters
           (project_id, batch_id, received_at, event_index, event_count, sqlstate, reason, payload, worker_version)
    SELECT l.*, $9 FROM unnest($1::bigint[], $2::uuid[], $3::timestamptz[], $4::int[], $5::bigint[], $6::text[],
                               $7::text[], $8::bytea[]) l";
const ADD_USAGE: &str = "
    INSERT INTO usage_hourly AS u (project_id, hour, events, bytes, duplicates, dead)
    SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
    ON CONFLICT (project_id, hour) DO UPDATE
       SET events = u.events + excluded.events, bytes = u.bytes + excluded.bytes,
           duplicates = u.duplicates + excluded.duplicates, dead = u.dead + excluded.dead";

/// All of them, prepared on one connection.
pub(super) struct Statements {
    pub(super) copy: Statement,
    known_events: Statement,
    known_undated: Statement,
    add_undated: Statement,
    admitted_before: Statement,
    written_before: Statement,
    add_ledger: Statement,
    add_dead_letters: Statement,
    add_usage: Statement,
}

impl Statements {
    pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
        let copy = format!("COPY events ({COLUMNS}) FROM STDIN BINARY");
        Ok(Self {
            copy: client.prepare(&copy).await?,
            known_events: client.prepare(KNOWN_EVENTS).await?,
            known_undated: client.prepare(KNOWN_UNDATED).await?,
            add_undated: client.prepare(ADD_UNDATED).await?,
            admitted_before: client.prepare(ADMITTED_BEFORE).await?,
            written_before: client.prepare(WRITTEN_BEFORE).await?,
            add_ledger: client.prepare(ADD_LEDGER).await?,
            add_dead_letters: client.prepare(ADD_DEAD_LETTERS).await?,
            add_usage: client.prepare(ADD_USAGE).await?,
        })
    }

    /// Which of these rows the store has.
    pub(super) async fn known(
        &self,
        client: &Client,
        draft: &Draft<'_>,
        asked: &[usize],
    ) -> Result<Vec<usize>, Error> {
        let (undated, dated): (Vec<_>, Vec<_>) =
            asked.iter().copied().partition(|&at| draft.items[at].is_undated());
        let (known_dated, known_undated) = tokio::join!(
            biased;
            self.known_dated(client, draft, &dated),
            self.known_undated(client, draft, &undated),
        );
        let mut known = known_dated?;
        known.extend(known_undated?);
        Ok(known)
    }

    async fn known_dated(
        &self,
        client: &Client,
        draft: &Draft<'_>,
        asked: &[usize],
    ) -> Result<Vec<usize>, Error> {
        let keys: Vec<_> = asked.iter().map(|&at| draft.items[at].key).collect();
        let times: Vec<_> = keys.iter().map(|key| Instant(key.timestamp_us)).collect();
        let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) else {
            return Ok(Vec::new());
        };
        let projects: Vec<_> = keys.iter().map(|key| key.project.0).collect();
        let ids: Vec<_> = keys.iter().map(|key| key.event_id).collect();
        let places = places(asked);
        let rows = client.query(&self.known_events, &[&places, &projects, &times, &ids, first, last]).await?;
        Ok(rows.iter().map(|row| index(row.get(0))).collect())
    }

    async fn known_undated(
        &self,
        client: &Client,
        draft: &Draft<'_>,
        asked: &[usize],
    ) -> Result<Vec<usize>, Error> {
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let projects: Vec<_> = asked.iter().map(|&at| draft.items[at].key.project.0).collect();
        let ids: Vec<_> = asked.iter().map(|&at| draft.items[at].key.event_id).collect();
        let rows = client.query(&self.known_undated, &[&places(asked), &projects, &ids]).await?;
        Ok(rows.iter().map(|row| index(row.get(0))).collect())
    }

    /// Claims the ids of undated rows; false when one of them was claimed before.
    pub(super) async fn claim_undated(
        &self,
        client: &Client,
        draft: &Draft<'_>,
        chosen: &[usize],
    ) -> Result<bool, Error> {
        let mut claims: Vec<_> =
            chosen.iter().map(|&at| &draft.items[at]).filter(|item| item.is_undated()).collect();
        if claims.is_empty() {
            return Ok(true);
        }
        claims.sort_unstable_by_key(|item| (item.key.project, item.key.event_id));
        let projects: Vec<_> = claims.iter().map(|item| item.key.project.0).collect();
        let ids: Vec<_> = claims.iter().map(|item| item.key.event_id).collect();
        let times: Vec<_> = claims.iter().map(|item| Instant(item.key.timestamp_us)).collect();
        let claimed = client.execute(&self.add_undated, &[&projects, &ids, &times]).await?;
        Ok(claimed == claims.len() as u64)
    }

    /// Entries taken for fresh whose batch the ledger knows from another entry.
    pub(super) async fn admitted_before(
        &self,
        client: &Client,
        draft: &Draft<'_>,
    ) -> Result<Vec<usize>, Error> {
        let is_first = |entry: &Entry| entry.state == State::Fresh;
        let keyed: Vec<_> = draft
            .live_entries()
            .filter(|(_, entry)| is_first(entry) && entry.is_keyed())
            .map(|(place, entry)| (place, entry.ledger))
            .collect();
        if keyed.is_empty() {
            return Ok(Vec::new());
        }
        let keys = LedgerKeys::new(&keyed);
        let rows = client
            .query(&self.admitted_before, &[&keys.places, &keys.ids, &keys.times, &keys.seqs, &keys.shards])
            .await?;
        Ok(rows.iter().map(|row| index(row.get(0))).collect())
    }

    /// See [`written_before`].
    pub(super) async fn written_before(
        &self,
        client: &Client,
        asked: &[(usize, LedgerKey)],
    ) -> Result<Vec<(usize, Outcome)>, Error> {
        let keys = LedgerKeys::new(asked);
        let Some((first, last)) = keys.span() else { return Ok(Vec::new()) };
        let rows = client.query(&self.written_before, &keys.with_span(&first, &last)).await?;
        Ok(rows.iter().map(|row| (index(row.get(0)), outcome(row))).collect())
    }

    /// Enters every live entry into the ledger; false when one of them is there already.
    pub(super) async fn add_ledger(
        &self,
        client: &Client,
        draft: &Draft<'_>,
        outcomes: &[WriteOutcome],
    ) -> Result<bool, Error> {
        let mut live: Vec<_> = draft.live_entries().collect();
        live.sort_unstable_by_key(|(_, entry)| entry.ledger);
        let keyed: Vec<_> = live.iter().map(|(place, entry)| (*place, entry.ledger)).collect();
        let keys = LedgerKeys::new(&keyed);
        let projects: Vec<_> = live.iter().map(|(_, entry)| entry.project.0).collect();
        let accepted: Vec<_> = live.iter().map(|(_, entry)| i64::from(entry.count)).collect();
        let each = |part: fn(&Outcome) -> u32| -> Vec<i64> {
            live.iter().map(|(place, _)| i64::from(part(&outcomes[*place].outcome))).collect()
        };
        let (stored, duplicate, dead) = (each(|o| o.stored), each(|o| o.duplicate), each(|o| o.dead));
        let parameters: [&(dyn ToSql + Sync); 9] = [
            &keys.ids,
            &keys.times,
            &keys.seqs,
            &keys.shards,
            &projects,
            &accepted,
            &stored,
            &duplicate,
            &dead,
        ];
        match client.execute(&self.add_ledger, &parameters).await {
            Ok(_) => Ok(true),
            Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes a letter for every dead row and every dead entry. Returns how many.
    pub(super) async fn add_dead_letters(&self, client: &Client, draft: &Draft<'_>) -> Result<u64, Error> {
        let letters = Letters::of(draft);
        if letters.projects.is_empty() {
            return Ok(0);
        }
        let parameters: [&(dyn ToSql + Sync); 9] = [
            &letters.projects,
            &letters.batches,
            &letters.times,
            &letters.indices,
            &letters.counts,
            &letters.sqlstates,
            &letters.reasons,
            &letters.payloads,
            &env!("CARGO_PKG_VERSION"),
        ];
        client.execute(&self.add_dead_letters, &parameters).await
    }

    /// Adds to the meters, in key order. The last statement of a transaction: every lane wants these rows.
    pub(super) async fn add_usage(
        &self,
        client: &Client,
        usage: &std::collections::BTreeMap<(i64, i64), Usage>,
    ) -> Result<(), Error> {
        let projects: Vec<_> = usage.keys().map(|(project, _)| *project).collect();
        let hours: Vec<_> = usage.keys().map(|(_, hour_us)| Instant(*hour_us)).collect();
        let each = |part: fn(&Usage) -> i64| -> Vec<i64> { usage.values().map(part).collect() };
        let (events, bytes) = (each(|u| u.events), each(|u| u.bytes));
        let (duplicates, dead) = (each(|u| u.duplicates), each(|u| u.dead));
        client.execute(&self.add_usage, &[&projects, &hours, &events, &bytes, &duplicates, &dead]).await?;
        Ok(())
    }
}

/// Ledger keys, column by column.
struct LedgerKeys {
    places: Vec<i32>,
    ids: Vec<Uuid>,
    times: Vec<Instant>,
    seqs: Vec<i64>,
    shards: Vec<i32>,
}

impl LedgerKeys {
    fn new(keys: &[(usize, LedgerKey)]) -> Self {
        Self {
            places: keys.iter().map(|(place, _)| place_of(*place)).collect(),
            ids: keys.iter().map(|(_, key)| key.batch_id).collect(),
            times: keys.iter().map(|(_, key)| Instant(key.received_us)).collect(),
            seqs: keys.iter().map(|(_, key)| key.seq).collect(),
            shards: keys.iter().map(|(_, key)| key.shard).collect(),
        }
    }

    /// The first and the last receive time, unless there are no keys.
    fn span(&self) -> Option<(Instant, Instant)> {
        Some((*self.times.iter().min()?, *self.times.iter().max()?))
    }

    /// The parameters of [`WRITTEN_BEFORE`].
    fn with_span<'a>(&'a self, first: &'a Instant, last: &'a Instant) -> [&'a (dyn ToSql + Sync); 7] {
        [&self.places, &self.ids, &self.times, &self.seqs, &self.shards, first, last]
    }
}

/// The outcomes of those ledger keys that are in the ledger, each with the number it was asked by.
pub(super) async fn written_before(
    transaction: &Transaction<'_>,
    asked: &[(usize, LedgerKey)],
) -> Result<Vec<(usize, Outcome)>, Error> {
    let keys = LedgerKeys::new(asked);
    let Some((first, last)) = keys.span() else { return Ok(Vec::new()) };
    let rows = transaction.query(WRITTEN_BEFORE, &keys.with_span(&first, &last)).await?;
    Ok(rows.iter().map(|row| (index(row.get(0)), outcome(row))).collect())
}

/// Dead letters, column by column.
#[derive(Default)]
struct Letters<'a> {
    projects: Vec<i64>,
    batches: Vec<Uuid>,
    times: Vec<Instant>,
    indices: Vec<Option<i32>>,
    counts: Vec<i64>,
    sqlstates: Vec<Option<&'a str>>,
    reasons: Vec<&'a str>,
    payloads: Vec<&'a [u8]>,
}

impl<'a> Letters<'a> {
    fn of(draft: &'a Draft<'_>) -> Self {
        let mut letters = Self::default();
        for (_, entry) in draft.live_entries() {
            // The letter of a batch admitted again was written with the first.
            if let (Some((reason, raw)), State::Fresh) = (&entry.dead, entry.state) {
                letters.add(entry, None, i64::from(entry.count), None, reason, raw);
            }
        }
        for (&at, death) in &draft.deaths {
            let item = &draft.items[at as usize];
            let entry = &draft.entries[item.entry as usize];
            if draft.is_judged_by_itself(item) {
                letters.add(entry, Some(item.index), 1, Some(&death.sqlstate), &death.reason, item.row);
            }
        }
        letters
    }

    fn add(
        &mut self,
        entry: &Entry,
        index: Option<u32>,
        count: i64,
        sqlstate: Option<&'a str>,
        reason: &'a str,
        payload: &'a [u8],
    ) {
        self.projects.push(entry.project.0);
        self.batches.push(entry.ledger.batch_id);
        self.times.push(Instant(entry.ledger.received_us));
        self.indices.push(index.map(u32::cast_signed));
        self.counts.push(count);
        self.sqlstates.push(sqlstate);
        self.reasons.push(reason);
        self.payloads.push(payload);
    }
}

/// Reads stored, duplicate and dead from the columns of those names.
pub(super) fn outcome(row: &tokio_postgres::Row) -> Outcome {
    let count = |column| u32::try_from(row.get::<_, i64>(column)).unwrap_or(u32::MAX);
    Outcome { stored: count("stored"), duplicate: count("duplicate"), dead: count("dead") }
}

fn places(places: &[usize]) -> Vec<i32> {
    places.iter().copied().map(place_of).collect()
}

fn place_of(place: usize) -> i32 {
    i32::try_from(place).expect("places in one transaction fit 31 bits")
}

fn index(place: i32) -> usize {
    usize::try_from(place).expect("the database returns the places it was given")
}
