//! What a transaction that stores events adds to meters.
//!
//! The definitions cannot change while such a transaction commits: it takes a shared lock when it asks for
//! their version, and every change takes that lock alone. A writer keeps the definitions until the version
//! changes.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use millrace_event::meter::{MeterSet, MeterTally};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Statement};

use super::super::thresholds::{self, QuotaStatements};
use super::addition_rows::{AdditionRows, FaultRows};
use super::definitions::meter_set;
use crate::StoreError;
use crate::limit_tally::LimitTally;
use crate::redrive::Corrections;

const VERSION: &str = "SELECT millrace_meters_version()";
/// Only the columns that the aggregation has.
const ADD: &str = r#"
    INSERT INTO meter_additions (meter_id, subjects, buckets, groups, events, "values", latest_at, latest_ids, texts)
    SELECT k.meter_id, ($4::text[])[k.first:k.last], ($5::timestamptz[])[k.first:k.last],
           ($6::text[])[k.first:k.last], ($7::bigint[])[k.first:k.last],
           CASE WHEN m.aggregation NOT IN ('count', 'unique_count')
                THEN ($8::text[])[k.first:k.last]::numeric[] END,
           CASE WHEN m.aggregation = 'latest' THEN ($9::timestamptz[])[k.first:k.last] END,
           CASE WHEN m.aggregation = 'latest' THEN ($10::uuid[])[k.first:k.last] END,
           CASE WHEN m.aggregation = 'unique_count' THEN ($11::text[])[k.first:k.last] END
      FROM unnest($1::bigint[], $2::int[], $3::int[]) k (meter_id, first, last) JOIN meters m USING (meter_id)"#;
const ADD_FAULTS: &str = "
    INSERT INTO meter_faults AS f (meter_id, fault, events, sample)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bytea[])
    ON CONFLICT (meter_id, fault) DO UPDATE
       SET events = f.events + excluded.events, sample = excluded.sample, last_at = now()";

/// The statements that add to meters, prepared for one connection.
pub(in super::super) struct MeterStatements {
    version: Statement,
    add: Statement,
    add_faults: Statement,
    known: Mutex<Arc<KnownMeters>>,
}

/// The definitions of one version.
#[derive(Default)]
struct KnownMeters {
    /// 0 before the first was read.
    version: i64,
    set: MeterSet,
    /// Projects with thresholds of their quota.
    watched: BTreeSet<i64>,
    /// Meters whose limits have thresholds.
    watched_limits: BTreeSet<i64>,
}

impl MeterStatements {
    pub(in super::super) async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            version: client.prepare(VERSION).await?,
            add: client.prepare(ADD).await?,
            add_faults: client.prepare(ADD_FAULTS).await?,
            known: Mutex::default(),
        })
    }

    /// Asks for the version of the definitions. From then on they cannot change until the transaction ends.
    pub(in super::super) async fn version(&self, client: &Client) -> Result<i64, Error> {
        Ok(client.query_one(&self.version, &[]).await?.get(0))
    }

    /// The definitions of this version, which the transaction has asked for.
    async fn meters(&self, client: &Client, version: i64) -> Result<Arc<KnownMeters>, StoreError> {
        let known = Arc::clone(&self.known.lock().unwrap_or_else(PoisonError::into_inner));
        if known.version == version {
            return Ok(known);
        }
        let read = Arc::new(KnownMeters {
            version,
            set: meter_set(client).await?,
            watched: QuotaStatements::watched(client).await?,
            watched_limits: thresholds::watched_limits(client).await?,
        });
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&read);
        Ok(read)
    }

    /// What the events add to the meters of this version. `add_events` adds them to a tally, and is called
    /// only if there are meters.
    pub(in super::super) async fn tally(
        &self,
        client: &Client,
        version: i64,
        add_events: impl FnOnce(&MeterSet, &mut MeterTally),
    ) -> Result<MeterTally, StoreError> {
        let known = self.meters(client, version).await?;
        let mut tally = MeterTally::default();
        if !known.set.is_empty() {
            add_events(&known.set, &mut tally);
        }
        Ok(tally)
    }

    /// Whether one of these projects has thresholds of its quota, by the version that was read last.
    pub(in super::super) fn has_watched(&self, projects: &[i64]) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        !known.watched.is_empty() && projects.iter().any(|project| known.watched.contains(project))
    }

    /// The same for thresholds of limits that these batches have used.
    pub(in super::super) fn has_watched_limits(&self, tally: &LimitTally) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let is_watched = |meter: i64| known.watched_limits.contains(&meter);
        !known.watched_limits.is_empty() && tally.used.keys().any(|(counter, _)| is_watched(counter.meter.0))
    }

    /// Adds these events, in their transaction.
    pub(in super::super) async fn add(&self, client: &Client, tally: &MeterTally) -> Result<(), Error> {
        if !tally.additions.is_empty() {
            let rows = AdditionRows::new(tally);
            let parameters: [&(dyn ToSql + Sync); 11] = [
                &rows.meters,
                &rows.firsts,
                &rows.lasts,
                &rows.subjects,
                &rows.buckets,
                &rows.groups,
                &rows.events,
                &rows.values,
                &rows.latest_at,
                &rows.latest_ids,
                &rows.texts,
            ];
            client.execute(&self.add, &parameters).await?;
        }
        if !tally.faults.is_empty() {
            let FaultRows { meters, faults, events, samples } = &FaultRows::new(tally);
            client.execute(&self.add_faults, &[meters, faults, events, samples]).await?;
        }
        Ok(())
    }
}

/// Adds the events that a redrive stores, in its transaction.
pub(in super::super) async fn add_redriven(client: &Client, stored: &Corrections) -> Result<(), StoreError> {
    let statements = MeterStatements::prepare(client).await?;
    let version = statements.version(client).await?;
    let added = statements.tally(client, version, |set, tally| stored.add_to_meters(set, tally)).await?;
    Ok(statements.add(client, &added).await?)
}
