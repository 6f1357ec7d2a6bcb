//! The metrics of real processes: they are the ones in the table of metrics, and their values are right.

#[path = "../installation/mod.rs"]
mod installation;
mod page;
mod shown;
#[path = "../observability/tables.rs"]
mod tables;
mod traffic;
mod true_figures;
