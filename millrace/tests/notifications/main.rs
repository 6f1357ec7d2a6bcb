//! Notifications as operators and endpoints see them: the commands, what is sent, and what is not.

#[path = "../installation/mod.rs"]
mod installation;

mod commands;
mod delivery;
mod endpoint;
mod site;
mod tls;
