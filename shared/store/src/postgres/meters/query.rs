//! Reads figures of a meter by window, subject and group.

use millrace_event::meter::{Aggregation, Meter};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::super::copy::Instant;
use super::super::parameters::number;
use crate::meters::is_unique;
use crate::{MeterQuery, MeterRow, MeterWindow, StoreError};

/// The rows that answer a query, ordered by window, subject and groups.
pub(in super::super) async fn usage(
    client: &deadpool_postgres::Client,
    meter: &Meter,
    query: &MeterQuery,
) -> Result<Vec<MeterRow>, StoreError> {
    let subjects = Some(&query.subjects).filter(|subjects| !subjects.is_empty());
    let filters: Vec<Vec<&str>> = query
        .filters
        .iter()
        .map(|filter| filter.values.iter().flatten().map(String::as_str).collect())
        .collect();
    let (from, to) = (Instant(query.from_us), Instant(query.to_us));
    let (limit, offset) = (i64::from(query.limit), i64::from(query.offset));
    let mut parameters: Vec<&(dyn ToSql + Sync)> =
        vec![&meter.id.0, &from, &to, &subjects, &query.time_zone, &limit, &offset];
    parameters.extend(filters.iter().map(|values| values as &(dyn ToSql + Sync)));
    let rows =
        client.query(&statement(meter, query), &parameters).await.map_err(|error| match error.code() {
            Some(&SqlState::INVALID_PARAMETER_VALUE) => {
                StoreError::Invalid(format!("the time zone {:?} is not known", query.time_zone))
            }
            _ => error.into(),
        })?;
    let row = |row: &tokio_postgres::Row| MeterRow {
        start_us: row.get::<_, Instant>(0).0,
        end_us: row.get::<_, Instant>(1).0,
        events: row.get::<_, i64>(2).unsigned_abs(),
        value: row.get(3),
        subject: query.by_subject.then(|| row.get(4)),
        groups: (0..query.by_groups.len())
            .map(|index| row.get(4 + usize::from(query.by_subject) + index))
            .collect(),
    };
    Ok(rows.iter().map(row).collect())
}

fn statement(meter: &Meter, query: &MeterQuery) -> String {
    let window: Option<&'static str> = query.window.map(Into::into);
    let (start, end) = match window {
        None => ("$2".to_owned(), "$3".to_owned()),
        Some(unit) => {
            let start = format!("date_trunc('{unit}', f.bucket, $5)");
            let end = match query.window {
                // One of two hours with the same local time, when clocks are set back.
                Some(MeterWindow::Hour) => format!("{start} + interval '1 hour'"),
                // Through local time: a day can have 23 or 25 hours.
                _ => format!("({start} AT TIME ZONE $5 + interval '1 {unit}') AT TIME ZONE $5"),
            };
            (format!("greatest({start}, $2)"), format!("least({end}, $3)"))
        }
    };
    let mut keys = format!("{start} AS starts, {end} AS ends");
    let mut key_numbers = "1, 2".to_owned();
    let mut add_key = |key: &str, place: usize| {
        keys.push_str(&format!(", {key}"));
        key_numbers.push_str(&format!(", {}", place + 3));
    };
    if query.by_subject {
        add_key("f.subject", 0);
    }
    for (place, group) in query.by_groups.iter().enumerate() {
        add_key(&format!("f.groups::jsonb ->> {group} AS g{place}"), place + usize::from(query.by_subject));
    }
    let mut where_groups = String::new();
    for (index, filter) in query.filters.iter().enumerate() {
        let group = format!("(f.groups::jsonb ->> {})", filter.group);
        let or_null =
            if filter.values.contains(&None) { format!(" OR {group} IS NULL") } else { String::new() };
        where_groups.push_str(&format!(" AND ({group} = ANY (${}){or_null})", number(index + 8)));
    }
    let value = match meter.definition.aggregation {
        Aggregation::Count => "sum(f.events)",
        Aggregation::Sum => "trim_scale(sum(f.value))",
        Aggregation::Min => "trim_scale(min(f.value))",
        Aggregation::Max => "trim_scale(max(f.value))",
        Aggregation::Avg => "trim_scale(round(sum(f.value)::numeric(100, 30) / sum(f.events), 18))",
        Aggregation::Latest => "trim_scale((array_agg(f.value ORDER BY f.at DESC, f.id DESC))[1])",
        Aggregation::UniqueCount => "count(DISTINCT f.text)",
    };
    let columns = columns_of_keys(query);
    format!(
        "SELECT starts, ends, events, value {columns}
           FROM (SELECT {keys}, sum(f.events)::bigint AS events, ({value})::text AS value
                   FROM ({figures}) f
                  WHERE ($5::text IS NOT NULL) {where_groups}
                  GROUP BY {key_numbers}) answer
          ORDER BY starts {columns} LIMIT $6 OFFSET $7",
        figures = figures(meter.definition.aggregation),
    )
}

fn columns_of_keys(query: &MeterQuery) -> String {
    let mut columns = String::new();
    if query.by_subject {
        columns.push_str(", subject");
    }
    for place in 0..query.by_groups.len() {
        columns.push_str(&format!(", g{place}"));
    }
    columns
}

/// The figures of the meter $1 in the period and of the subjects, those that still wait included.
pub(super) fn figures(aggregation: Aggregation) -> &'static str {
    if is_unique(aggregation) {
        return "
            SELECT subject, bucket, groups, value AS text, events FROM meter_uniques
             WHERE meter_id = $1 AND bucket >= $2 AND bucket < $3 AND ($4::text[] IS NULL OR subject = ANY ($4))
            UNION ALL
            SELECT a.subject, a.bucket, a.groups, a.text, a.events
              FROM meter_additions w, unnest(w.subjects, w.buckets, w.groups, w.texts, w.events)
                                      a (subject, bucket, groups, text, events)
             WHERE w.meter_id = $1 AND a.bucket >= $2 AND a.bucket < $3
               AND ($4::text[] IS NULL OR a.subject = ANY ($4))";
    }
    "
        SELECT subject, bucket, groups, events, value, latest_at AS at, latest_id AS id FROM meter_usage
         WHERE meter_id = $1 AND bucket >= $2 AND bucket < $3 AND ($4::text[] IS NULL OR subject = ANY ($4))
        UNION ALL
        SELECT a.subject, a.bucket, a.groups, a.events, a.value, a.at, a.id
          FROM meter_additions w,
               unnest(w.subjects, w.buckets, w.groups, w.events, w.\"values\", w.latest_at, w.latest_ids)
               a (subject, bucket, groups, events, value, at, id)
         WHERE w.meter_id = $1 AND a.bucket >= $2 AND a.bucket < $3
           AND ($4::text[] IS NULL OR a.subject = ANY ($4))"
}
