//! The Lua scripts, with the flags that they declare.
//!
//! Redis refuses a script that declares no flags (`#!lua`) before its first command when it is full, is
//! read-only or cannot persist. `allow-oom` lets a full server run the scripts that drain it.

use redis::Cmd;

const ADMIT: &str = concat!(
    "#!lua",
    include_str!("clock.lua"),
    include_str!("limit_clock.lua"),
    include_str!("group_markers.lua"),
    include_str!("admit.lua")
);
const LIMIT_STATE: &str =
    concat!("#!lua flags=no-writes", include_str!("clock.lua"), include_str!("limit_state.lua"));
const LIMITS_USED: &str = concat!(
    "#!lua flags=no-writes",
    include_str!("clock.lua"),
    include_str!("limit_clock.lua"),
    include_str!("limits_used.lua")
);
const SETTLE: &str = concat!(
    "#!lua flags=allow-oom",
    include_str!("clock.lua"),
    include_str!("limit_clock.lua"),
    include_str!("group_markers.lua"),
    include_str!("settle.lua")
);
const WRITABLE: &str = concat!("#!lua", include_str!("writable.lua"));
/// With `allow-oom`, because draining a full server may require counting the attempts at suspects.
const NOTE_ATTEMPT: &str = "#!lua flags=allow-oom\nreturn redis.call('HINCRBY', KEYS[1], ARGV[1], 1)";

// Rare calls: sent as text with EVAL.
pub(super) const BACKLOG: &str =
    concat!("#!lua flags=no-writes", include_str!("clock.lua"), include_str!("backlog.lua"));
pub(super) const COUNTERS: &str = concat!("#!lua flags=no-writes", include_str!("counters.lua"));
pub(super) const POSITION: &str = concat!("#!lua flags=no-writes", include_str!("position.lua"));
pub(super) const PENDING: &str = include_str!("pending.lua");
pub(super) const PENDING_CHARGES: &str = include_str!("pending_charges.lua");
pub(super) const RESTORE_LIMITS: &str = include_str!("restore_limits.lua");
pub(super) const RETIRE: &str = include_str!("retire.lua");
pub(super) const REBUILD: &str = concat!(
    "#!lua flags=allow-oom",
    include_str!("clock.lua"),
    include_str!("group_markers.lua"),
    include_str!("rebuild.lua")
);
pub(super) const FENCE: &str = "#!lua flags=allow-oom\nreturn redis.call('SET', KEYS[1], ARGV[1])";

/// The scripts of the hot path.
pub(super) struct Scripts {
    pub(super) admit: Script,
    pub(super) limit_state: Script,
    pub(super) limits_used: Script,
    pub(super) settle: Script,
    pub(super) note_attempt: Script,
    pub(super) writable: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            admit: Script::new(ADMIT),
            limit_state: Script::new(LIMIT_STATE),
            limits_used: Script::new(LIMITS_USED),
            settle: Script::new(SETTLE),
            note_attempt: Script::new(NOTE_ATTEMPT),
            writable: Script::new(WRITABLE),
        }
    }
}

/// A script that is called by its hash.
pub(super) struct Script {
    pub(super) code: String,
    hash: String,
}

impl Script {
    fn new(code: &str) -> Self {
        Self { code: code.to_owned(), hash: redis::Script::new(code).get_hash().to_owned() }
    }

    /// `EVALSHA hash keys`. The caller appends the keys and the arguments.
    pub(super) fn call(&self, keys: usize) -> Cmd {
        let mut command = redis::cmd("EVALSHA");
        command.arg(&self.hash).arg(keys);
        command
    }
}
