//! What a meter must count, by SQL over events: a second reading of its definition, independent of the one
//! that writers use, for checks.

use millrace_event::meter::{Aggregation, GROUPS_BYTES_MAX, Meter, MeterFault, Path, Source, TEXT_BYTES_MAX};

/// Whether figures count the event `e` by what is stored of it: it is not cancelled, and not anonymized. What
/// is left of an anonymized event is not what was counted; `meter_erased` counts it.
pub(super) const STILL_COUNTED: &str = "
    NOT EXISTS (SELECT FROM cancellations c
                 WHERE c.project_id = e.project_id AND c.timestamp = e.timestamp AND c.event_id = e.event_id
                   AND c.received_at = e.received_at)
    AND NOT EXISTS (SELECT FROM erasures x
                     WHERE x.project_id = e.project_id AND x.pseudonym = e.subject
                       AND e.received_at < x.received_before)";

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

/// A number in JSON.
fn number(json: &str) -> String {
    format!("({json} #>> '{{}}')::numeric")
}

/// Whether a numeric is a value.
fn is_value(number: &str) -> String {
    format!("(abs({number}) < 1e18 AND scale(trim_scale({number})) <= 18)")
}

/// JSON as a text: a number in plain notation.
fn text_of(json: &str) -> String {
    let number = number(json);
    format!(
        "CASE WHEN jsonb_typeof({json}) = 'number' THEN trim_scale({number})::text ELSE {json} #>> '{{}}' END"
    )
}

/// Whether JSON has a usable text.
fn is_text(json: &str) -> String {
    let fits = is_value(&number(json));
    format!(
        "CASE jsonb_typeof({json}) WHEN 'string' THEN octet_length({json} #>> '{{}}') <= {TEXT_BYTES_MAX}
              WHEN 'number' THEN {fits} WHEN 'boolean' THEN true ELSE false END"
    )
}

fn fault(fault: MeterFault) -> String {
    quoted(fault.into())
}

/// The branches of a CASE that find faults of the value `v`.
fn value_faults(aggregation: Aggregation) -> String {
    match aggregation {
        Aggregation::Count => String::new(),
        Aggregation::UniqueCount => format!(
            "WHEN v IS NULL THEN {missing} WHEN NOT {text} THEN {uncountable}",
            missing = fault(MeterFault::ValueMissing),
            text = is_text("v"),
            uncountable = fault(MeterFault::ValueNotCountable),
        ),
        _ => format!(
            "WHEN v IS NULL THEN {missing}
             WHEN jsonb_typeof(v) = 'number' AND NOT {fits} THEN {too_long}
             WHEN jsonb_typeof(v) NOT IN ('number', 'string') THEN {no_number}
             WHEN jsonb_typeof(v) = 'string'
                  AND v #>> '{{}}' !~ '^-?(0|[1-9][0-9]{{0,17}})(\\.[0-9]{{1,18}})?$' THEN {no_number}",
            missing = fault(MeterFault::ValueMissing),
            fits = is_value(&number("v")),
            too_long = fault(MeterFault::ValueTooLong),
            no_number = fault(MeterFault::ValueNotANumber),
        ),
    }
}

/// A query for what each event of a table adds to a meter, one row for each event that it counts or that is a
/// fault: `timestamp`, `event_id`, `subject`, `bucket`, `groups` (jsonb), `value` (numeric), `text`, `fault`.
pub(super) fn measured(meter: &Meter, table: &str) -> String {
    let definition = &meter.definition;
    let names: Vec<String> = (0..definition.groups.len()).map(|index| format!("g{index}")).collect();
    let texts: Vec<String> = names.iter().map(|json| text_of(json)).collect();
    let groups = format!("jsonb_build_array({})", texts.join(", "));
    let mut unusable: Vec<String> =
        names.iter().map(|json| format!("({json} IS NOT NULL AND NOT {})", is_text(json))).collect();
    // PostgreSQL writes a space after each comma.
    let commas = definition.groups.len().saturating_sub(1);
    unusable.push(format!("octet_length({groups}::text) - {commas} > {GROUPS_BYTES_MAX}"));
    let (value, text) = match definition.aggregation {
        Aggregation::Count => ("0::numeric".to_owned(), "''".to_owned()),
        Aggregation::UniqueCount => ("0::numeric".to_owned(), text_of("v")),
        _ => (number("v"), "''".to_owned()),
    };
    format!(
        "SELECT timestamp, event_id, subject, bucket, fault,
                CASE WHEN fault IS NULL THEN {groups} END AS groups,
                CASE WHEN fault IS NULL THEN {value} END AS value,
                CASE WHEN fault IS NULL THEN {text} END AS text
           FROM (SELECT *, CASE {value_faults} WHEN {unusable} THEN {group_fault} END AS fault
                   FROM ({found}) found) judged",
        value_faults = value_faults(definition.aggregation),
        unusable = unusable.join(" OR "),
        group_fault = fault(MeterFault::GroupNotUsable),
        found = found(meter, table),
    )
}

/// A query for the events that a meter has counted or found faulty and that figures still count, as it is
/// defined now, with the JSON of their value, `v`, and of their groups, `g0` and so on.
fn found(meter: &Meter, table: &str) -> String {
    let Meter { id, project, definition, .. } = meter;
    let value = definition.value.as_ref().map_or_else(|| "NULL::jsonb".to_owned(), json_at);
    let groups = definition.groups.iter().enumerate();
    let groups: String =
        groups.map(|(index, group)| format!(", {} AS g{index}", json_at(&group.path))).collect();
    format!(
        "SELECT e.timestamp, e.event_id, coalesce(e.subject, '') AS subject,
                date_bin('15 minutes', e.timestamp, 'epoch'::timestamptz) AS bucket, {value} AS v {groups}
           FROM {table} e
          WHERE e.project_id = {project} AND e.name = {name}
            AND EXISTS (SELECT FROM meters m WHERE m.meter_id = {id} AND e.received_at >= m.received_from
                           AND e.timestamp < m.counted_until)
            AND {STILL_COUNTED}",
        id = id.0,
        project = project.0,
        name = quoted(&definition.event),
    )
}
