//! Runs scenarios: each subject by itself, on servers of its own, until everything it has accepted is stored and audited.

use std::time::Duration;

use crate::failure::Failure;
use crate::figures::Measurement;
use crate::figures::measure::{Title, measure};
use crate::figures::pending;
use crate::growth;
use crate::load::{Load, Pace};
use crate::report;
use crate::scenarios::{Part, Scenario};
use crate::subjects::{self, Name, Place, Subject};

/// How much is run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What.
    pub scenarios: Vec<Scenario>,
    /// By whom.
    pub subjects: Vec<Name>,
    /// Seconds that are measured in each part.
    pub window: Duration,
    /// Seconds before.
    pub warm_up: Duration,
    /// See [`crate::figures::Results::is_quick`].
    pub is_quick: bool,
    /// Rows that are there before `growth`.
    pub growth_rows: u64,
}

/// While nobody drains, little is sent: the file must not be rewritten under the scales.
const WEIGHED: Duration = Duration::from_millis(400);

/// Runs all of it, tells of each part when it is done, and has `keep` take what a subject has shown once that is audited.
///
/// # Errors
/// When a subject fails, loses an event, or counts one twice; and those of `keep`.
pub async fn all(
    plan: &Plan,
    mut keep: impl FnMut(Vec<Measurement>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for scenario in &plan.scenarios {
        for name in plan.subjects.iter().filter(|name| scenario.is_for(**name, plan.is_quick)) {
            keep(one(plan, *scenario, *name).await?)?;
        }
    }
    Ok(())
}

async fn one(plan: &Plan, scenario: Scenario, name: Name) -> Result<Vec<Measurement>, Failure> {
    let grown = match scenario {
        Scenario::Growth => Some(growth::table(plan.growth_rows).await?),
        _ => None,
    };
    let place = Place { folder: grown.as_ref().map(|grown| grown.folder.as_path()) };
    let mut subject = subjects::start(name, place).await?;
    subject.target.days_ago = grown.as_ref().map_or(0, |grown| grown.days_ago);
    let rows_before = subject.table.rows().await?;
    let parts = scenario.parts(plan.is_quick);
    let (pending, mut fresh) = match parts.first() {
        Some(part) => {
            let load = weighed(&subject, part);
            pending::weigh(&mut subject, &load).await?
        }
        None => (None, 0),
    };
    let mut measurements: Vec<Measurement> = Vec::new();
    let mut unsure = 0;
    for part in &parts {
        let load = load(plan, &subject, part, measurements.first());
        let title = Title { scenario: scenario.word(), part: part.name };
        let measured = Measurement { pending, rows_before, ..measure(&subject, title, &load).await? };
        println!("{}", report::line(&measured));
        fresh += measured.accepted - measured.repeated;
        unsure += measured.unanswered_events;
        measurements.push(measured);
    }
    let rows = subject.table.rows().await? - rows_before;
    if !(fresh..=fresh + unsure).contains(&rows) {
        let who = name.word();
        return Err(Failure::new(format!("{who} has accepted {fresh} different events and stored {rows}")));
    }
    subject.audit().await?;
    Ok(measurements)
}

fn load(plan: &Plan, subject: &Subject, part: &Part, first: Option<&Measurement>) -> Load {
    // Requests, not events: later parts send batches of the same size.
    let first_per_s = first.map_or(0.0, |first| first.stored_per_s / first.events_per_request.max(1.0));
    Load {
        target: subject.target.clone(),
        shape: part.shape.clone(),
        connections: part.connections,
        pace: part.send.pace(first_per_s),
        warm_up: plan.warm_up,
        window: plan.window,
    }
}

fn weighed(subject: &Subject, part: &Part) -> Load {
    Load {
        target: subject.target.clone(),
        shape: part.shape.clone(),
        connections: part.connections,
        pace: Pace::Closed,
        warm_up: Duration::ZERO,
        window: WEIGHED,
    }
}
