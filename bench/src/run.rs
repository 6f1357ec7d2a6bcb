//! Runs the scenarios, one subject at a time. Each subject has its own servers, and is audited after its last
//! part.

use std::time::Duration;

use crate::error::BenchError;
use crate::growth;
use crate::load::{Load, Pacing};
use crate::measure::{Title, measure_part, measure_pending};
use crate::report;
use crate::results::Measurement;
use crate::scenarios::{Part, Scenario};
use crate::subjects::{self, Subject, SubjectName};

#[derive(Clone, Debug)]
pub struct RunOptions {
    pub scenarios: Vec<Scenario>,
    pub subjects: Vec<SubjectName>,
    /// Measured time of each part.
    pub window: Duration,
    /// Time before the window.
    pub warm_up: Duration,
    /// Runs fewer parts, on fewer subjects.
    pub is_quick: bool,
    /// Rows in the table before the `growth` scenario.
    pub growth_rows: u64,
}

/// How long events are sent to measure their cost while they wait. Short, so that Redis does not rewrite its
/// append-only file in the meantime.
const PENDING_WINDOW: Duration = Duration::from_millis(400);

/// Runs all scenarios on all subjects, and prints a line per part. `keep` receives the measurements of a
/// scenario on a subject after their audit.
///
/// # Errors
/// When a subject fails, loses an event or stores one twice; and those of `keep`.
pub async fn run_all(
    options: &RunOptions,
    mut keep: impl FnMut(Vec<Measurement>) -> Result<(), BenchError>,
) -> Result<(), BenchError> {
    for scenario in &options.scenarios {
        for name in options.subjects.iter().filter(|name| scenario.is_for(**name, options.is_quick)) {
            keep(run_scenario(options, *scenario, *name).await?)?;
        }
    }
    Ok(())
}

async fn run_scenario(
    options: &RunOptions,
    scenario: Scenario,
    name: SubjectName,
) -> Result<Vec<Measurement>, BenchError> {
    let grown = match scenario {
        Scenario::Growth => Some(growth::prepare(options.growth_rows).await?),
        _ => None,
    };
    let mut subject = subjects::start(name, grown.as_ref().map(|grown| grown.folder.as_path())).await?;
    subject.target.days_ago = grown.as_ref().map_or(0, |grown| grown.days_ago);
    let rows_before = subject.table.row_count().await?;
    let parts = scenario.parts(options.is_quick);
    let (pending, mut fresh) = match parts.first() {
        Some(part) => {
            let load = pending_load(&subject, part);
            measure_pending(&mut subject, &load).await?
        }
        None => (None, 0),
    };
    let mut measurements: Vec<Measurement> = Vec::new();
    let mut unsure = 0;
    for part in &parts {
        let load = part_load(options, &subject, part, measurements.first());
        let title = Title { scenario: scenario.name(), part: part.name };
        let measured = measure_part(&subject, title, &load).await?;
        let measured = Measurement { pending, rows_before, ..measured };
        println!("{}", report::measurement_line(&measured));
        fresh += measured.accepted - measured.repeated;
        unsure += measured.unanswered_events;
        measurements.push(measured);
    }
    let rows = subject.table.row_count().await? - rows_before;
    if !(fresh..=fresh + unsure).contains(&rows) {
        let (scenario, subject) = (scenario.name(), name.as_str());
        return Err(BenchError::new(format!(
            "{scenario}: {subject} accepted {fresh} distinct events and stored {rows} rows; its measurements are \
             discarded because events were lost or stored twice"
        )));
    }
    subject.audit().await?;
    Ok(measurements)
}

fn part_load(options: &RunOptions, subject: &Subject, part: &Part, first: Option<&Measurement>) -> Load {
    // Requests, not events: later parts send batches of the same size.
    let first_per_s = first.map_or(0.0, |first| first.stored_per_s / first.events_per_request.max(1.0));
    Load {
        target: subject.target.clone(),
        shape: part.shape.clone(),
        connections: part.connections,
        pacing: part.rate.pacing(first_per_s),
        warm_up: options.warm_up,
        window: options.window,
    }
}

fn pending_load(subject: &Subject, part: &Part) -> Load {
    Load {
        target: subject.target.clone(),
        shape: part.shape.clone(),
        connections: part.connections,
        pacing: Pacing::ClosedLoop,
        warm_up: Duration::ZERO,
        window: PENDING_WINDOW,
    }
}
