//! What Prometheus is shown by real processes: that it is what the table of metrics says, and that it is true.

mod installation;
mod page;
mod shown;
mod true_figures;
