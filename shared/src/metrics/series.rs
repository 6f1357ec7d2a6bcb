//! What a metric is, and the handles it is recorded through: one for each series, made once.
//!
//! A metric that this process does not have, or that nobody installed, is recorded nowhere and costs one load.

use std::sync::OnceLock;

use metrics::{Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram};
use metrics::{gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::{METRICS, register_all};

/// What a metric is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution, with these upper bounds.
    Histogram(&'static [f64]),
}

/// The values a label can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Values {
    /// These and no others.
    These(&'static [&'static str]),
    /// The one that was compiled in.
    Built(&'static [&'static str]),
    /// The routes that [`install`] was told.
    Routes,
}

/// A label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// All its values.
    pub values: Values,
}

/// Which program shows a metric. `millrace` without a command is all of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Process {
    /// ingest-api.
    Api,
    /// stream-worker.
    Worker,
    /// Both.
    Any,
}

/// On which kind of installation a metric is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// Redis and PostgreSQL.
    Servers,
    /// Two files in a folder.
    Files,
    /// Both.
    Either,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// `millrace_<what>_<unit>`, with `_total` on counters.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// In this order.
    pub labels: &'static [Label],
    /// Whose it is.
    pub process: Process,
    /// Where it is shown. Counters are there everywhere, and stay 0 where they count nothing.
    pub place: Place,
    /// For the reader of a dashboard.
    pub help: &'static str,
}

/// A handle of the recorder.
pub(super) trait Handle: Sized {
    fn make(name: &'static str, labels: Vec<metrics::Label>) -> Self;
}

impl Handle for Counter {
    fn make(name: &'static str, labels: Vec<metrics::Label>) -> Self {
        counter!(name, labels)
    }
}

impl Handle for Gauge {
    fn make(name: &'static str, labels: Vec<metrics::Label>) -> Self {
        gauge!(name, labels)
    }
}

impl Handle for Histogram {
    fn make(name: &'static str, labels: Vec<metrics::Label>) -> Self {
        histogram!(name, labels)
    }
}

/// A metric with its handles.
pub(super) struct Recorded<T> {
    pub(super) metric: Metric,
    installed: OnceLock<Installed<T>>,
}

/// The handles of a metric in a process that has it.
struct Installed<T> {
    /// The values of each label.
    values: Vec<Box<[&'static str]>>,
    /// Every combination of them, the last label's values next to each other.
    series: Box<[OnceLock<T>]>,
}

impl<T: Handle> Recorded<T> {
    pub(super) const fn new(metric: Metric) -> Self {
        Self { metric, installed: OnceLock::new() }
    }

    /// Makes room for every series, if a process that is `here` has the metric, and shows what is to be seen from the
    /// beginning. Gauges are shown when they are known. By route, only failures are: there are many routes, and nobody is
    /// alarmed by a first success.
    pub(super) fn register(&self, here: &[Process], routes: &[&'static str]) {
        let Metric { process, kind, labels, .. } = self.metric;
        if process != Process::Any && !here.contains(&process) {
            return;
        }
        let values: Vec<Box<[&str]>> = labels
            .iter()
            .map(|label| match label.values {
                Values::These(values) | Values::Built(values) => values.into(),
                Values::Routes => routes.into(),
            })
            .collect();
        let count = values.iter().map(|values| values.len()).product();
        let installed = Installed { values, series: (0..count).map(|_| OnceLock::new()).collect() };
        let installed = self.installed.get_or_init(|| installed);
        let is_by_route = labels.iter().any(|label| label.values == Values::Routes);
        for at in 0..count {
            let is_failure = installed.labels_at(&self.metric, at).any(|(_, value)| value.starts_with('5'));
            if kind != Kind::Gauge && (!is_by_route || is_failure) {
                self.at(at);
            }
        }
    }

    /// The only series of a metric without labels.
    pub(super) fn only(&self) -> Option<&T> {
        self.at(0)
    }

    /// The series with these values, in the order of the labels. They are constants of ours, so one that is not in the table
    /// is a defect.
    pub(super) fn of(&self, wanted: &[&str]) -> Option<&T> {
        let values = &self.installed.get()?.values;
        let mut at = 0;
        for (values, wanted) in values.iter().zip(wanted) {
            let found = values.iter().position(|value| value == wanted);
            debug_assert!(found.is_some(), "{wanted} is no value of a label of {}", self.metric.name);
            at = at * values.len() + found?;
        }
        self.at(at)
    }

    /// The series at this place among all of them.
    pub(super) fn at(&self, at: usize) -> Option<&T> {
        let installed = self.installed.get()?;
        let make = || {
            let labels = installed.labels_at(&self.metric, at);
            T::make(self.metric.name, labels.map(|(name, value)| metrics::Label::new(name, value)).collect())
        };
        Some(installed.series.get(at)?.get_or_init(make))
    }
}

impl<T> Installed<T> {
    /// The labels of the series at this place.
    fn labels_at(&self, metric: &Metric, at: usize) -> impl Iterator<Item = (&'static str, &'static str)> {
        let mut rest = at;
        let mut labels = Vec::with_capacity(self.values.len());
        for (label, values) in metric.labels.iter().zip(&self.values).rev() {
            labels.push((label.name, values[rest % values.len()]));
            rest /= values.len();
        }
        labels.into_iter().rev()
    }
}

/// Installs the recorder of this process, which is these programs. `routes` are the values of the label of that name. Call once,
/// before anything is counted or opened.
///
/// # Errors
/// When a recorder is installed already.
pub fn install(here: &[Process], routes: &[&'static str]) -> Result<PrometheusHandle, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in METRICS {
        if let Kind::Histogram(bounds) = metric.kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), bounds)?;
        }
    }
    let handle = builder.install_recorder()?;
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.help),
            Kind::Histogram(_) => describe_histogram!(metric.name, metric.help),
        }
    }
    register_all(here, routes);
    super::facts::built();
    Ok(handle)
}
