//! The metrics of the code, their page, the alerts and the dashboards agree with each other.

mod alerts;
mod dashboards;
mod page;
mod tables;
