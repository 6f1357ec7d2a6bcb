//! `millrace project`: manages projects, which are metered and limited.

use clap::Subcommand;
use millrace_store::{ProjectInfo, Store};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::find;
use crate::key::{self, KeyArgs};
use crate::moment::shown;
use crate::output::{Output, grouped, table};

#[derive(Subcommand, Debug)]
pub(crate) enum ProjectCommand {
    /// List projects
    ///
    /// Shows the number, the plan and the live keys of each project, when it was created, and when a key was
    /// last used.
    #[command(after_help = "Example:\n  millrace project list")]
    List,
    /// Create a project with a first key
    ///
    /// Events are metered and limited by project: create one for each customer, or for each of your products.
    /// The key is shown once.
    #[command(after_help = "Example:\n  millrace project create shop --plan pro")]
    Create {
        /// The project's name, as reports show it
        name: String,
        /// The plan: free, pro, enterprise, or one of yours
        #[arg(long)]
        plan: String,
        #[command(flatten)]
        key: KeyArgs,
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

pub(crate) async fn run(store: &dyn Store, output: &Output, command: ProjectCommand) -> Result<(), Failure> {
    match command {
        ProjectCommand::List => list(store, output).await,
        ProjectCommand::Create { name, plan, key } => create(store, output, &name, &plan, &key).await,
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
        ]
    };
    let rows: Vec<_> = projects.iter().map(row).collect();
    let text = if rows.is_empty() {
        "There is no project. Create one: millrace project create shop --plan pro".to_owned()
    } else {
        table(&["project", "number", "plan", "keys", "created", "last used"], &rows)
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
    })
}

async fn create(
    store: &dyn Store,
    output: &Output,
    name: &str,
    plan: &str,
    key: &KeyArgs,
) -> Result<(), Failure> {
    key::check(key.key.as_deref())?;
    find::plan(store, plan).await?;
    let (project, new) = store.create_project(name, plan, key.key.as_deref(), key.signed).await?;
    let text = format!("Created project {name} (number {project}) on plan {plan}.\n{}", key::describe(&new));
    let json = json!({
        "project_id": project, "project": name, "plan": plan,
        "key_id": new.key_id, "key": new.key, "signing_secret": new.signing_secret,
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
