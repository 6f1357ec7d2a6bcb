//! Holds drills, a few at a time, each from its own seed.

use std::sync::Arc;

use futures_util::{StreamExt, stream};

use crate::matrix::{Holding, Row};
use crate::system::Drill;
use crate::verdict::Verdict;

/// What became of a drill.
pub struct Held {
    /// Which.
    pub row: &'static Row,
    /// From what.
    pub seed: u64,
    /// What it found; what the panic said when it could not be held to the end.
    pub verdict: Result<Verdict, String>,
}

impl Held {
    /// Whether every promise was kept, and put to the test, or the drill said why it could not be held.
    pub fn holds(&self) -> bool {
        self.verdict.as_ref().is_ok_and(Verdict::holds)
    }

    /// What it found, in words.
    pub fn told(&self) -> String {
        match &self.verdict {
            Ok(verdict) => format!("{}: {verdict}", self.row.name),
            Err(panic) => format!("{}: could not be held to the end: {panic}", self.row.name),
        }
    }
}

/// Holds one drill.
pub async fn hold(row: &'static Row, seed: u64, mutant: Option<&str>, profile: &str) -> Held {
    observe(row, seed, mutant, profile, row.hold).await
}

/// Holds one drill in the way given. What it prints first is enough to repeat it.
pub(crate) async fn observe(
    row: &'static Row,
    seed: u64,
    mutant: Option<&str>,
    profile: &str,
    hold: impl FnOnce(Drill) -> Holding + Send + 'static,
) -> Held {
    let shown = mutant.map(|name| format!(" MUTANT={name}")).unwrap_or_default();
    eprintln!("SEED={seed} DRILL={:?}{shown}", row.name);
    let drill = Drill {
        name: mutant.map_or_else(|| row.name.to_owned(), |mutant| format!("{} {mutant}", row.name)),
        seed,
        mutant: mutant.map(str::to_owned),
        profile: profile.to_owned(),
    };
    // On a runtime of its own, which takes everything that the drill started with it when it ends.
    let on_its_own = move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
        runtime.block_on(hold(drill))
    };
    let verdict = match tokio::task::spawn_blocking(on_its_own).await {
        Ok(verdict) => Ok(verdict),
        Err(error) if error.is_panic() => Err(panic_text(error.into_panic().as_ref())),
        Err(error) => Err(error.to_string()),
    };
    Held { row, seed, verdict }
}

/// Holds many, `at_once` of them at a time, in order, and tells of each as it ends.
pub async fn hold_all(rows: Vec<&'static Row>, seed: u64, at_once: usize, profile: &str) -> Vec<Held> {
    let profile: Arc<str> = profile.into();
    let holdings = rows.into_iter().map(|row| {
        let profile = Arc::clone(&profile);
        async move {
            let held = hold(row, seed, None, &profile).await;
            eprintln!("{}", held.told());
            held
        }
    });
    stream::iter(holdings).buffered(at_once).collect().await
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}
