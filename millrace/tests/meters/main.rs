//! Meters as operators and owners use them: the commands, the figures over HTTP, and OpenMeter's SDKs, on
//! both stores.

#[path = "../installation/mod.rs"]
mod installation;
#[path = "../edge/site.rs"]
#[allow(dead_code, reason = "shared with the target edge, which uses more of it")]
mod site;

mod bill;
mod cancel;
mod commands;
mod http;
mod limits;
mod openmeter;
mod subject;
