//! `millrace meter show`, and how commands show a meter.

use millrace_event::meter::{Meter, MeterDefinition};
use millrace_event::printable::{printable, text_of_bytes};
use millrace_store::{MeterFaultCount, MeterInfo, Store};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use crate::failure::Failure;
use crate::find;
use crate::moment::shown;
use crate::output::{Output, cut_table, grouped};

pub(super) async fn run(
    store: &dyn Store,
    output: &Output,
    project: &str,
    slug: &str,
) -> Result<(), Failure> {
    let info = find::meter(store, project, slug).await?;
    let faults = store.meter_faults(info.meter.id).await?;
    let mut document = json(&info);
    document["faults"] = faults.iter().map(fault_json).collect();
    output.print(&format!("{}\n{}", text(&info), faults_text(&faults)), &document)
}

/// The definition, and from which events on it counts.
pub(super) fn text(info: &MeterInfo) -> String {
    let (meter, definition) = (&info.meter, &info.meter.definition);
    let since = match meter.received_from_us {
        i64::MIN => "all events that are stored".to_owned(),
        us => format!("events that were received at or after {}", shown(moment(us))),
    };
    format!(
        "Meter {} of project {}, created {}\n  figure    {}\n  groups    {}\n  counts    {since}\n  backfill  {}\n",
        definition.slug,
        info.project_name,
        shown(info.created_at),
        what_it_makes(definition),
        groups(definition),
        backfill_text(info),
    )
}

/// Such as `sum of $.tokens of llm_call`.
pub(super) fn what_it_makes(definition: &MeterDefinition) -> String {
    let event = printable(&definition.event);
    match &definition.value {
        Some(path) => format!("{} of {path} of {event}", definition.aggregation),
        None => format!("{} of {event}", definition.aggregation),
    }
}

/// Such as `model=$.model region=context.region`.
pub(super) fn groups(definition: &MeterDefinition) -> String {
    let groups: Vec<_> =
        definition.groups.iter().map(|group| format!("{}={}", group.name, group.path)).collect();
    if groups.is_empty() { "none".to_owned() } else { groups.join(" ") }
}

pub(super) fn backfill(meter: &Meter) -> &'static str {
    if meter.counted_until_us == i64::MAX { "complete" } else { "running" }
}

fn backfill_text(info: &MeterInfo) -> String {
    let (project, slug) = (&info.project_name, &info.meter.definition.slug);
    let rest = format!("the rest waits for `millrace meter backfill {project} {slug}`");
    match info.meter.counted_until_us {
        i64::MAX => "complete".to_owned(),
        i64::MIN => format!("running: nothing is counted yet; {rest}"),
        us => format!("running: events before {} are counted; {rest}", shown(moment(us))),
    }
}

fn faults_text(faults: &[MeterFaultCount]) -> String {
    if faults.is_empty() {
        return "It counts every event with this name.".to_owned();
    }
    let row = |count: &MeterFaultCount| {
        let fault: &str = count.fault.into();
        let sample = text_of_bytes(&count.sample);
        vec![fault.to_owned(), grouped(count.events.into()), shown(count.last_at), printable(&sample)]
    };
    let rows: Vec<_> = faults.iter().map(row).collect();
    format!(
        "Stored events with this name that it does not count:\n{}",
        cut_table(&["reason", "events", "last", "properties of one of them"], &rows)
    )
}

pub(super) fn json(info: &MeterInfo) -> Value {
    let (meter, definition) = (&info.meter, &info.meter.definition);
    let aggregation: &str = definition.aggregation.into();
    let groups = definition.groups.iter().map(|group| (group.name.clone(), json!(group.path.to_string())));
    let time = |us, none| if us == none { Value::Null } else { json!(shown(moment(us))) };
    json!({
        "project": info.project_name,
        "slug": definition.slug,
        "event": definition.event,
        "aggregation": aggregation,
        "value": definition.value.as_ref().map(ToString::to_string),
        "groups": groups.collect::<Map<_, _>>(),
        "created_at": shown(info.created_at),
        "received_from": time(meter.received_from_us, i64::MIN),
        "backfill": backfill(meter),
    })
}

fn fault_json(count: &MeterFaultCount) -> Value {
    let fault: &str = count.fault.into();
    json!({
        "fault": fault, "events": count.events, "last_at": shown(count.last_at), "sample": text_of_bytes(&count.sample),
    })
}

fn moment(us: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
