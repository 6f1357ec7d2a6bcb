//! Runs the scenarios, one subject at a time. Each subject has its own servers, and is audited after its last
//! part. Repetitions of a scenario go round its subjects, so that a machine that changes its speed favors
//! none.

use std::time::{Duration, Instant};

use crate::ceilings;
use crate::error::BenchError;
use crate::growth;
use crate::load::{Load, Pacing};
use crate::measure::{Title, measure_part, measure_pending};
use crate::memory::{self, Filler};
use crate::report;
use crate::results::{CopyRates, Measurement, Results};
use crate::scenarios::{Part, Scenario};
use crate::subjects::{self, Data, Subject, SubjectName};

#[derive(Clone, Debug)]
pub struct RunOptions {
    pub scenarios: Vec<Scenario>,
    pub subjects: Vec<SubjectName>,
    /// Times that each subject is measured in each scenario.
    pub repetitions: u32,
    /// Measured time of each part.
    pub window: Duration,
    /// Time before the window.
    pub warm_up: Duration,
    /// Runs fewer parts, on fewer subjects.
    pub is_quick: bool,
    /// Rows in the table before the `growth` scenario.
    pub growth_rows: u64,
    /// Projects that these rows belong to, and that receive the events of the scenario.
    pub growth_projects: usize,
    /// Measure one COPY connection before and after each subject, to show the drift of the machine.
    pub measures_drift: bool,
    /// Fill the page cache of the machine before each subject.
    pub fills_cache: bool,
    /// When no further subject is started.
    pub until: Option<Instant>,
}

/// One scenario on one subject, once.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Step {
    pub scenario: Scenario,
    pub subject: SubjectName,
    /// From 1.
    pub repetition: u32,
}

impl Step {
    /// Whether these results have it.
    pub fn is_in(self, results: &Results) -> bool {
        let title = (self.scenario.name(), self.subject, self.repetition);
        let titles = results
            .measurements
            .iter()
            .map(|found| (found.scenario.as_str(), found.subject, found.repetition));
        titles.into_iter().any(|found| found == title)
    }
}

/// How long events are sent to measure their cost while they wait. Short, so that Redis does not rewrite its
/// append-only file in the meantime.
const PENDING_WINDOW: Duration = Duration::from_millis(400);

impl RunOptions {
    /// All steps, in the order in which they are run.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for &scenario in &self.scenarios {
            for repetition in 1..=self.repetitions {
                let subjects = self.subjects.iter().filter(|name| scenario.is_for(**name, self.is_quick));
                steps.extend(subjects.map(|&subject| Step { scenario, subject, repetition }));
            }
        }
        steps
    }
}

/// Runs these steps, and prints a line per part. The filler, if any, fills the page cache before each.
/// `keep` receives the measurements of a step after their audit. Returns how many steps were not started in
/// time.
///
/// # Errors
/// When a subject fails, loses an event or stores one twice; and those of `keep`.
pub async fn run_all(
    options: &RunOptions,
    steps: &[Step],
    filler: Option<&Filler>,
    mut keep: impl FnMut(Vec<Measurement>) -> Result<(), BenchError>,
) -> Result<usize, BenchError> {
    // One measurement of COPY is after a subject and before the next.
    let mut last_copy = None;
    for (index, step) in steps.iter().enumerate() {
        if options.until.is_some_and(|until| Instant::now() >= until) {
            return Ok(steps.len() - index);
        }
        let grown = match step.scenario {
            Scenario::Growth => {
                last_copy = None;
                Some(growth::prepare(options.growth_rows, options.growth_projects).await?)
            }
            _ => None,
        };
        let data = match &grown {
            Some(grown) => Data {
                folder: Some(&grown.folder),
                projects: options.growth_projects,
                days_ago: grown.days_ago,
                is_metered: false,
            },
            None => Data { is_metered: step.scenario == Scenario::Metered, ..Data::EMPTY },
        };
        let before = match last_copy {
            None if options.measures_drift => Some(copy(filler).await?),
            _ => last_copy,
        };
        memory::fill(filler).await?;
        let mut measurements = run_step(options, *step, &data).await?;
        last_copy = if options.measures_drift { Some(copy(filler).await?) } else { None };
        let copy = before.zip(last_copy);
        for measurement in &mut measurements {
            measurement.copy =
                copy.map(|(before, after)| CopyRates::new(before, after, measurement.stored_per_s));
        }
        keep(measurements)?;
    }
    Ok(0)
}

/// Events per second that one COPY connection writes now.
async fn copy(filler: Option<&Filler>) -> Result<f64, BenchError> {
    memory::fill(filler).await?;
    let copied = ceilings::measure_copy().await?;
    println!("{}", report::ceiling_line(&copied));
    Ok(copied.events_per_s)
}

async fn run_step(options: &RunOptions, step: Step, data: &Data<'_>) -> Result<Vec<Measurement>, BenchError> {
    let Step { scenario, subject: name, repetition } = step;
    let mut subject = subjects::start(name, data).await?;
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
        let title = Title { scenario: scenario.name(), part: part.name, repetition };
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
