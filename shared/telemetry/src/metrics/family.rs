//! A metric with the handles through which it is recorded: one handle per series, created once.
//!
//! Recording is an addition to atomics and never looks up a metric by name. A metric that this process does
//! not show, or that was never installed, is not recorded; the attempt costs one load.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Gauge, Histogram, Label, counter, gauge, histogram};

use super::counter::Counter;
use super::descriptor::{Descriptor, Kind, Program, Values};

/// A handle of the recorder.
pub trait Handle: Sized + Send + Sync + 'static {
    fn make(name: &'static str, labels: Vec<Label>) -> Self;
}

impl Handle for Counter {
    fn make(name: &'static str, labels: Vec<Label>) -> Self {
        Self::new(counter!(name, labels))
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
    series: OnceLock<Series<T>>,
}

/// The handles of a metric in a process that shows it.
struct Series<T> {
    /// The values of each label.
    values: Vec<Box<[&'static str]>>,
    /// One handle for each combination of values, with the last label varying fastest.
    handles: Box<[OnceLock<T>]>,
}

/// A row of a table, for any type of metric.
pub trait Metric: Sync {
    fn descriptor(&self) -> &Descriptor;

    /// Reserves the handles of every series, if one of `programs` shows the metric, and shows the series that
    /// must be visible from the first scrape: Prometheus does not count the first increment of a series that
    /// did not exist before. These are all counters and histograms, except those by route, of which only 5xx
    /// statuses are shown: there are many routes, and alerts watch only failures. Gauges become visible when
    /// they are first set.
    fn register(&self, programs: &[Program], routes: &[&'static str]);
}

impl<T: Handle> Metric for Family<T> {
    fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    fn register(&self, programs: &[Program], routes: &[&'static str]) {
        let Descriptor { program, labels, .. } = self.descriptor;
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
        let reserved = Series { values, handles: (0..count).map(|_| OnceLock::new()).collect() };
        let series = self.series.get_or_init(|| reserved);
        for index in 0..count {
            if is_visible_at_start(&self.descriptor, &series.labels_at(&self.descriptor, index)) {
                self.at(index);
            }
        }
    }
}

/// Whether the series with these labels is shown before anything is recorded. See [`Metric::register`].
fn is_visible_at_start(descriptor: &Descriptor, labels: &[(&'static str, &'static str)]) -> bool {
    let is_by_route = descriptor.labels.iter().any(|label| label.values == Values::Routes);
    let is_failure = labels.iter().any(|(name, value)| *name == "status" && value.starts_with('5'));
    descriptor.kind != Kind::Gauge && (!is_by_route || is_failure)
}

impl<T: Handle> Family<T> {
    pub const fn new(descriptor: Descriptor) -> Self {
        Self { descriptor, series: OnceLock::new() }
    }

    /// The series with these label values, in the order of the labels; `None` if this process does not show
    /// the metric.
    ///
    /// # Panics
    /// In a debug build, when a value is not in the table or one is missing. A release build returns `None`
    /// then.
    pub fn with(&self, wanted: &[&str]) -> Option<&T> {
        let values = &self.series.get()?.values;
        debug_assert_eq!(wanted.len(), values.len(), "label values of {}", self.descriptor.name);
        let mut index = 0;
        for (position, values) in values.iter().enumerate() {
            let found = values.iter().position(|value| Some(value) == wanted.get(position));
            debug_assert!(found.is_some(), "{wanted:?} is not a label value of {}", self.descriptor.name);
            index = index * values.len() + found?;
        }
        self.at(index)
    }

    /// The series at this index among all combinations of label values, with the last label varying fastest.
    pub fn at(&self, index: usize) -> Option<&T> {
        let series = self.series.get()?;
        let make = || {
            let labels = series.labels_at(&self.descriptor, index).into_iter();
            T::make(self.descriptor.name, labels.map(|(name, value)| Label::new(name, value)).collect())
        };
        Some(series.handles.get(index)?.get_or_init(make))
    }
}

impl Family<Counter> {
    /// For a metric without labels.
    pub fn increment(&self, by: u64) {
        self.increment_with(&[], by);
    }

    pub fn increment_with(&self, values: &[&str], by: u64) {
        if let Some(counter) = self.with(values) {
            counter.increment(by);
        }
    }

    /// Sets the counter to a total that is counted elsewhere. It never decreases.
    pub fn set_total(&self, values: &[&str], total: u64) {
        if let Some(counter) = self.with(values) {
            counter.raise_to(total);
        }
    }

    /// The sum of all series, as counted by this process.
    pub fn total(&self) -> u64 {
        let handles = self.series.get().map_or(&[][..], |series| &series.handles);
        handles.iter().filter_map(OnceLock::get).map(Counter::total).sum()
    }
}

impl Family<Gauge> {
    /// For a metric without labels.
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
    /// For a metric without labels.
    pub fn record(&self, value: f64) {
        self.record_with(&[], value);
    }

    pub fn record_with(&self, values: &[&str], value: f64) {
        if let Some(histogram) = self.with(values) {
            histogram.record(value);
        }
    }
}

impl<T> Series<T> {
    /// Name and value of each label of the series at this index.
    fn labels_at(&self, descriptor: &Descriptor, index: usize) -> Vec<(&'static str, &'static str)> {
        let mut rest = index;
        let mut labels: Vec<_> = descriptor
            .labels
            .iter()
            .zip(&self.values)
            .rev()
            .map(|(label, values)| {
                let value = values[rest % values.len()];
                rest /= values.len();
                (label.name, value)
            })
            .collect();
        labels.reverse();
        labels
    }
}
