//! A metric with the handles it is recorded through: one handle for each series, made once.
//!
//! Recording on the path of a batch is one addition to an atomic and looks nothing up by name. A metric that this process does
//! not show, or that was never installed, is recorded nowhere and costs one load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, Histogram, Label, counter, gauge, histogram};

use super::descriptor::{Descriptor, Kind, Program, Values};

/// A kind of handle that the recorder hands out.
pub trait Handle: Sized + Send + Sync + 'static {
    fn make(name: &'static str, labels: Vec<Label>) -> Self;
}

impl Handle for Counter {
    fn make(name: &'static str, labels: Vec<Label>) -> Self {
        counter!(name, labels)
    }
}

impl Handle for Gauge {
    fn make(name: &'static str, labels: Vec<Label>) -> Self {
        gauge!(name, labels)
    }
}

impl Handle for Histogram {
    fn make(name: &'static str, labels: Vec<Label>) -> Self {
        histogram!(name, labels)
    }
}

/// A metric and its series. Rows of [`crate::metrics_table`] are statics of this type.
pub struct Family<T> {
    descriptor: Descriptor,
    installed: OnceLock<Installed<T>>,
    /// Of a counter, what was added to all of its series. The recorder cannot be read.
    total: AtomicU64,
}

/// The handles of a metric in a process that shows it.
struct Installed<T> {
    /// The values of each label.
    values: Vec<Box<[&'static str]>>,
    /// Every combination of the values; the values of the last label are next to each other.
    series: Box<[OnceLock<T>]>,
}

/// What a table knows of each of its metrics, whatever the kind.
pub trait Registered: Sync {
    fn descriptor(&self) -> &Descriptor;

    /// Makes room for every series, if one of `programs` shows the metric, and shows those that must be visible from
    /// the first scrape on: Prometheus does not see the first increment of a series that did not exist before. Gauges
    /// appear when they are first set. Counters by route appear at once only for 5xx, because there are many routes
    /// and no alert waits for a first success.
    fn register(&self, programs: &[Program], routes: &[&'static str]);
}

impl<T: Handle> Registered for Family<T> {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn register(&self, programs: &[Program], routes: &[&'static str]) {
        let Descriptor { program, kind, labels, .. } = self.descriptor;
        if program != Program::Any && !programs.contains(&program) {
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
        for index in 0..count {
            let is_failure =
                installed.labels_at(&self.descriptor, index).any(|(_, value)| value.starts_with('5'));
            if kind != Kind::Gauge && (!is_by_route || is_failure) {
                self.at(index);
            }
        }
    }
}

impl<T: Handle> Family<T> {
    pub const fn new(descriptor: Descriptor) -> Self {
        Self { descriptor, installed: OnceLock::new(), total: AtomicU64::new(0) }
    }

    /// The series with these values, in the order of the labels. The values are constants of the code, so one that is
    /// not in the table is a defect: a debug build panics, a release build records nothing.
    pub fn with(&self, wanted: &[&str]) -> Option<&T> {
        let values = &self.installed.get()?.values;
        let mut index = 0;
        for (values, wanted) in values.iter().zip(wanted) {
            let found = values.iter().position(|value| value == wanted);
            debug_assert!(found.is_some(), "{wanted:?} is not a label value of {}", self.descriptor.name);
            index = index * values.len() + found?;
        }
        self.at(index)
    }

    /// The series at this index among all combinations of label values.
    pub fn at(&self, index: usize) -> Option<&T> {
        let installed = self.installed.get()?;
        let make = || {
            let labels = installed.labels_at(&self.descriptor, index);
            T::make(self.descriptor.name, labels.map(|(name, value)| Label::new(name, value)).collect())
        };
        Some(installed.series.get(index)?.get_or_init(make))
    }
}

/// Metrics without labels, and [`Family::with`] for those that have some.
impl Family<Counter> {
    pub fn increment(&self, by: u64) {
        self.increment_with(&[], by);
    }

    pub fn increment_with(&self, values: &[&str], by: u64) {
        if let Some(counter) = self.with(values) {
            counter.increment(by);
            self.total.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// What this process has added to all series; values that were set with [`Family::set_total`] do not count.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Sets the counter to a value that is counted elsewhere. It never decreases.
    pub fn set_total(&self, values: &[&str], total: u64) {
        if let Some(counter) = self.with(values) {
            counter.absolute(total);
        }
    }
}

impl Family<Gauge> {
    pub fn set(&self, to: f64) {
        self.set_with(&[], to);
    }

    pub fn set_with(&self, values: &[&str], to: f64) {
        if let Some(gauge) = self.with(values) {
            gauge.set(to);
        }
    }

    /// Adds `by`, which may be negative.
    pub fn add(&self, by: f64) {
        if let Some(gauge) = self.with(&[]) {
            gauge.increment(by);
        }
    }

    /// Sets the gauge to the current time, in seconds since 1970.
    pub fn set_to_now(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.set(now.as_secs_f64());
    }
}

impl Family<Histogram> {
    pub fn record(&self, value: f64) {
        self.record_with(&[], value);
    }

    pub fn record_with(&self, values: &[&str], value: f64) {
        if let Some(histogram) = self.with(values) {
            histogram.record(value);
        }
    }
}

impl<T> Installed<T> {
    /// Name and value of each label of the series at this index.
    fn labels_at(
        &self,
        descriptor: &Descriptor,
        index: usize,
    ) -> impl Iterator<Item = (&'static str, &'static str)> {
        let mut rest = index;
        let mut labels = Vec::with_capacity(self.values.len());
        for (label, values) in descriptor.labels.iter().zip(&self.values).rev() {
            labels.push((label.name, values[rest % values.len()]));
            rest /= values.len();
        }
        labels.into_iter().rev()
    }
}
