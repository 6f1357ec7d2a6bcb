//! Installs the recorder of a process for the tables of its crates.

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::descriptor::{Kind, Program};
use super::table::Table;

/// Installs the recorder of this process, for the metrics in `tables` that one of `programs` shows. `routes`
/// are the values of each label with [`super::Values::Routes`]. Call it once, before anything is recorded.
///
/// # Errors
/// When a recorder is already installed.
pub fn install(
    tables: &[Table],
    programs: &[Program],
    routes: &[&'static str],
) -> Result<PrometheusHandle, BuildError> {
    let metrics = || tables.iter().flat_map(|table| table.iter());
    let mut builder = PrometheusBuilder::new();
    for metric in metrics() {
        let descriptor = metric.descriptor();
        if let Kind::Histogram(bounds) = descriptor.kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(descriptor.name.to_owned()), bounds)?;
        }
    }
    let handle = builder.install_recorder()?;
    for metric in metrics() {
        let descriptor = metric.descriptor();
        match descriptor.kind {
            Kind::Counter => describe_counter!(descriptor.name, descriptor.help),
            Kind::Gauge => describe_gauge!(descriptor.name, descriptor.help),
            Kind::Histogram(_) => describe_histogram!(descriptor.name, descriptor.help),
        }
        metric.register(programs, routes);
    }
    super::process::record_build();
    Ok(handle)
}
