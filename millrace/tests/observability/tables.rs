//! The tables of metrics of every crate, as one list.

use millrace_telemetry::metrics::{Descriptor, Table};

/// Every metric of every program.
pub fn metrics() -> Vec<&'static Descriptor> {
    let tables: [Table; 6] = [
        ingest_api::metrics::METRICS,
        stream_worker::metrics::METRICS,
        millrace_reconcile::metrics::METRICS,
        millrace_stream::metrics::METRICS,
        millrace_store::metrics::METRICS,
        millrace_telemetry::metrics::METRICS,
    ];
    tables.into_iter().flatten().map(|metric| metric.descriptor()).collect()
}
