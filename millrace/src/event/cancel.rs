//! `millrace event cancel`

use clap::Args;
use millrace_event::event::ClientIdentity;
use millrace_event::policy::Dedupe;
use millrace_store::{CANCEL_EVENTS_MAX, CancelOrder, CancelOutcome, CancelledEvent, Store, open_since};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::failure::Failure;
use crate::find;
use crate::operator;
use crate::output::{Output, counted, table};

pub(super) const EXAMPLES: &str = "Examples:
  millrace event cancel shop order-1 --timestamp 2026-11-21T09:30:00Z --reason 'test order'
  millrace event cancel shop 018f2b6e-0000-7000-8000-000000000000
  millrace event cancel shop order-1 order-2 --even-closed";

#[derive(Args, Debug)]
pub(crate) struct CancelArgs {
    /// The project's name
    project: String,
    /// Ids of events, as the client sent them, or their UUIDs
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Timestamp of the events, as the client sent it; not needed where an id alone identifies an event: in a
    /// project with --dedupe id, for a UUIDv7, and for a recent event without a timestamp
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    timestamp: Option<Timestamp>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Also cancel events of months that ended more than CANCEL_DAYS days ago
    #[arg(long)]
    even_closed: bool,
}

pub(super) async fn run(
    store: &dyn Store,
    output: &Output,
    arguments: &CancelArgs,
    cancel_days: u32,
) -> Result<(), Failure> {
    let project = find::project(store, &arguments.project).await?;
    let by_id = project.policy.dedupe == Dedupe::Id;
    let sent_us = arguments.timestamp.map(|Timestamp(us)| us);
    let mut outcomes = Vec::with_capacity(arguments.ids.len());
    for ids in arguments.ids.chunks(CANCEL_EVENTS_MAX) {
        let event = |id: &String| {
            let ClientIdentity { event_id, timestamp_us, .. } = ClientIdentity::of(id, sent_us);
            CancelledEvent { event_id, timestamp_us, by_id }
        };
        let order = CancelOrder {
            project: project.project,
            events: ids.iter().map(event).collect(),
            by: operator::of_this_command(),
            reason: arguments.reason.clone(),
            received_from: (!arguments.even_closed)
                .then(|| open_since(OffsetDateTime::now_utc(), cancel_days)),
        };
        outcomes.extend(store.cancel_events(&order).await?);
    }
    report(output, arguments, &outcomes, cancel_days)
}

fn report(
    output: &Output,
    arguments: &CancelArgs,
    outcomes: &[CancelOutcome],
    cancel_days: u32,
) -> Result<(), Failure> {
    let number = |wanted: CancelOutcome| outcomes.iter().filter(|outcome| **outcome == wanted).count() as u64;
    let cancelled = number(CancelOutcome::Cancelled);
    let lines = arguments.ids.iter().zip(outcomes);
    let status = |outcome: &CancelOutcome| <&str>::from(outcome);
    let rows: Vec<_> =
        lines.clone().map(|(id, outcome)| vec![id.clone(), status(outcome).to_owned()]).collect();
    let events: Vec<_> = lines.map(|(id, outcome)| json!({ "id": id, "status": status(outcome) })).collect();
    let text = format!("{}\nCancelled {}.", table(&["id", "status"], &rows), counted(cancelled, "event"));
    let json = json!({ "project": arguments.project, "cancelled": cancelled, "events": events });
    output.print(&text, &json)?;
    let (missing, old) = (number(CancelOutcome::NotFound), number(CancelOutcome::TooOld));
    let mut problems = Vec::new();
    if missing > 0 {
        problems.push(format!(
            "{} not found: check the id and --timestamp, and whether the event still waits to be stored",
            counted(missing, "event")
        ));
    }
    if old > 0 {
        problems.push(format!(
            "{} too old: the month ended more than {cancel_days} days ago (--even-closed cancels it all the same), or \
             retention has removed events of that day",
            counted(old, "event")
        ));
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::Refused(problems.join("; "))) }
}

/// Microseconds since 1970. A type of its own, because clap takes a bare number for a number on the line.
#[derive(Clone, Copy, Debug)]
struct Timestamp(i64);

fn timestamp(text: &str) -> Result<Timestamp, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| "must be an RFC 3339 time such as 2026-11-21T09:30:00.123Z".to_owned())?;
    let us = time.unix_timestamp_nanos().div_euclid(1_000);
    Ok(Timestamp(i64::try_from(us).expect("four-digit years fit")))
}
