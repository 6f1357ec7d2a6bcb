//! The description of a metric: name, kind, labels with all their values, the programs that show it, and
//! help.

/// The type of a metric in Prometheus.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    Counter,
    Gauge,
    /// With the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

/// All values of a label. A value must never come from a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Values {
    /// Constants of the code.
    These(&'static [&'static str]),
    /// One value that is set at build time, and differs between builds.
    Built(&'static [&'static str]),
    /// The routes passed to [`super::install`].
    Routes,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label {
    pub name: &'static str,
    pub values: Values,
}

/// The program that shows a metric. `millrace` without a command is both programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Program {
    /// `ingest-api`
    Api,
    /// `stream-worker`
    Worker,
    Any,
}

/// The kind of installation on which a metric is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Installation {
    /// Redis and PostgreSQL.
    Servers,
    /// SQLite files in a data directory.
    Files,
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
    /// One sentence without a period, for `# HELP` and for `docs/metrics.md`.
    pub help: &'static str,
}
