//! What a meter must count, by SQL over events: a second reading of its definition, independent of the one that
//! writers use, for checks.

use std::fmt::Write;

use millrace_event::meter::{Aggregation, GROUPS_BYTES_MAX, Meter, MeterFault, Path, Source, TEXT_BYTES_MAX};

/// A text in single quotes.
fn quoted(text: &str) -> String {
    // With E'' the reading does not depend on a setting of the server.
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// The JSON at a path of the event `e`; NULL for nothing and for `null`.
fn json_at(path: &Path) -> String {
    let column = match path.source() {
        Source::Subject => return "to_jsonb(e.subject)".to_owned(),
        Source::Name => return "to_jsonb(e.name)".to_owned(),
        Source::ClientId => return "to_jsonb(e.client_id)".to_owned(),
        Source::Properties => "properties",
        Source::Context => "context",
    };
    let jsonpath = quoted(&path.jsonpath().unwrap_or_default());
    format!("nullif(jsonb_path_query_first(e.{column}::jsonb, {jsonpath}::jsonpath, '{{}}', true), 'null')")
}

/// Whether a numeric is a value.
fn is_value(number: &str) -> String {
    format!("(abs({number}) < 1e18 AND scale(trim_scale({number})) <= 18)")
}

/// A query for what each event of a table adds to a meter, one row for each event that it counts or that is a
/// fault: `timestamp`, `event_id`, `subject`, `bucket`, `groups` (jsonb), `value` (numeric), `text`, `fault`.
pub(super) fn measured(meter: &Meter, table: &str) -> String {
    let definition = &meter.definition;
    let is_unique = definition.aggregation == Aggregation::UniqueCount;
    let mut columns = String::new();
    let mut texts = Vec::new();
    for (index, group) in definition.groups.iter().enumerate() {
        let _ = write!(columns, ", {} AS g{index}", json_at(&group.path));
        texts.push(format!("g{index}"));
    }
    let value = definition.value.as_ref().map_or_else(|| "NULL::jsonb".to_owned(), json_at);
    let text_of = |json: &str| {
        format!(
            "CASE WHEN jsonb_typeof({json}) = 'number' THEN trim_scale(({json} #>> '{{}}')::numeric)::text ELSE {json} #>> '{{}}' END"
        )
    };
    let is_text = |json: &str| {
        let number = is_value(&format!("({json} #>> '{{}}')::numeric"));
        format!(
            "CASE jsonb_typeof({json}) WHEN 'string' THEN octet_length({json} #>> '{{}}') <= {TEXT_BYTES_MAX}
                  WHEN 'number' THEN {number} WHEN 'boolean' THEN true ELSE false END"
        )
    };
    let groups: Vec<String> = texts.iter().map(|json| text_of(json)).collect();
    let groups = format!("jsonb_build_array({})", groups.join(", "));
    let mut unusable: Vec<String> =
        texts.iter().map(|json| format!("({json} IS NOT NULL AND NOT {})", is_text(json))).collect();
    // PostgreSQL writes a space after each comma.
    let commas = definition.groups.len().saturating_sub(1);
    unusable.push(format!("octet_length({groups}::text) - {commas} > {GROUPS_BYTES_MAX}"));
    let number = "(v #>> '{}')::numeric";
    let fault = |fault: MeterFault| quoted(fault.into());
    let value_fault = match (definition.aggregation, is_unique) {
        (Aggregation::Count, _) => String::new(),
        (_, true) => format!(
            "WHEN v IS NULL THEN {missing} WHEN NOT {text} THEN {uncountable}",
            missing = fault(MeterFault::ValueMissing),
            text = is_text("v"),
            uncountable = fault(MeterFault::ValueNotCountable),
        ),
        (_, false) => format!(
            "WHEN v IS NULL THEN {missing}
             WHEN jsonb_typeof(v) = 'number' AND NOT {fits} THEN {too_long}
             WHEN jsonb_typeof(v) NOT IN ('number', 'string') THEN {no_number}
             WHEN jsonb_typeof(v) = 'string'
                  AND v #>> '{{}}' !~ '^-?(0|[1-9][0-9]{{0,17}})(\\.[0-9]{{1,18}})?$' THEN {no_number}",
            missing = fault(MeterFault::ValueMissing),
            fits = is_value(number),
            too_long = fault(MeterFault::ValueTooLong),
            no_number = fault(MeterFault::ValueNotANumber),
        ),
    };
    let (value_of, text) = match (definition.aggregation, is_unique) {
        (Aggregation::Count, _) => ("0::numeric".to_owned(), "''".to_owned()),
        (_, true) => ("0::numeric".to_owned(), text_of("v")),
        (_, false) => (number.to_owned(), "''".to_owned()),
    };
    format!(
        "SELECT timestamp, event_id, subject, bucket, fault,
                CASE WHEN fault IS NULL THEN {groups} END AS groups,
                CASE WHEN fault IS NULL THEN {value_of} END AS value,
                CASE WHEN fault IS NULL THEN {text} END AS text
           FROM (SELECT *, CASE {value_fault} WHEN {unusable} THEN {group_fault} END AS fault
                   FROM (SELECT e.timestamp, e.event_id, coalesce(e.subject, '') AS subject,
                                date_bin('15 minutes', e.timestamp, 'epoch'::timestamptz) AS bucket,
                                {value} AS v {columns}
                           FROM {table} e
                          WHERE e.project_id = {project} AND e.name = {name} AND {is_counted}) found) judged",
        unusable = unusable.join(" OR "),
        group_fault = fault(MeterFault::GroupNotUsable),
        project = meter.project.0,
        name = quoted(&definition.event),
        is_counted = is_counted(meter.id.0),
    )
}

/// Whether the meter has counted the event `e`, as it is defined now.
fn is_counted(meter: i64) -> String {
    format!(
        "EXISTS (SELECT 1 FROM meters m WHERE m.meter_id = {meter} AND e.received_at >= m.received_from
                    AND e.timestamp < m.counted_until)"
    )
}
