//! What a store knows of its servers: the timeline of its history, and the standbys that follow it.
//!
//! Pure. A failover begins a new timeline. A place in the log of one timeline means nothing on another.

/// The server of a store, as it was seen at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ServerState {
    /// The timeline of the server. `None` when it does not say, as some managed services do not.
    pub timeline: Option<u32>,
    /// The timeline that is recorded in the database; see [`crate::Ledger::record_timeline`].
    pub recorded: Option<u32>,
    /// `None` when the role of this connection may not see them.
    pub standbys: Option<Standbys>,
    /// A commit waits for standbys: `synchronous_standby_names` is not empty.
    pub waits_for_standbys: bool,
}

/// The standbys that receive the log of the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Standbys {
    pub connected: u32,
    /// Of these, the ones that a commit may wait for.
    pub synchronous: u32,
}

/// How far the server of a writer and its standbys are, in bytes of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplicationProgress {
    pub timeline: u32,
    /// Everything that was committed before the question is below this place.
    pub committed: u64,
    /// As many standbys as were asked for have the log up to this place on disk; 0 when there are fewer.
    pub replicated: u64,
}
