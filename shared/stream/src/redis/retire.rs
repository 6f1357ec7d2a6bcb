//! Removes the consumers of workers that have ended.

use std::time::Duration;

use redis::Cmd;

use super::core::Core;
use super::keys::GROUP;
use super::{reply, scripts};
use crate::StreamError;

/// `EVAL` of retire.lua for the consumers of this stream that were idle this long: only for the named one, or
/// for all when the name is empty.
pub(super) fn retire_command(events: &str, idle: Duration, consumer: &str) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(scripts::RETIRE).arg(1).arg(events).arg(GROUP);
    command.arg(u64::try_from(idle.as_millis()).unwrap_or(u64::MAX)).arg(consumer);
    command
}

pub(super) async fn retire_consumers(core: &Core, shard: u16, idle: Duration) -> Result<u64, StreamError> {
    let command = retire_command(&core.keys(shard)?.events, idle, "");
    reply::unsigned(core.link(shard).ask(&command).await?)
}
