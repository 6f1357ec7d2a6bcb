//! Every fault of clients that the documentation names, posted to a whole installation: what was accepted is
//! stored with the documented values or is a dead letter with its text, on files and on servers.

#[path = "../installation/mod.rs"]
mod installation;

mod dead;
mod documentation;
mod native;
mod repaired;
mod reports;
#[allow(dead_code, reason = "the targets for SDKs use more of it")]
mod site;
mod times;
mod ways;
