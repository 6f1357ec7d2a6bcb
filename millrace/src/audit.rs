//! `millrace audit`: checks that every accepted event is accounted for.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use millrace_event::EntryId;
use millrace_event::plan::ProjectId;
use millrace_reconcile::audit::{Balance, Violation, audit};
use millrace_reconcile::epoch::shards_differ;
use millrace_store::{LostHour, MeterCheck, Store, StoreError};
use millrace_stream::Stream;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::audit_limits::LimitReport;
use crate::failure::Failure;
use crate::moment::shown;
use crate::output::{Output, counted, grouped, table};

/// Rounds that look for a moment without traffic, before bounds are good enough.
const ROUNDS: usize = 5;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(300);
/// Project 0 holds the entries that are too damaged to name their project.
const UNREADABLE: &str = "(unreadable entries)";

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct AuditArgs {
    /// Do not count the rows of the tables, which takes long when they are large
    #[arg(long)]
    quick: bool,
    /// Mark the lost batches as reviewed: they are still listed, and the audit holds without them
    #[arg(long)]
    mark_reviewed: bool,
}

struct RolledBackShard {
    shard: u16,
    stands_at: EntryId,
    /// The highest entry in the store.
    written: EntryId,
}

struct AuditReport {
    rows_counted: bool,
    /// Shards whose epoch in the stream differs from the recorded one.
    epochs_differing: Vec<u16>,
    /// Shards that have the recorded epoch and went back in time.
    rolled_back: Vec<RolledBackShard>,
    lost: Vec<LostHour>,
    balances: Vec<Balance>,
    limits: LimitReport,
    /// Empty when rows are not counted.
    meters: Vec<MeterCheck>,
    names: HashMap<ProjectId, String>,
}

/// Audits the live system and prints the result.
///
/// # Errors
/// [`Failure::AuditFailed`] when the audit does not hold.
pub(crate) async fn run(
    stream: &dyn Stream,
    store: &dyn Store,
    output: &Output,
    arguments: &AuditArgs,
) -> Result<(), Failure> {
    let count_rows = !arguments.quick;
    check_shards(stream.shards(), store.shards_recorded().await?)?;
    if arguments.mark_reviewed {
        // Before they are listed: what is marked is then always shown.
        store.review_lost_batches().await?;
    }
    let report = AuditReport {
        rows_counted: count_rows,
        epochs_differing: epochs_differing(stream, store).await?,
        rolled_back: rolled_back(stream, store).await?,
        lost: store.lost_batches().await?,
        balances: settled_balances(stream, store, count_rows).await?,
        limits: LimitReport::read(stream, store).await?,
        meters: if count_rows { store.check_meters().await? } else { Vec::new() },
        names: names(store).await?,
    };
    output.print(&report.text(), &report.json())?;
    if report.holds() { Ok(()) } else { Err(Failure::AuditFailed) }
}

/// An audit of fewer shards than the installation has would miss the events in the others, and report them as
/// lost. An installation that has never served has no shards on record.
fn check_shards(set: u16, recorded: u16) -> Result<(), Failure> {
    if recorded == 0 || recorded == set {
        return Ok(());
    }
    Err(Failure::Usage(shards_differ(set, recorded)))
}

/// Repeats the audit until every project was audited without traffic, a rule is broken, or the rounds are
/// used up.
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

/// The counters of a shard with another epoch are not trusted and prove nothing, so the audit compares epochs
/// too. A shard without an epoch on both sides was never used.
async fn epochs_differing(stream: &dyn Stream, store: &dyn Store) -> Result<Vec<u16>, Failure> {
    let mut differing = Vec::new();
    for shard in 0..stream.shards() {
        if stream.epoch(shard).await? != store.epoch(shard).await? {
            differing.push(shard);
        }
    }
    Ok(differing)
}

/// An older copy of the stream has the same epoch. It shows by its last entry, which is then lower than one
/// that was written.
async fn rolled_back(stream: &dyn Stream, store: &dyn Store) -> Result<Vec<RolledBackShard>, Failure> {
    let mut shards = Vec::new();
    for shard in 0..stream.shards() {
        let record = store.stream_record(shard).await?;
        let witness = stream.witness(shard).await?;
        if witness.epoch == record.epoch && witness.last < record.position {
            shards.push(RolledBackShard { shard, stands_at: witness.last, written: record.position });
        }
    }
    Ok(shards)
}

async fn names(store: &dyn Store) -> Result<HashMap<ProjectId, String>, StoreError> {
    let projects = store.projects().await?;
    Ok(projects.into_iter().map(|project| (project.project, project.name)).collect())
}

impl AuditReport {
    fn holds(&self) -> bool {
        self.epochs_differing.is_empty()
            && self.rolled_back.is_empty()
            && self.lost.iter().all(|lost| lost.reviewed)
            && self.balances.iter().all(Balance::holds)
            && self.limits.holds()
            && self.meters.iter().all(MeterCheck::holds)
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
                "shard {shard}: the epoch in the stream is not the recorded one, because the stream was wiped, restored or \
                 replaced; its counters are not trusted until ingest-api or stream-worker rebuilds them\n"
            ));
        }
        for RolledBackShard { shard, stands_at, written } in &self.rolled_back {
            text.push_str(&format!(
                "shard {shard}: the stream went back in time: it ends at {}, and entry {} is stored; its counters are too \
                 low and not trusted until ingest-api or stream-worker rebuilds them\n",
                entry(*stands_at),
                entry(*written),
            ));
        }
        for lost in &self.lost {
            text.push_str(&self.describe_lost(lost));
        }
        for balance in &self.balances {
            for violation in &balance.violations {
                text.push_str(&format!("{}: {}\n", self.name(balance.project), describe(violation)));
            }
        }
        for violation in self.limits.violations() {
            text.push_str(&format!(
                "{}, {}\n",
                self.name(violation.project),
                self.limits.describe(violation)
            ));
        }
        for meter in self.meters.iter().filter(|meter| !meter.holds()) {
            text.push_str(&describe_meter(meter));
        }
        text.push_str(&self.conclusion());
        text
    }

    fn describe_lost(&self, lost: &LostHour) -> String {
        let LostHour { project, hour, batches, events, reviewed } = *lost;
        let reviewed = if reviewed { " (reviewed)" } else { "" };
        format!(
            "{}: lost, received in the hour from {}: {} in {} missing{reviewed}\n",
            self.name(project),
            shown(hour),
            counted(events, "event"),
            counted_batches(batches),
        )
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

    fn conclusion(&self) -> String {
        if !self.holds() {
            if self.lost.iter().any(|lost| !lost.reviewed) {
                return "The audit DOES NOT HOLD. Lost batches stay listed; `millrace audit --mark-reviewed` lets the audit hold \
                        without them.\n"
                    .to_owned();
            }
            return "The audit DOES NOT HOLD.\n".to_owned();
        }
        let accepted: u64 = self.balances.iter().map(|balance| balance.accepted).sum();
        let rows = match (self.rows_counted, self.meters.len() as u64) {
            (false, _) => ", rows not counted".to_owned(),
            (true, 0) => ", rows counted".to_owned(),
            (true, meters) => format!(", rows counted, {} compared", counted(meters, "meter")),
        };
        let moving = self.balances.iter().filter(|balance| !balance.exact).count() as u64;
        let bounds = if moving == 0 {
            "every one is accounted for".to_owned()
        } else {
            format!("checked within bounds for {} with events on the way", counted(moving, "project"))
        };
        format!("The audit holds: {} accepted, {bounds}{rows}.\n", counted(accepted, "event"))
    }

    fn json(&self) -> Value {
        let project = |balance: &Balance| {
            let mut value = json!(balance);
            value["name"] = json!(self.names.get(&balance.project));
            value["holds"] = json!(balance.holds());
            value
        };
        let lost = |lost: &LostHour| {
            json!({
                "project": lost.project,
                "name": self.names.get(&lost.project),
                "hour": shown(lost.hour),
                "batches": lost.batches,
                "events": lost.events,
                "difference": -i128::from(lost.events),
                "reviewed": lost.reviewed,
            })
        };
        let rolled_back: Vec<u16> = self.rolled_back.iter().map(|shard| shard.shard).collect();
        json!({
            "holds": self.holds(),
            "exact": self.balances.iter().all(|balance| balance.exact),
            "rows_counted": self.rows_counted,
            "shards_with_untrusted_epoch": self.epochs_differing,
            "shards_gone_back_in_time": rolled_back,
            "lost": self.lost.iter().map(lost).collect::<Vec<_>>(),
            "projects": self.balances.iter().map(project).collect::<Vec<_>>(),
            "limits": self.limits.json(),
            "meters": self.meters.iter().map(meter_json).collect::<Vec<_>>(),
        })
    }
}

fn describe_meter(check: &MeterCheck) -> String {
    let MeterCheck { info, counted: found, faults, counted_by_events, faults_by_events, wrong_figures } =
        check;
    format!(
        "{}, meter {}: its figures do not equal the events: {} counted where {} should be, {} faults where {} should be, \
         {} wrong\n",
        info.project_name,
        info.meter.definition.slug,
        counted(*found, "event"),
        grouped((*counted_by_events).into()),
        grouped((*faults).into()),
        grouped((*faults_by_events).into()),
        counted(*wrong_figures, "figure"),
    )
}

fn meter_json(check: &MeterCheck) -> Value {
    json!({
        "project": check.info.project_name,
        "slug": check.info.meter.definition.slug,
        "holds": check.holds(),
        "events_counted": check.counted,
        "events_expected": check.counted_by_events,
        "faults_counted": check.faults,
        "faults_expected": check.faults_by_events,
        "wrong_figures": check.wrong_figures,
    })
}

fn counted_batches(batches: u64) -> String {
    if batches == 1 { "1 batch".to_owned() } else { format!("{} batches", grouped(batches.into())) }
}

/// The id and the time of an entry.
fn entry(id: EntryId) -> String {
    let received =
        i64::try_from(id.ms / 1_000).ok().and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    received.map_or_else(|| id.to_string(), |received| format!("{id} ({})", shown(received)))
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
