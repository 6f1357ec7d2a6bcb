//! Compares the figures of every meter with the events that are kept.

use millrace_event::meter::{Aggregation, Meter};
use tokio_postgres::IsolationLevel;

use super::definitions::meters;
use super::measured::measured;
use crate::meters::is_unique;
use crate::{MeterCheck, MeterInfo, StoreError};

/// As the audit of totals, of which a partition cannot be dropped meanwhile.
const HOLD: &str = "SET LOCAL statement_timeout = '30min'; LOCK TABLE retiring IN SHARE MODE";

/// Checks every meter, in one snapshot.
pub(in super::super) async fn check(
    client: &mut deadpool_postgres::Client,
) -> Result<Vec<MeterCheck>, StoreError> {
    let builder = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
    let transaction = builder.start().await?;
    transaction.batch_execute(HOLD).await?;
    let infos = meters(transaction.client(), None).await?;
    let mut tables = vec!["events".to_owned()];
    for row in transaction.query("SELECT partition FROM retiring", &[]).await? {
        tables.push(row.get(0));
    }
    let mut checks = Vec::with_capacity(infos.len());
    for info in infos {
        checks.push(check_one(&transaction, info, &tables).await?);
    }
    transaction.commit().await?;
    Ok(checks)
}

async fn check_one(
    transaction: &deadpool_postgres::Transaction<'_>,
    info: MeterInfo,
    tables: &[String],
) -> Result<MeterCheck, StoreError> {
    let all: Vec<String> = tables.iter().map(|table| measured(&info.meter, table)).collect();
    let comparison = comparison(&info.meter, &all.join(" UNION ALL "), &figures(&info.meter));
    let row = transaction.query_one(&comparison, &[]).await?;
    let count = |column| row.get::<_, i64>(column).unsigned_abs();
    Ok(MeterCheck {
        info,
        counted: count(0),
        faults: count(1),
        counted_by_events: count(2),
        faults_by_events: count(3),
        wrong_figures: count(4),
    })
}

/// The number of wrong figures in a period.
pub(in super::super) async fn wrong_figures(
    client: &deadpool_postgres::Client,
    meter: &Meter,
    (from_us, to_us): (i64, i64),
) -> Result<u64, StoreError> {
    // A plan for any period would look for the events in every partition.
    let bound = |us: i64| format!("to_timestamp(0) + {us} * interval '1 microsecond'");
    let within = |column: &str| format!("{column} >= {} AND {column} < {}", bound(from_us), bound(to_us));
    let events = format!("(SELECT * FROM events WHERE {})", within("timestamp"));
    let figures = format!("SELECT * FROM ({}) f WHERE {}", figures(meter), within("bucket"));
    let comparison = comparison(meter, &measured(meter, &events), &figures);
    Ok(client.query_one(&comparison, &[]).await?.get::<_, i64>(4).unsigned_abs())
}

/// The figures of a meter, moved and waiting: `subject`, `bucket`, `groups`, `events`, `value`, `text`.
pub(in super::super) fn figures(meter: &Meter) -> String {
    let (id, aggregation) = (meter.id.0, meter.definition.aggregation);
    if is_unique(aggregation) {
        return format!(
            "SELECT subject, bucket, groups, value AS text, sum(events) AS events, 0::numeric AS value
               FROM (SELECT subject, bucket, groups, value, events FROM meter_uniques WHERE meter_id = {id}
                     UNION ALL
                     SELECT a.* FROM meter_additions w, unnest(w.subjects, w.buckets, w.groups, w.texts, w.events) a
                      WHERE w.meter_id = {id}) f
              GROUP BY subject, bucket, groups, value"
        );
    }
    let value = match aggregation {
        Aggregation::Min => "min(value)",
        Aggregation::Max => "max(value)",
        Aggregation::Latest => "(array_agg(value ORDER BY at DESC, id DESC))[1]",
        Aggregation::Count | Aggregation::Sum | Aggregation::Avg | Aggregation::UniqueCount => {
            "coalesce(sum(value), 0)"
        }
    };
    format!(
        "SELECT subject, bucket, groups, '' AS text, sum(events) AS events, {value} AS value
           FROM (SELECT subject, bucket, groups, events, value, latest_at AS at, latest_id AS id
                   FROM meter_usage WHERE meter_id = {id}
                 UNION ALL
                 SELECT a.* FROM meter_additions w,
                        unnest(w.subjects, w.buckets, w.groups, w.events, w.\"values\", w.latest_at, w.latest_ids) a
                  WHERE w.meter_id = {id}) f
          GROUP BY subject, bucket, groups"
    )
}

/// A query that compares figures with what events add, as [`measured`] returns it. Figures of erased subjects
/// have no events any more.
fn comparison(meter: &Meter, measured: &str, figures: &str) -> String {
    let id = meter.id.0;
    let value = match meter.definition.aggregation {
        Aggregation::Min => "min(value)",
        Aggregation::Max => "max(value)",
        Aggregation::Latest => "(array_agg(value ORDER BY timestamp DESC, event_id DESC))[1]",
        Aggregation::Sum | Aggregation::Avg | Aggregation::Count | Aggregation::UniqueCount => "sum(value)",
    };
    format!(
        "WITH measured AS MATERIALIZED ({measured}),
              figures AS MATERIALIZED ({figures}),
              expected AS (SELECT subject, bucket, groups, text, count(*) AS events, {value} AS value
                             FROM measured WHERE fault IS NULL GROUP BY subject, bucket, groups, text),
              gone AS (SELECT day, events, faults FROM meter_retired WHERE meter_id = {id}),
              pseudonyms AS (SELECT pseudonym FROM erasures WHERE project_id = {project})
         SELECT (SELECT coalesce(sum(events), 0) FROM figures)::bigint,
                (SELECT coalesce(sum(events), 0) FROM meter_faults WHERE meter_id = {id})::bigint,
                (SELECT count(*) FROM measured WHERE fault IS NULL)
                    + (SELECT coalesce(sum(events), 0) FROM gone)::bigint
                    + coalesce((SELECT events FROM meter_erased WHERE meter_id = {id}), 0),
                (SELECT count(*) FROM measured WHERE fault IS NOT NULL)
                    + (SELECT coalesce(sum(faults), 0) FROM gone)::bigint
                    + coalesce((SELECT faults FROM meter_erased WHERE meter_id = {id}), 0),
                (SELECT count(*)
                   FROM (SELECT subject, bucket, groups::jsonb AS groups, text, events, value FROM figures) f
                   FULL JOIN expected e USING (subject, bucket, groups, text)
                  WHERE (f.events, f.value) IS DISTINCT FROM (e.events, e.value)
                    AND (bucket AT TIME ZONE 'UTC')::date NOT IN (SELECT day FROM gone)
                    AND subject NOT IN (SELECT pseudonym FROM pseudonyms))",
        project = meter.project.0,
    )
}
