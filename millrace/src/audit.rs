//! `millrace audit`: is every accepted event accounted for?

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use millrace_event::plan::ProjectId;
use millrace_reconcile::audit::{Balance, Violation, audit};
use millrace_store::{Store, StoreError};
use millrace_stream::Stream;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::output::{Output, grouped, table};

/// How often to look for a moment when nothing moves, before bounds must do.
const ROUNDS: usize = 5;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(300);
/// What entries are kept under that were too damaged to tell whose they were.
const UNREADABLE: &str = "(unreadable entries)";

/// What an audit looks at.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct AuditArgs {
    /// Trust the counters and do not count the rows of the tables, which takes long when they are large
    #[arg(long)]
    quick: bool,
}

/// Everything an audit has found.
struct Report {
    rows_counted: bool,
    /// Shards whose epoch in the stream is not the recorded one.
    epochs_differing: Vec<u16>,
    balances: Vec<Balance>,
    names: HashMap<ProjectId, String>,
}

/// Audits the live system, prints what was found, and fails when it does not hold.
pub(crate) async fn run(
    stream: &dyn Stream,
    store: &dyn Store,
    output: &Output,
    arguments: &AuditArgs,
) -> Result<(), Failure> {
    let count_rows = !arguments.quick;
    check_shards(stream.shards(), store.shards_recorded().await?)?;
    let report = Report {
        rows_counted: count_rows,
        epochs_differing: epochs_differing(stream, store).await?,
        balances: settled_balances(stream, store, count_rows).await?,
        names: names(store).await?,
    };
    output.print(&report.text(), &report.json())?;
    if report.holds() { Ok(()) } else { Err(Failure::Unbalanced) }
}

/// Whoever looks at fewer shards than there are misses what stands in the others, and it would look like lost books. An
/// installation that nobody has served from yet has none on record.
fn check_shards(set: u16, recorded: u16) -> Result<(), Failure> {
    if recorded == 0 || recorded == set {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "STREAM_SHARDS={set}: this installation has {recorded} on record; set STREAM_SHARDS={recorded}, as its \
         programs have it"
    )))
}

/// Looks until every project was seen in a quiet moment, a rule is broken, or the rounds are used up.
async fn settled_balances(
    stream: &dyn Stream,
    store: &dyn Store,
    count_rows: bool,
) -> Result<Vec<Balance>, Failure> {
    let mut balances = audit(stream, store, count_rows).await?;
    for _ in 1..ROUNDS {
        let is_final = |balance: &Balance| balance.exact || !balance.holds();
        if balances.iter().all(is_final) || balances.iter().any(|balance| !balance.holds()) {
            break;
        }
        tokio::time::sleep(BETWEEN_ROUNDS).await;
        balances = audit(stream, store, count_rows).await?;
    }
    balances.sort_by_key(|balance| balance.project);
    Ok(balances)
}

/// Counters that nobody trusts prove nothing, so the epochs are part of the audit. A shard that neither side has ever
/// heard of is one that was never used.
async fn epochs_differing(stream: &dyn Stream, store: &dyn Store) -> Result<Vec<u16>, Failure> {
    let mut differing = Vec::new();
    for shard in 0..stream.shards() {
        if stream.epoch(shard).await? != store.epoch(shard).await? {
            differing.push(shard);
        }
    }
    Ok(differing)
}

async fn names(store: &dyn Store) -> Result<HashMap<ProjectId, String>, StoreError> {
    let projects = store.projects().await?;
    Ok(projects.into_iter().map(|project| (project.project, project.name)).collect())
}

impl Report {
    fn holds(&self) -> bool {
        self.epochs_differing.is_empty() && self.balances.iter().all(Balance::holds)
    }

    fn name(&self, project: ProjectId) -> String {
        match self.names.get(&project) {
            Some(name) => format!("{name} ({project})"),
            None if project == ProjectId(0) => UNREADABLE.to_owned(),
            None => format!("({project})"),
        }
    }

    fn text(&self) -> String {
        let head = ["project", "accepted", "stored", "duplicate", "dead", "pending", "verdict"];
        let rows: Vec<_> = self.balances.iter().map(|balance| self.row(balance)).collect();
        let mut text = table(&head, &rows);
        text.push('\n');
        for shard in &self.epochs_differing {
            text.push_str(&format!(
                "shard {shard}: the stream does not bear the recorded epoch: it was wiped, restored or swapped, and its \
                 counters are not trusted until ingest-api or stream-worker has rebuilt them\n"
            ));
        }
        for balance in &self.balances {
            for violation in &balance.violations {
                text.push_str(&format!("{}: {}\n", self.name(balance.project), describe(violation)));
            }
        }
        text.push_str(&self.verdict());
        text
    }

    fn row(&self, balance: &Balance) -> Vec<String> {
        let verdict = match (balance.holds(), balance.exact) {
            (false, _) => "DOES NOT HOLD",
            (true, true) => "holds",
            (true, false) => "holds within bounds",
        };
        vec![
            self.name(balance.project),
            grouped(balance.accepted.into()),
            grouped(balance.stored.into()),
            grouped(balance.duplicate.into()),
            grouped(balance.dead.into()),
            grouped(balance.pending.into()),
            verdict.to_owned(),
        ]
    }

    fn verdict(&self) -> String {
        if !self.holds() {
            return "The audit DOES NOT HOLD.\n".to_owned();
        }
        let accepted: i128 = self.balances.iter().map(|balance| i128::from(balance.accepted)).sum();
        let rows = if self.rows_counted { ", rows counted" } else { ", rows not counted" };
        let moving = self.balances.iter().filter(|balance| !balance.exact).count();
        let bounds = if moving == 0 {
            "every one is accounted for".to_owned()
        } else {
            format!("events of {moving} projects were moving or pending, which were held to bounds")
        };
        format!("The audit holds: {} events accepted, {bounds}{rows}.\n", grouped(accepted))
    }

    fn json(&self) -> Value {
        let project = |balance: &Balance| {
            let mut value = json!(balance);
            value["name"] = json!(self.names.get(&balance.project));
            value["holds"] = json!(balance.holds());
            value
        };
        json!({
            "holds": self.holds(),
            "exact": self.balances.iter().all(|balance| balance.exact),
            "rows_counted": self.rows_counted,
            "shards_with_untrusted_epoch": self.epochs_differing,
            "projects": self.balances.iter().map(project).collect::<Vec<_>>(),
        })
    }
}

fn describe(violation: &Violation) -> String {
    let expected = if violation.at_least == violation.at_most {
        grouped(violation.at_least.into())
    } else {
        format!("{} to {}", grouped(violation.at_least.into()), grouped(violation.at_most.into()))
    };
    let difference = violation.difference();
    let word = if difference < 0 { "missing" } else { "too many" };
    format!(
        "{} does not hold: expected {expected}, found {}: {} {word}",
        violation.rule.sentence(),
        grouped(violation.found.into()),
        grouped(difference.abs()),
    )
}
