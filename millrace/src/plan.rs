//! `millrace plan`: manages plans, the limits of projects.

use clap::{Args, Subcommand};
use millrace_event::plan::{EVENTS_PER_BATCH_MAX, EVENTS_PER_MONTH_MAX, Plan, REQUESTS_MAX};
use millrace_settings::number;
use millrace_store::{PlanChange, PlanUpdate, Store};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::{Output, counted, grouped, table};

/// Project names in one line.
const NAMES_MAX: usize = 5;

#[derive(Subcommand, Debug)]
pub(crate) enum PlanCommand {
    /// List plans and the projects on them
    #[command(after_help = "Example:\n  millrace plan list")]
    List,
    /// Create a plan, or change one
    ///
    /// Changes the given limits and leaves the others. A new plan needs --requests-per-minute; by default its
    /// burst is the requests of one minute, with unlimited events per month and 1,000 events per batch. API
    /// processes apply it within seconds.
    #[command(
        after_help = "Examples:\n  millrace plan set hobby --requests-per-minute 60 --events-per-month 50000\n  \
                            millrace plan set pro --events-per-month unlimited"
    )]
    Set {
        /// The plan's name
        name: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

#[derive(Args, Clone, Copy, Debug)]
#[group(required = true, multiple = true)]
pub(crate) struct ChangeArgs {
    /// Requests per minute, on average
    #[arg(long, value_name = "N", value_parser = number(1..=REQUESTS_MAX))]
    requests_per_minute: Option<u32>,
    /// Requests that may arrive together after a pause
    #[arg(long, value_name = "N", value_parser = number(1..=REQUESTS_MAX))]
    burst: Option<u32>,
    /// Events per calendar month (UTC), or `unlimited`
    #[arg(long, value_name = "N|unlimited", value_parser = quota)]
    events_per_month: Option<Quota>,
    /// Events in one batch, at most 1,000
    #[arg(long, value_name = "N", value_parser = number(1..=EVENTS_PER_BATCH_MAX))]
    events_per_batch: Option<u32>,
}

/// Events per month; `None` is unlimited.
#[derive(Clone, Copy, Debug)]
struct Quota(Option<u64>);

fn quota(text: &str) -> Result<Quota, String> {
    if text == "unlimited" {
        return Ok(Quota(None));
    }
    let number = text.parse().ok().filter(|number| (1..=EVENTS_PER_MONTH_MAX).contains(number));
    let expected = || format!("expected unlimited, or a whole number from 1 to {EVENTS_PER_MONTH_MAX}");
    Ok(Quota(Some(number.ok_or_else(expected)?)))
}

pub(crate) async fn run(store: &dyn Store, output: &Output, command: PlanCommand) -> Result<(), Failure> {
    match command {
        PlanCommand::List => list(store, output).await,
        PlanCommand::Set { name, change } => set(store, output, &name, change).await,
    }
}

async fn list(store: &dyn Store, output: &Output) -> Result<(), Failure> {
    let (plans, projects) = (store.plans().await?, store.projects().await?);
    let on = |plan: &Plan| -> Vec<&str> {
        projects
            .iter()
            .filter(|project| project.plan == plan.name)
            .map(|project| project.name.as_str())
            .collect()
    };
    let row = |plan: &Plan| {
        vec![
            plan.name.clone(),
            grouped(plan.requests_per_minute.into()),
            grouped(plan.burst.into()),
            quota_shown(plan.events_per_month),
            grouped(plan.events_per_batch.into()),
            some_of(&on(plan)),
        ]
    };
    let head = ["plan", "requests/minute", "burst", "events/month", "events/batch", "projects"];
    let text = table(&head, &plans.iter().map(row).collect::<Vec<_>>());
    let with_projects = |plan: &Plan| {
        let mut value = as_json(plan);
        value["projects"] = json!(on(plan));
        value
    };
    output.print(&text, &json!({ "plans": plans.iter().map(with_projects).collect::<Vec<_>>() }))
}

async fn set(store: &dyn Store, output: &Output, name: &str, change: ChangeArgs) -> Result<(), Failure> {
    let change = PlanChange {
        requests_per_minute: change.requests_per_minute,
        burst: change.burst,
        events_per_month: change.events_per_month.map(|Quota(quota)| quota),
        events_per_batch: change.events_per_batch,
    };
    let PlanUpdate { before, after: plan } = store.set_plan(name, &change).await?;
    let projects = store.projects().await?;
    let on: Vec<_> =
        projects.iter().filter(|project| project.plan == name).map(|project| project.name.as_str()).collect();
    let action = if before.is_some() { "Changed" } else { "Created" };
    let text = format!(
        "{action} plan {name}: {} per minute, {} in a burst; {} per month, {} in a batch.\n{}",
        counted(plan.requests_per_minute.into(), "request"),
        grouped(plan.burst.into()),
        plan.events_per_month.map_or_else(|| "unlimited events".to_owned(), |quota| counted(quota, "event")),
        grouped(plan.events_per_batch.into()),
        match on.as_slice() {
            [] => format!("No project is on it. Move one with: millrace project plan PROJECT {name}"),
            on => format!("Projects on it: {}. API processes apply it within seconds.", some_of(on)),
        },
    );
    let json = json!({ "plan": as_json(&plan), "before": before.as_ref().map(as_json), "projects": on });
    output.print(&text, &json)
}

fn as_json(plan: &Plan) -> Value {
    json!({
        "plan": plan.name,
        "requests_per_minute": plan.requests_per_minute,
        "burst": plan.burst,
        "events_per_month": plan.events_per_month,
        "events_per_batch": plan.events_per_batch,
    })
}

fn quota_shown(quota: Option<u64>) -> String {
    quota.map_or_else(|| "unlimited".to_owned(), |quota| grouped(quota.into()))
}

/// A few of the names, and the number of the others.
fn some_of(names: &[&str]) -> String {
    match names {
        [] => "-".to_owned(),
        names if names.len() <= NAMES_MAX => names.join(", "),
        names => format!("{} and {} more", names[..NAMES_MAX].join(", "), names.len() - NAMES_MAX),
    }
}
