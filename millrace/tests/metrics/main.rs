//! What Prometheus is shown by real processes: that it is what the table of metrics says, and that it is true.

mod installation;
mod page;
mod shown;
#[path = "../observability/tables.rs"]
mod tables;
mod true_figures;
