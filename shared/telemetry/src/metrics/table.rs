//! The macro that declares a table of metrics, and the buckets of histograms.

use super::family::Metric;

/// The metrics of one crate, in the order of their declaration.
pub type Table = &'static [&'static dyn Metric];

/// Buckets of the kind `latency`: the duration of a step of a request or a transaction, in seconds.
pub const LATENCY_S: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
/// Buckets of the kind `age`: from admission to commit, in seconds.
pub const AGE_S: &[f64] = &[0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0];
/// Buckets of the kind `sizes`: numbers of events.
pub const SIZES: &[f64] =
    &[1.0, 10.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0];

/// Declares the metrics of a crate: a static [`crate::metrics::Family`] for each row, and `METRICS`, the
/// [`crate::metrics::Table`] of all rows.
///
/// A row is `NAME: kind "metric_name" { label: Values::…, … } "help"`, in a block for the program and the
/// kind of installation that show it. The kinds are `counter`, `gauge`, `latency`, `age` and `sizes`.
#[macro_export]
macro_rules! metrics_table {
    ($($program:ident on $installation:ident {
        $($id:ident: $kind:ident $name:literal { $($label:ident: $values:expr),* } $help:literal)*
    })*) => {
        $($(pub static $id: $crate::metrics_table!(@family $kind) =
            $crate::metrics::Family::new($crate::metrics::Descriptor {
                name: $name,
                kind: $crate::metrics_table!(@kind $kind),
                labels: &[$($crate::metrics::Label { name: stringify!($label), values: $values }),*],
                program: $crate::metrics::Program::$program,
                installation: $crate::metrics::Installation::$installation,
                help: $help,
            });)*)*

        /// The metrics that this crate records.
        pub static METRICS: $crate::metrics::Table = &[$($(&$id),*),*];
    };
    (@family counter) => { $crate::metrics::Family<$crate::metrics::Counter> };
    (@family gauge) => { $crate::metrics::Family<$crate::metrics::Gauge> };
    (@family $histogram:ident) => { $crate::metrics::Family<$crate::metrics::Histogram> };
    (@kind counter) => { $crate::metrics::Kind::Counter };
    (@kind gauge) => { $crate::metrics::Kind::Gauge };
    (@kind latency) => { $crate::metrics::Kind::Histogram($crate::metrics::LATENCY_S) };
    (@kind age) => { $crate::metrics::Kind::Histogram($crate::metrics::AGE_S) };
    (@kind sizes) => { $crate::metrics::Kind::Histogram($crate::metrics::SIZES) };
}
