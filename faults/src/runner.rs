//! Runs drills, several at a time, each from its own seed.

use std::sync::Arc;

use futures_util::{StreamExt, stream};

use crate::drill::Drill;
use crate::row::{DrillRun, Row};
use crate::verdict::Verdict;

/// The result of one run of a drill.
pub struct DrillResult {
    pub row: &'static Row,
    pub seed: u64,
    /// The message of the panic when the drill did not run to its end.
    pub verdict: Result<Verdict, String>,
}

impl DrillResult {
    /// Whether every promise was kept and was tested, or the drill cannot run on this machine and says so.
    pub fn passed(&self) -> bool {
        self.verdict.as_ref().is_ok_and(Verdict::passed)
    }

    /// Whether this machine cannot run the drill.
    pub fn is_skipped(&self) -> bool {
        self.verdict.as_ref().is_ok_and(|verdict| verdict.skipped.is_some())
    }

    /// A few lines for the log.
    pub fn summary(&self) -> String {
        match &self.verdict {
            Ok(verdict) => format!("{}: {verdict}", self.row.name),
            Err(panic) => format!("{}: panicked: {panic}", self.row.name),
        }
    }
}

pub async fn run(row: &'static Row, seed: u64, mutant: Option<&'static str>, profile: &str) -> DrillResult {
    run_as(row, seed, mutant, profile, row.run).await
}

/// Runs a drill under the name of a row. It first prints what is needed to repeat it.
pub(crate) async fn run_as(
    row: &'static Row,
    seed: u64,
    mutant: Option<&'static str>,
    profile: &str,
    start: impl FnOnce(Drill) -> DrillRun + Send + 'static,
) -> DrillResult {
    let suffix = mutant.map(|name| format!(" MUTANT={name}")).unwrap_or_default();
    eprintln!("SEED={seed} DRILL={:?}{suffix}", row.name);
    let name = mutant.map_or_else(|| row.name.to_owned(), |mutant| format!("{} {mutant}", row.name));
    let drill = Drill { name, seed, mutant, profile: profile.to_owned() };
    // The end of the runtime ends every task that the drill started.
    let in_own_runtime = move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime can be created");
        runtime.block_on(start(drill))
    };
    let verdict = match tokio::task::spawn_blocking(in_own_runtime).await {
        Ok(verdict) => Ok(verdict),
        Err(error) if error.is_panic() => Err(panic_text(error.into_panic().as_ref())),
        Err(error) => Err(error.to_string()),
    };
    DrillResult { row, seed, verdict }
}

/// Runs drills, at most `concurrency` at a time. The results are in the order of the rows; each is printed
/// when its drill ends.
pub async fn run_all(
    rows: Vec<&'static Row>,
    seed: u64,
    concurrency: usize,
    profile: &str,
) -> Vec<DrillResult> {
    let profile: Arc<str> = profile.into();
    let runs = rows.into_iter().map(|row| {
        let profile = Arc::clone(&profile);
        async move {
            let result = run(row, seed, None, &profile).await;
            eprintln!("{}", result.summary());
            result
        }
    });
    stream::iter(runs).buffered(concurrency).collect().await
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}
