//! `millrace limit`: manages limits of customers.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use ingest_api::documents::{LimitDocument, amount as amount_json};
use millrace_event::limit::{Amount, Counter, Period};
use millrace_event::printable::printable;
use millrace_store::{LimitFilter, LimitInfo, Store};
use millrace_stream::Stream;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;
use strum::VariantArray;
use time::OffsetDateTime;

use crate::failure::Failure;
use crate::find;
use crate::moment::shown;
use crate::output::{Output, cut_table};

/// Limits that are listed, at most.
const LISTED_MAX: u32 = 10_000;
/// How every customer without a limit of its own is shown.
const EVERY_OTHER: &str = "(every other)";

#[derive(Subcommand, Debug)]
pub(crate) enum LimitCommand {
    /// Set how much a customer may use of a meter in an hour, a day or a month
    ///
    /// A batch that takes more than its customer has left is refused with 429 `limit_exceeded`. Only meters
    /// with the aggregation count or sum can be limited. What was used before the first limit of a customer
    /// for this meter and period does not count. API processes apply a change within seconds.
    #[command(
        after_help = "Examples:\n  millrace limit set shop --meter tokens --subject acme --per month 1000000\n  \
                            millrace limit set shop --meter tokens --per day 5000        every customer without a limit of its own"
    )]
    Set {
        #[command(flatten)]
        limit: LimitArgs,
        /// How much is admitted in each period: at most 15 digits before and 9 after the decimal point
        #[arg(value_name = "AMOUNT", value_parser = amount)]
        amount: Amount,
    },
    /// List limits
    #[command(after_help = "Example:\n  millrace limit list shop --meter tokens")]
    List {
        /// The project's name
        project: String,
        /// Only limits of this meter
        #[arg(long, value_name = "SLUG")]
        meter: Option<String>,
        /// Only limits of this customer
        #[arg(long)]
        subject: Option<String>,
    },
    /// Show how much a customer has left
    #[command(after_help = "Example:\n  millrace limit show shop --meter tokens --subject acme")]
    Show {
        /// The project's name
        project: String,
        /// The meter's slug
        #[arg(long, value_name = "SLUG")]
        meter: String,
        /// The customer
        #[arg(long)]
        subject: String,
    },
    /// Remove a limit
    #[command(
        after_help = "Example:\n  millrace limit delete shop --meter tokens --subject acme --per month"
    )]
    Delete {
        #[command(flatten)]
        limit: LimitArgs,
    },
}

#[derive(Args, Debug)]
pub(crate) struct LimitArgs {
    /// The project's name
    project: String,
    /// The meter's slug
    #[arg(long, value_name = "SLUG")]
    meter: String,
    /// The customer; without it, every customer that has no limit of its own
    #[arg(long)]
    subject: Option<String>,
    /// The period, in UTC by the time of receipt
    #[arg(long, value_parser = period())]
    per: Period,
}

fn period() -> impl TypedValueParser<Value = Period> {
    let names = Period::VARIANTS.iter().map(<&'static str>::from);
    PossibleValuesParser::new(names).map(|name| name.parse().expect("one of the names"))
}

fn amount(text: &str) -> Result<Amount, String> {
    Amount::parse(text).map_err(|error| error.to_string())
}

/// What is left, as JSON has it.
#[derive(Serialize)]
struct LeftJson {
    period: &'static str,
    limit: Box<RawValue>,
    used: Box<RawValue>,
    remaining: Box<RawValue>,
    start: String,
    end: String,
}

/// Changes and lists limits.
pub(crate) async fn run(store: &dyn Store, output: &Output, command: LimitCommand) -> Result<(), Failure> {
    match command {
        LimitCommand::Set { limit, amount } => {
            let LimitArgs { project, meter, subject, per } = limit;
            find::meter(store, &project, &meter).await?;
            let set = store.set_limit(&project, &meter, per, subject.as_deref(), amount).await?;
            let customer = subject.as_deref().map_or_else(|| EVERY_OTHER.to_owned(), printable);
            let text = format!("{customer}: {amount} of {meter} of project {project} per {per}.");
            output.print(&text, &LimitDocument::of(&set))
        }
        LimitCommand::List { project, meter, subject } => {
            find::project(store, &project).await?;
            let filter = LimitFilter { project, slug: meter, subject, after: None, at_most: LISTED_MAX };
            list(output, &store.limits(&filter).await?)
        }
        LimitCommand::Delete { limit: LimitArgs { project, meter, subject, per } } => {
            find::meter(store, &project, &meter).await?;
            if !store.delete_limit(&project, &meter, per, subject.as_deref()).await? {
                let none = format!("there is no such limit; `millrace limit list {project}` shows all");
                return Err(Failure::Refused(none));
            }
            let text = format!("Removed the limit per {per} of {meter} of project {project}.");
            output.print(
                &text,
                &json!({ "project": project, "meter": meter, "subject": subject, "deleted": true }),
            )
        }
        LimitCommand::Show { .. } => unreachable!("`show` runs with the stream"),
    }
}

/// Shows what a customer has left, which the stream knows.
pub(crate) async fn show(
    store: &dyn Store,
    stream: &dyn Stream,
    output: &Output,
    (project, slug, subject): (&str, &str, &str),
) -> Result<(), Failure> {
    let meter = find::meter(store, project, slug).await?.meter;
    let limits = store.limit_set(meter.project).await?.of_customer(meter.id, subject);
    let counter = |period: &Period| Counter { meter: meter.id, period: *period, subject: subject.to_owned() };
    let counters: Vec<_> = limits.iter().map(|(period, _)| counter(period)).collect();
    let (now_us, used) = match counters.is_empty() {
        true => (0, Vec::new()),
        false => stream.limits_used(meter.project, &counters).await?,
    };
    let of = |((period, limit), used): (&(Period, Amount), Amount)| {
        let (start, end) = period.bounds_us(now_us);
        LeftJson {
            period: period.into(),
            limit: amount_json(*limit),
            used: amount_json(used),
            remaining: amount_json(limit.minus(used)),
            start: shown(moment(start)),
            end: shown(moment(end)),
        }
    };
    let left: Vec<_> = limits.iter().zip(used).map(of).collect();
    let row = |left: &LeftJson| {
        let numbers = [&left.limit, &left.used, &left.remaining].map(|number| number.get().to_owned());
        let [limit, used, remaining] = numbers;
        vec![left.period.to_owned(), limit, used, remaining, left.end.clone()]
    };
    let text = if left.is_empty() {
        format!("{} has no limit of {slug}.", printable(subject))
    } else {
        let rows: Vec<_> = left.iter().map(row).collect();
        cut_table(&["per", "limit", "used", "left", "until"], &rows)
    };
    let document = json!({ "project": project, "meter": slug, "subject": subject });
    output.print(&text, &Left { customer: document, limits: left })
}

#[derive(Serialize)]
struct Left {
    #[serde(flatten)]
    customer: serde_json::Value,
    limits: Vec<LeftJson>,
}

fn list(output: &Output, limits: &[LimitInfo]) -> Result<(), Failure> {
    let row = |limit: &LimitInfo| {
        let customer = limit.subject.as_deref().map_or_else(|| EVERY_OTHER.to_owned(), printable);
        vec![limit.slug.clone(), customer, limit.period.to_string(), limit.amount.to_string()]
    };
    let text = if limits.is_empty() {
        "There is no limit. Set one: millrace limit set shop --meter tokens --per month 1000000".to_owned()
    } else {
        let rows: Vec<_> = limits.iter().map(row).collect();
        let mut text = cut_table(&["meter", "subject", "per", "limit"], &rows);
        if rows.len() == LISTED_MAX as usize {
            text.push_str("\nThere may be more: add --meter or --subject.");
        }
        text
    };
    let all: Vec<_> = limits.iter().map(LimitDocument::of).collect();
    #[derive(Serialize)]
    struct Limits<'a> {
        limits: Vec<LimitDocument<'a>>,
    }
    output.print(&text, &Limits { limits: all })
}

fn moment(us: u64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(us) * 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
