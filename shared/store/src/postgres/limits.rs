//! Limits of customers: setting and reading them, and what writers record of their use.

use std::collections::{HashMap, HashSet};

use millrace_event::PendingBatch;
use millrace_event::limit::{
    Amount, Charge, Counter, CounterState, CustomerLimit, LimitSet, Period, Refund, check_limited,
    decode_refunds, encode_refunds,
};
use millrace_event::meter::{Decimal, MeterId};
use millrace_event::plan::ProjectId;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::attempt::Attempt;
use super::copy::Instant;
use super::{meters, usage};
use crate::limit_tally::{LimitRebuild, LimitTally, RefundKey};
use crate::limits::{no_meter, period_of, subject_column, subject_of};
use crate::meters::no_project;
use crate::{LimitFilter, LimitInfo, MeterInfo, RequestRefunds, StoreError};

const SET: &str = "
    INSERT INTO customer_limits AS l (project_id, meter_id, period, subject, amount)
    SELECT project_id, meter_id, $2, $3, $4::text::numeric FROM meters
     WHERE meter_id = $1 AND deleted_at IS NULL FOR SHARE
    ON CONFLICT (meter_id, period, subject) DO UPDATE SET amount = excluded.amount, changed_at = now()
    RETURNING changed_at";
const DELETE: &str = "DELETE FROM customer_limits WHERE meter_id = $1 AND period = $2 AND subject = $3";
const LIST: &str = "
    SELECT p.name, m.meter_id, m.slug, l.period, l.subject, l.amount::text, l.changed_at
      FROM customer_limits l JOIN meters m USING (meter_id) JOIN projects p ON p.project_id = l.project_id
     WHERE p.name = $1 AND ($2::text IS NULL OR m.slug = $2) AND ($3::text IS NULL OR l.subject = $3)
       AND ($4::text IS NULL OR (m.slug, l.subject, l.period) > ($4, $5::text, $6::text))
     ORDER BY m.slug, l.subject, l.period LIMIT $7";
const OF_PROJECT: &str =
    "SELECT meter_id, period, subject, amount::text FROM customer_limits WHERE project_id = $1";
/// In the order of the key, so that two transactions with the same counters do not deadlock.
const ADD_USED: &str = "
    INSERT INTO limit_usage AS u (project_id, meter_id, period, subject, window_number, ends_at, used)
    SELECT project_id, meter_id, period, subject, window_number, ends_at, used::numeric
      FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[], $7::text[])
           k (project_id, meter_id, period, subject, window_number, ends_at, used)
    ON CONFLICT (meter_id, period, subject, window_number) DO UPDATE SET used = u.used + excluded.used";
const ADD_REFUNDS: &str = "
    INSERT INTO limit_refunds (batch_id, received_at, entry_seq, shard, refunds)
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::int[], $5::bytea[]) ON CONFLICT DO NOTHING";
const REFUNDS: &str = "
    SELECT k.at, r.refunds
      FROM unnest($1::bigint[], $2::uuid[], $3::timestamptz[], $4::bigint[], $5::int[])
           k (at, batch_id, received_at, entry_seq, shard)
      JOIN limit_refunds r USING (batch_id, received_at, entry_seq, shard)";
/// A window that ended a day ago is that of no clock.
const USED: &str = "
    SELECT project_id, meter_id, period, subject, window_number, used::text FROM limit_usage
     WHERE ends_at > now() - interval '1 day'";

/// The meter of a project with this name.
async fn find_meter(client: &Client, project: &str, slug: &str) -> Result<MeterInfo, StoreError> {
    let found = client.query_opt("SELECT project_id FROM projects WHERE name = $1", &[&project]).await?;
    let found = found.ok_or_else(|| no_project(project))?;
    let meters = meters::meters(client, Some(ProjectId(found.get(0)))).await?;
    let of_slug = |info: &MeterInfo| info.meter.definition.slug == slug;
    meters.into_iter().find(of_slug).ok_or_else(|| no_meter(project, slug))
}

pub(super) async fn set(
    client: &Client,
    (project, slug): (&str, &str),
    period: Period,
    subject: Option<&str>,
    amount: Amount,
) -> Result<LimitInfo, StoreError> {
    let column = subject_column(subject)?;
    let meter = find_meter(client, project, slug).await?.meter;
    check_limited(meter.definition.aggregation)
        .map_err(|refused| StoreError::Invalid(refused.to_string()))?;
    let set = client.query_opt(SET, &[&meter.id.0, &period.as_ref(), &column, &amount.to_string()]).await?;
    // Deleted since it was found.
    let set = set.ok_or_else(|| no_meter(project, slug))?;
    Ok(LimitInfo {
        project_name: project.to_owned(),
        meter: meter.id,
        slug: slug.to_owned(),
        period,
        subject: subject.map(str::to_owned),
        amount,
        changed_at: set.get::<_, Instant>(0).into(),
    })
}

pub(super) async fn delete(
    client: &Client,
    (project, slug): (&str, &str),
    period: Period,
    subject: Option<&str>,
) -> Result<bool, StoreError> {
    let column = subject_column(subject)?;
    let meter = find_meter(client, project, slug).await?.meter.id;
    Ok(client.execute(DELETE, &[&meter.0, &period.as_ref(), &column]).await? == 1)
}

pub(super) async fn list(client: &Client, filter: &LimitFilter) -> Result<Vec<LimitInfo>, StoreError> {
    let LimitFilter { project, slug, subject, after, at_most } = filter;
    let after = after.as_ref();
    let [after_slug, after_subject] = [after.map(|place| &place.slug), after.map(|place| &place.subject)];
    let after_period = after.map(|place| place.period.as_ref());
    let values: [&(dyn ToSql + Sync); 7] =
        [project, slug, subject, &after_slug, &after_subject, &after_period, &i64::from(*at_most)];
    let rows = client.query(LIST, &values).await?;
    let limit = |row: &tokio_postgres::Row| {
        Ok(LimitInfo {
            project_name: row.get(0),
            meter: MeterId(row.get(1)),
            slug: row.get(2),
            period: period_of(row.get(3))?,
            subject: subject_of(row.get(4)),
            amount: amount(row.get(5)),
            changed_at: row.get::<_, Instant>(6).into(),
        })
    };
    rows.iter().map(limit).collect()
}

pub(super) async fn versions(client: &Client) -> Result<HashMap<ProjectId, i64>, StoreError> {
    let rows = client.query("SELECT project_id, version FROM customer_limit_versions", &[]).await?;
    Ok(rows.iter().map(|row| (ProjectId(row.get(0)), row.get(1))).collect())
}

pub(super) async fn set_of(client: &Client, project: ProjectId) -> Result<LimitSet, StoreError> {
    let rows = client.query(OF_PROJECT, &[&project.0]).await?;
    let limit = |row: &tokio_postgres::Row| {
        Ok(CustomerLimit {
            meter: MeterId(row.get(0)),
            period: period_of(row.get(1))?,
            subject: subject_of(row.get(2)),
            amount: amount(row.get(3)),
        })
    };
    let limits: Vec<_> = rows.iter().map(limit).collect::<Result<_, StoreError>>()?;
    let meters = meters::meters(client, Some(project)).await?.into_iter().map(|info| info.meter);
    Ok(LimitSet::new(meters.map(|meter| (meter.id, meter.definition)), limits))
}

/// A number that this module has written, or a sum of such numbers.
fn amount(text: &str) -> Amount {
    Decimal::of_number(text.as_bytes()).map_or(Amount::of_parts(u64::MAX, 0), Amount::of_value)
}

/// What the entries of an attempt use of limits and give back.
pub(super) fn tally(attempt: &Attempt<'_>) -> LimitTally {
    let mut tally = LimitTally::default();
    let draft = attempt.draft;
    let Some(charges) = draft.charges.filter(|charges| !charges.is_empty()) else { return tally };
    let rows = attempt.rows().iter().map(|&row| &draft.rows[row]);
    let stored: HashSet<_> = rows.map(|row| (row.entry as usize, row.index)).collect();
    for (index, _) in draft.live_entries() {
        if let Some(charges) = charges.get(&index) {
            tally.add(&draft.requests[index], charges, |event| stored.contains(&(index, event)));
        }
    }
    tally
}

/// Records what a transaction has used and gives back, in that transaction.
pub(super) async fn add(client: &Client, tally: &LimitTally) -> Result<(), tokio_postgres::Error> {
    if tally.is_empty() {
        return Ok(());
    }
    let counters = || tally.used.keys().map(|(counter, _)| counter);
    let uses = || tally.used.values();
    let projects: Vec<_> = uses().map(|used| used.project.0).collect();
    let meters: Vec<_> = counters().map(|counter| counter.meter.0).collect();
    let periods: Vec<&str> = counters().map(|counter| counter.period.into()).collect();
    let subjects: Vec<_> = counters().map(|counter| counter.subject.as_str()).collect();
    let windows: Vec<_> = tally.used.keys().map(|(_, window)| window.cast_signed()).collect();
    let ends: Vec<_> = uses().map(|used| Instant(used.ends_us)).collect();
    let amounts: Vec<_> = uses().map(|used| used.amount.to_string()).collect();
    if !projects.is_empty() {
        client
            .execute(ADD_USED, &[&projects, &meters, &periods, &subjects, &windows, &ends, &amounts])
            .await?;
    }
    if !tally.refunds.is_empty() {
        let keys = RefundKeys::new(tally.refunds.iter().map(|(key, _)| *key));
        let refunds: Vec<_> = tally.refunds.iter().map(|(_, refunds)| encode_refunds(refunds)).collect();
        let RefundKeys { batches, received, seqs, shards } = &keys;
        client.execute(ADD_REFUNDS, &[batches, received, seqs, shards, &refunds]).await?;
    }
    Ok(())
}

/// The columns of keys.
struct RefundKeys {
    batches: Vec<uuid::Uuid>,
    received: Vec<Instant>,
    seqs: Vec<i64>,
    shards: Vec<i32>,
}

impl RefundKeys {
    fn new(keys: impl Iterator<Item = RefundKey> + Clone) -> Self {
        Self {
            batches: keys.clone().map(|key| key.batch_id).collect(),
            received: keys.clone().map(|key| Instant(key.received_us)).collect(),
            seqs: keys.clone().map(|key| key.seq).collect(),
            shards: keys.map(|key| key.shard).collect(),
        }
    }
}

/// What these batches give back, by their index.
pub(super) async fn refunds(
    client: &Client,
    batches: &[(usize, RefundKey)],
) -> Result<RequestRefunds, StoreError> {
    if batches.is_empty() {
        return Ok(RequestRefunds::new());
    }
    let indices: Vec<_> = batches.iter().map(|(index, _)| *index as i64).collect();
    let RefundKeys { batches, received, seqs, shards } = RefundKeys::new(batches.iter().map(|(_, key)| *key));
    let rows = client.query(REFUNDS, &[&indices, &batches, &received, &seqs, &shards]).await?;
    let refunds = |row: &tokio_postgres::Row| {
        let index = usize::try_from(row.get::<_, i64>(0)).unwrap_or(usize::MAX);
        Ok((index, decode_refunds(row.get(1)).map_err(StoreError::Invalid)?))
    };
    rows.iter().map(refunds).collect()
}

pub(super) async fn for_rebuild(
    client: &mut deadpool_postgres::Client,
    shard: u16,
    shards: u16,
    pending: &[(PendingBatch, Vec<Charge>)],
) -> Result<Vec<(ProjectId, CounterState)>, StoreError> {
    let transaction = usage::snapshot(client).await?;
    transaction.batch_execute("SET LOCAL statement_timeout = '5min'; SET LOCAL enable_seqscan = off").await?;
    let mut rebuild = LimitRebuild::default();
    for row in transaction.query(USED, &[]).await? {
        let period = period_of(row.get(2))?;
        let counter = Counter { meter: MeterId(row.get(1)), period, subject: row.get(3) };
        let window = row.get::<_, i64>(4).unsigned_abs();
        rebuild.add(ProjectId(row.get(0)), counter, window, amount(row.get(5)));
    }
    for chunk in pending.chunks(usage::PENDING_CHUNK) {
        let batches: Vec<_> = chunk.iter().map(|(batch, _)| *batch).collect();
        let written = usage::written(&transaction, shard, &batches).await?;
        let key = |at: usize| (at, RefundKey::new(batches[at].batch_id, batches[at].id, shard));
        let keys: Vec<_> = written.keys().map(|at| key(*at)).collect();
        let mut refunds = refunds(transaction.client(), &keys).await?;
        for (at, (batch, charges)) in chunk.iter().enumerate() {
            let given_back: Option<Vec<Refund>> =
                written.get(&at).map(|_| refunds.remove(&at).unwrap_or_default());
            rebuild.add_pending(batch, charges, given_back);
        }
    }
    transaction.commit().await?;
    Ok(rebuild.of_shard(shard, shards))
}
