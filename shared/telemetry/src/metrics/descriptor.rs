//! What describes a metric: its name, kind, labels with all their values, the programs that show it, and its help.

/// What a metric is to Prometheus.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    /// A distribution, with the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

/// The values a label can have. No value ever comes from a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Values {
    /// Exactly these.
    These(&'static [&'static str]),
    /// The one value that was compiled in.
    Built(&'static [&'static str]),
    /// The routes passed to [`super::install`].
    Routes,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label {
    pub name: &'static str,
    pub values: Values,
}

/// Which program shows a metric. `millrace` without a command is both programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    /// ingest-api.
    Api,
    /// stream-worker.
    Worker,
    /// Both.
    Any,
}

/// On which kind of installation a metric is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Installation {
    /// Redis and PostgreSQL.
    Servers,
    /// Two SQLite files in a directory.
    Files,
    /// Both.
    Either,
}

/// One row of a table of metrics.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// `millrace_<what>_<unit>`, with `_total` on counters.
    pub name: &'static str,
    pub kind: Kind,
    /// The order of the labels is the order of the values in [`super::Family::with`].
    pub labels: &'static [Label],
    pub program: Program,
    /// Counters exist on every installation and stay 0 where nothing counts.
    pub installation: Installation,
    /// For the reader of a dashboard.
    pub help: &'static str,
}
