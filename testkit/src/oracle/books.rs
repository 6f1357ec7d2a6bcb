//! The sums: ledger, usage, rows and the stream's own counters must tell the same story. I5, I6, I8.

use std::collections::BTreeMap;

use redis::aio::MultiplexedConnection;
use tokio_postgres::{Client, Error};
use uuid::Uuid;

use super::client::Project;
use super::judge::{Findings, Invariant};
use super::rates;

/// What a project's plan promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Requests a minute.
    pub requests_per_minute: u64,
    /// Requests at once.
    pub burst: u64,
    /// Events a month; `None` is unlimited.
    pub events_per_month: Option<u64>,
}

const SUMS: &str = "
    SELECT l.accepted, l.stored, l.duplicate, l.dead, u.events, u.duplicates, u.dead, d.dead
      FROM (SELECT coalesce(sum(accepted), 0)::bigint AS accepted, coalesce(sum(stored), 0)::bigint AS stored,
                   coalesce(sum(duplicate), 0)::bigint AS duplicate, coalesce(sum(dead), 0)::bigint AS dead
              FROM batches WHERE project_id = $1) l,
           (SELECT coalesce(sum(events), 0)::bigint AS events, coalesce(sum(duplicates), 0)::bigint AS duplicates,
                   coalesce(sum(dead), 0)::bigint AS dead FROM usage_hourly WHERE project_id = $1) u,
           (SELECT coalesce(sum(event_count), 0)::bigint AS dead FROM dead_letters
             WHERE project_id = $1 AND redriven_at IS NULL) d";
const LEDGER: &str = "
    SELECT batch_id, (extract(epoch FROM received_at) * 1000)::bigint, accepted
      FROM batches WHERE project_id = $1 ORDER BY received_at, entry_seq";

/// Events stored of those received in a month, without those that a redrive has stored, given as year * 100 + month.
const STORED_IN_MONTH: &str = "
    SELECT coalesce(sum(stored - redriven), 0)::bigint FROM batches
     WHERE project_id = $1 AND to_char(received_at AT TIME ZONE 'UTC', 'YYYYMM')::bigint = $2";

/// Compares the sums of one project, which has `rows` rows in `events`.
pub(super) async fn compare(
    database: &Client,
    project: &Project,
    rows: u64,
    findings: &mut Findings,
) -> Result<Ledger, Error> {
    let sums = database.query_one(SUMS, &[&project.id]).await?;
    let sum = |at: usize| u64::try_from(sums.get::<_, i64>(at)).unwrap_or_default();
    let (accepted, stored, duplicate, dead) = (sum(0), sum(1), sum(2), sum(3));
    let claims = [
        ("ledger: accepted = stored + duplicate + dead", accepted, stored + duplicate + dead),
        ("ledger stored = rows", stored, rows),
        ("ledger stored = usage", stored, sum(4)),
        ("ledger duplicate = usage", duplicate, sum(5)),
        ("ledger dead = usage", dead, sum(6)),
        ("ledger dead = dead letters", dead, sum(7)),
    ];
    for (claim, left, right) in claims {
        if left != right {
            findings.add(Invariant::BooksAgree, format!("{}: {claim}: {left} and {right}", project.name));
        }
    }
    let mut ledger = Ledger { accepted, stored, received_ms: Vec::new() };
    let mut entries: BTreeMap<Uuid, Vec<u64>> = BTreeMap::new();
    for row in database.query(LEDGER, &[&project.id]).await? {
        entries.entry(row.get(0)).or_default().push(u64::try_from(row.get::<_, i64>(2)).unwrap_or_default());
        ledger.received_ms.push(u64::try_from(row.get::<_, i64>(1)).unwrap_or_default());
    }
    compare_batches(project, &entries, findings);
    Ok(ledger)
}

/// What the ledger says of one project.
pub(super) struct Ledger {
    accepted: u64,
    stored: u64,
    /// Of every entry, in order.
    received_ms: Vec<u64>,
}

/// Every batch that was acknowledged is in the ledger once, with the count that was answered.
fn compare_batches(project: &Project, entries: &BTreeMap<Uuid, Vec<u64>>, findings: &mut Findings) {
    for (batch, accepted) in project.history.batches() {
        let written = entries.get(&batch).map_or(&[][..], Vec::as_slice);
        if written != [accepted] {
            let said = format!(
                "{}: batch {batch} of {accepted} events is in the ledger as {written:?}",
                project.name
            );
            findings.add(Invariant::BooksAgree, said);
        }
    }
}

/// What the stream knows of a project, when nothing is pending.
pub(super) async fn compare_stream(
    (database, redis): (&Client, &mut MultiplexedConnection),
    project: &Project,
    limits: Limits,
    (shard, rebuilt): (u16, bool),
    ledger: &Ledger,
    findings: &mut Findings,
) {
    let key = format!("{{s{shard}}}:project:{}", project.id);
    let fields = ["accepted", "pending", "used", "tat", "month"];
    let row: Result<Vec<Option<u64>>, _> = redis::cmd("HMGET").arg(key).arg(&fields).query_async(redis).await;
    let row = row.expect("Redis answers the oracle");
    let [accepted, pending, used, tat, month] =
        [0, 1, 2, 3, 4].map(|at| row.get(at).copied().flatten().unwrap_or(0));
    let month = i64::try_from(month).expect("months are small");
    let in_month = database.query_one(STORED_IN_MONTH, &[&project.id, &month]).await;
    let in_month: i64 = in_month.expect("PostgreSQL answers the oracle").get(0);
    let claims = [
        (Invariant::BooksAgree, "the stream's accepted = the ledger's", accepted, ledger.accepted),
        (Invariant::Quiet, "pending = 0", pending, 0),
        (
            Invariant::PlansExact,
            "events charged = events stored",
            used,
            u64::try_from(in_month).unwrap_or_default(),
        ),
    ];
    for (invariant, claim, left, right) in claims {
        if left != right {
            findings.add(invariant, format!("{}: {claim}: {left} and {right}", project.name));
        }
    }
    if let Some(quota) = limits.events_per_month.filter(|quota| ledger.stored > *quota) {
        let said = format!("{}: {} events stored, {quota} allowed", project.name, ledger.stored);
        findings.add(Invariant::PlansExact, said);
    }
    let (excess, tat_max) = rates::replay(&ledger.received_ms, limits.requests_per_minute, limits.burst);
    if excess > 0 && !rebuilt {
        let said = format!("{}: {excess} requests over the rate were admitted", project.name);
        findings.add(Invariant::PlansExact, said);
    }
    // A rebuild of the counters sets the time to now, the first one, of an empty stream, too.
    if tat > tat_max && !rebuilt && !ledger.received_ms.is_empty() {
        let said = format!("{}: the rate was charged for requests that were not admitted", project.name);
        findings.add(Invariant::PlansExact, said);
    }
}
