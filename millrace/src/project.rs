//! `millrace project`: manages projects, which are metered and limited.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, Subcommand};
use millrace_event::policy::{BOUND_S_MAX, Dedupe, OutOfBounds, ProjectPolicy};
use millrace_settings::OneOf;
use millrace_store::{PolicyChange, PolicyUpdate, ProjectInfo, Store};
use serde_json::{Value, json};
use strum::VariantNames;

use crate::failure::Failure;
use crate::find;
use crate::key::{self, KeyArgs};
use crate::moment::{duration, shown};
use crate::output::{Output, grouped, table};

#[derive(Subcommand, Debug)]
pub(crate) enum ProjectCommand {
    /// List projects
    ///
    /// Shows the number, the plan, the live keys and the choices of each project, when it was created, and
    /// when a key was last used.
    #[command(after_help = "Example:\n  millrace project list")]
    List,
    /// Create a project with a first key
    ///
    /// Events are metered and limited by project: create one for each customer, or for each of your products.
    /// The key is shown once.
    #[command(after_help = "Examples:\n  millrace project create shop --plan pro\n  \
                      millrace project create site --plan free --scope write --origin https://shop.example\n  \
                      millrace project create bills --plan pro --dedupe id --oldest 365d --newest 1d")]
    Create {
        /// The project's name, as reports show it
        name: String,
        /// The plan: free, pro, enterprise, or one of yours
        #[arg(long)]
        plan: String,
        #[command(flatten)]
        key: KeyArgs,
        #[command(flatten)]
        policy: PolicyArgs,
    },
    /// Change how a project recognizes repeated events, which event times it accepts, and whether it stores
    /// the addresses of clients
    ///
    /// Changes the given choices and leaves the others, for events that are received from then on. API
    /// processes apply it within seconds.
    #[command(group = ArgGroup::new("choices").args(CHOICES).required(true).multiple(true))]
    #[command(after_help = "Examples:\n  millrace project set shop --dedupe id\n  \
                      millrace project set shop --oldest 365d --newest 1d --out-of-bounds refuse\n  \
                      millrace project set shop --oldest none       no bound any more\n  \
                      millrace project set shop --store-ip          the addresses of clients from now on\n  \
                      millrace project set shop --store-ip off      none from now on")]
    Set {
        /// The project's name
        project: String,
        #[command(flatten)]
        change: PolicyArgs,
    },
    /// Move a project to another plan
    ///
    /// API processes apply the new limits within seconds. Events that were used this month still count.
    #[command(after_help = "Example:\n  millrace project plan shop enterprise")]
    Plan {
        /// The project's name
        project: String,
        /// The plan: free, pro, enterprise, or one of yours
        plan: String,
    },
}

/// The options of [`PolicyArgs`].
const CHOICES: [&str; 5] = ["dedupe", "oldest", "newest", "out_of_bounds", "store_ip"];

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct PolicyArgs {
    /// How a repeated event is recognized: by its id and timestamp, for as long as the event is kept, or by
    /// its id alone, for as long as the ledger is kept; id-and-timestamp unless set
    #[arg(long, value_parser = dedupe())]
    dedupe: Option<Dedupe>,
    /// How long before its receipt an event may have happened, such as 365d, or none, as for a new project
    #[arg(long, value_name = "DURATION|none", value_parser = bound)]
    oldest: Option<Bound>,
    /// How long after its receipt an event may happen, such as 1d, or none, as for a new project
    #[arg(long, value_name = "DURATION|none", value_parser = bound)]
    newest: Option<Bound>,
    /// What happens to an event outside these bounds: receive-time, unless set, stores it at its time of
    /// receipt and keeps the time as sent in its context; refuse rejects it
    #[arg(long, value_parser = out_of_bounds())]
    out_of_bounds: Option<OutOfBounds>,
    /// Whether context.ip of each event has the address of its client; off unless set, and then no address
    /// that an SDK sends is stored, either. Without a value it is on
    #[arg(long, value_name = "on|off", num_args = 0..=1, require_equals = false, default_missing_value = "on")]
    #[arg(value_parser = SWITCH)]
    store_ip: Option<bool>,
}

const SWITCH: OneOf<bool> = OneOf(&[("on", true), ("off", false)]);

/// A bound of event time in seconds; `None` is none.
#[derive(Clone, Copy, Debug)]
struct Bound(Option<u64>);

fn bound(text: &str) -> Result<Bound, String> {
    if text == "none" {
        return Ok(Bound(None));
    }
    let expected = || {
        format!(
            "expected none, or a duration of whole seconds from 1s to {}d, such as 24h or 365d",
            BOUND_S_MAX / 86_400
        )
    };
    let bound = duration(text).map_err(|_| expected())?;
    let is_allowed =
        bound.subsec_nanos() == 0 && bound >= Duration::from_secs(1) && bound.as_secs() <= BOUND_S_MAX;
    if is_allowed { Ok(Bound(Some(bound.as_secs()))) } else { Err(expected()) }
}

fn dedupe() -> impl TypedValueParser<Value = Dedupe> {
    PossibleValuesParser::new(Dedupe::VARIANTS).map(|name| name.parse().expect("one of the names"))
}

fn out_of_bounds() -> impl TypedValueParser<Value = OutOfBounds> {
    PossibleValuesParser::new(OutOfBounds::VARIANTS).map(|name| name.parse().expect("one of the names"))
}

impl PolicyArgs {
    fn change(self) -> PolicyChange {
        PolicyChange {
            dedupe: self.dedupe,
            oldest_s: self.oldest.map(|Bound(bound)| bound),
            newest_s: self.newest.map(|Bound(bound)| bound),
            out_of_bounds: self.out_of_bounds,
            store_ip: self.store_ip,
        }
    }
}

pub(crate) async fn run(store: &dyn Store, output: &Output, command: ProjectCommand) -> Result<(), Failure> {
    match command {
        ProjectCommand::List => list(store, output).await,
        ProjectCommand::Create { name, plan, key, policy } => {
            create(store, output, &name, &plan, &policy.change(), &key).await
        }
        ProjectCommand::Set { project, change } => set(store, output, &project, &change.change()).await,
        ProjectCommand::Plan { project, plan } => move_to_plan(store, output, &project, &plan).await,
    }
}

async fn list(store: &dyn Store, output: &Output) -> Result<(), Failure> {
    let projects = store.projects().await?;
    let row = |project: &ProjectInfo| {
        vec![
            project.name.clone(),
            project.project.to_string(),
            project.plan.clone(),
            grouped(project.live_keys.into()),
            shown(project.created_at),
            project.last_used_at.map_or_else(|| "never".to_owned(), shown),
            <&str>::from(project.policy.dedupe).to_owned(),
            bound_shown(project.policy.oldest_s),
            bound_shown(project.policy.newest_s),
            <&str>::from(project.policy.out_of_bounds).to_owned(),
            (if project.policy.store_ip { "stored" } else { "not stored" }).to_owned(),
        ]
    };
    let rows: Vec<_> = projects.iter().map(row).collect();
    let text = if rows.is_empty() {
        "There is no project. Create one: millrace project create shop --plan pro".to_owned()
    } else {
        let head = [
            "project",
            "number",
            "plan",
            "keys",
            "created",
            "last used",
            "dedupe",
            "oldest",
            "newest",
            "out of bounds",
            "addresses",
        ];
        table(&head, &rows)
    };
    output.print(&text, &json!({ "projects": projects.iter().map(as_json).collect::<Vec<_>>() }))
}

fn as_json(project: &ProjectInfo) -> Value {
    json!({
        "project": project.name,
        "project_id": project.project,
        "plan": project.plan,
        "live_keys": project.live_keys,
        "created_at": shown(project.created_at),
        "last_used_at": project.last_used_at.map(shown),
        "policy": policy_as_json(project.policy),
    })
}

fn policy_as_json(policy: ProjectPolicy) -> Value {
    json!({
        "dedupe": <&str>::from(policy.dedupe),
        "oldest_s": policy.oldest_s,
        "newest_s": policy.newest_s,
        "out_of_bounds": <&str>::from(policy.out_of_bounds),
        "store_ip": policy.store_ip,
    })
}

fn bound_shown(bound: Option<u64>) -> String {
    bound.map_or_else(
        || "none".to_owned(),
        |bound| {
            // Days, because a year of humantime is no whole number of days.
            match (bound / 86_400, bound % 86_400) {
                (0, rest) => humantime::format_duration(Duration::from_secs(rest)).to_string(),
                (days, 0) => format!("{days}d"),
                (days, rest) => format!("{days}d {}", humantime::format_duration(Duration::from_secs(rest))),
            }
        },
    )
}

/// What a policy means, as sentences.
fn policy_in_words(policy: ProjectPolicy) -> String {
    let repeated = match policy.dedupe {
        Dedupe::Id => "by its id alone",
        Dedupe::IdAndTimestamp => "by its id and timestamp",
    };
    let beyond = match policy.out_of_bounds {
        OutOfBounds::ReceiveTime => "takes its time of receipt",
        OutOfBounds::Refuse => "is refused",
    };
    let times = match (policy.oldest_s, policy.newest_s) {
        (None, None) => "Every event time is accepted.".to_owned(),
        (oldest, newest) => {
            let bound = |bound: Option<u64>, side| bound.map(|_| format!("{} {side}", bound_shown(bound)));
            let bounds: Vec<_> =
                [bound(oldest, "before"), bound(newest, "after")].into_iter().flatten().collect();
            format!("An event that happened more than {} its receipt {beyond}.", bounds.join(" or "))
        }
    };
    let addresses = if policy.store_ip { "are stored" } else { "are not stored" };
    format!("A repeated event is recognized {repeated}. {times} Addresses of clients {addresses}.")
}

async fn create(
    store: &dyn Store,
    output: &Output,
    name: &str,
    plan: &str,
    policy: &PolicyChange,
    key: &KeyArgs,
) -> Result<(), Failure> {
    let options = key.options()?;
    find::plan(store, plan).await?;
    let (project, new) = store.create_project(name, plan, policy, &options).await?;
    let scope: &str = options.scope.into();
    let policy = policy.apply(ProjectPolicy::default())?;
    let mut text = format!("Created project {name} (number {project}) on plan {plan}.\n");
    if policy != ProjectPolicy::default() {
        text.push_str(&format!("{}\n", policy_in_words(policy)));
    }
    text.push_str(&format!(
        "{}\n{}",
        key::what_it_does(options.scope, &options.allowed_origins),
        key::describe(&new)
    ));
    let json = json!({
        "project_id": project, "project": name, "plan": plan, "policy": policy_as_json(policy),
        "scope": scope, "origins": options.allowed_origins,
        "key_id": new.key_id, "key": new.key, "signing_secret": new.signing_secret,
    });
    output.print(&text, &json)
}

async fn set(store: &dyn Store, output: &Output, name: &str, change: &PolicyChange) -> Result<(), Failure> {
    let project = find::project(store, name).await?;
    let PolicyUpdate { before, after } = store.set_policy(project.project, change).await?;
    let text = if before == after {
        format!("{name} is already set so. {}", policy_in_words(after))
    } else {
        format!("Changed {name}. {} API processes apply it within seconds.", policy_in_words(after))
    };
    let json = json!({
        "project": name, "policy": policy_as_json(after), "before": policy_as_json(before),
    });
    output.print(&text, &json)
}

async fn move_to_plan(store: &dyn Store, output: &Output, name: &str, plan: &str) -> Result<(), Failure> {
    let project = find::project(store, name).await?;
    let plan = find::plan(store, plan).await?.name;
    store.move_project(project.project, &plan).await?;
    let text = if project.plan == plan {
        format!("{name} is already on plan {plan}.")
    } else {
        format!(
            "{name} is now on plan {plan}; it was on {}. API processes apply it within seconds.",
            project.plan
        )
    };
    output.print(&text, &json!({ "project": name, "plan": plan, "before": project.plan }))
}
